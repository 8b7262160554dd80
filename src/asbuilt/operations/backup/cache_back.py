"""Restores the cache: its dump as a file, or in the place of what is there.

In place: a backup of the present is taken first, the nodes are stopped, the one that led gets the dump, the
others nothing, so that they copy from it. Invariant: what is replaced stays beside it as
`data.before-restore`; killed anywhere, it is simply done again.
"""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from asbuilt.engines.redis.admin import find_primary
from asbuilt.engines.redis.dump import check_dump, lay_out
from asbuilt.graph.model import Kind
from asbuilt.operations.backup.bring_back import claim_target
from asbuilt.operations.backup.cache import fetch_dump, take_cache
from asbuilt.operations.backup.context import Backups, hold
from asbuilt.operations.backup.notes import running
from asbuilt.operations.backup.putting import Brought
from asbuilt.operations.backup.restore import check_room, find_client, waiting
from asbuilt.operations.progress import Event, told
from asbuilt.operations.session import open_session
from asbuilt.plan.copies import DUMP
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.operations.session import Session
    from asbuilt.plan.copies import Copy
    from asbuilt.targets.local.client import AgentClient

_SUBJECT: Final = "restore"
_ASIDE: Final = "data.before-restore"
_NEW: Final = "data.restored"


def bring_dump(backups: Backups, copy: Copy, folder: Path) -> Brought:
    """Put the dump into a folder. Raises RefusedError RESTORE-032 or -038."""
    began = time.monotonic()
    target = claim_target(folder, DUMP)
    check_room(backups, copy.clear_size, folder)
    with hold(backups, "restoring the cache"), running(backups, "restore") as said:
        with told(backups.tell, _SUBJECT, f"fetch the dump of backup {copy.id}"):
            fetch_dump(backups, copy, target)
        said.update(part=copy.part, id=copy.id)
    return Brought(copy, str(target), copy.count, copy.clear_size, seconds=time.monotonic() - began)


def bring_cache_in_place(backups: Backups, copy: Copy) -> Brought:
    """Give the cache the content of a dump."""
    began = time.monotonic()
    check_room(backups, copy.clear_size)
    point = _keep_present(backups)
    site = backups.prepared.site
    nodes = [node.id for node in backups.prepared.architecture.of(Kind.CACHE)]
    primary = find_primary(backups.prepared.architecture, site) or nodes[0]
    others = [node for node in nodes if node != primary]
    with hold(backups, "restoring the cache"), running(backups, "restore") as said:
        new = _prepare(backups, copy, site.node_dir(primary))
        with (
            open_session(backups.stage, "restore", backups.tell) as session,
            session.operation({"cache": copy.id, "point": point}),
        ):
            client = find_client(backups.stage, session)
            # where they are all that is left of the present, no later restore may delete them
            aside = _ASIDE if point else f"{_ASIDE}.{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
            _exchange(backups, session, client, [primary, *others], new=new, aside=aside)
        said.update(part=copy.part, id=copy.id, point=point)
    return Brought(copy, primary, copy.count, copy.clear_size, point=point, seconds=time.monotonic() - began)


def _keep_present(backups: Backups) -> str:
    """A backup of now, where a node answers; its id, or nothing."""
    try:
        return take_cache(backups, "before-restore").id
    except AsbuiltError as error:
        if error.code != "CACHE-004":
            raise
        words = "no node of the cache answers: the present is kept only as its data directories"
        backups.tell(Event("note", "", words))
        return ""


def _prepare(backups: Backups, copy: Copy, folder: Path) -> Path:
    """The data directory that the first node starts with, checked, beside the one of now."""
    new = folder / _NEW
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    dump = folder / DUMP
    prepared = backups.prepared
    with told(backups.tell, _SUBJECT, f"fetch and check the dump of backup {copy.id}"):
        fetch_dump(backups, copy, dump)
        _give(backups, dump)
        check_dump(prepared.site, prepared.runner, dump)
        lay_out(dump, new)
        _give(backups, new)
    return new


def _give(backups: Backups, path: Path) -> None:
    identity = backups.prepared.runner.identity
    if identity.uid != os.geteuid():
        for one in (path, *path.rglob("*")):
            os.chown(one, identity.uid, identity.gid, follow_symlinks=False)


def _exchange(
    backups: Backups, session: Session, client: AgentClient, order: list[str], *, new: Path, aside: str
) -> None:
    """`order`: the nodes, the one that leads first. Their data directories are called `aside` then."""
    site, workloads = backups.prepared.site, backups.prepared.desired.workloads
    sentinels = [f"{node}.sentinel" for node in order if f"{node}.sentinel" in workloads]
    # the one that leads is the last to stop and the first to start: nobody else may think that it should
    with told(backups.tell, _SUBJECT, "stop the cache"):
        for one in (*sentinels, *reversed(order)):
            client.stop(one, session.epoch)
    with told(backups.tell, _SUBJECT, "exchange the data"):
        for node in reversed(order):
            data = site.node_dir(node) / "data"
            if data.exists():
                shutil.rmtree(data.with_name(aside), ignore_errors=True)
                data.rename(data.with_name(aside))
        new.rename(site.node_dir(order[0]) / "data")
    with told(backups.tell, _SUBJECT, "start the cache"):
        for one in (*order, *sentinels):
            client.start(workloads[one], session.epoch)
        for one in (*order, *sentinels):
            client.wait_ready(one, workloads[one].ready.start_timeout, waiting(backups))
