"""A restore in the place of the database: everything after the target is taken back.

The order: recover beside (the database still serves), keep the present as a restore point, stop the members,
exchange the data, let the consensus store forget who led, start. Invariants: the present data stays as
`data.before-restore` until the owner deletes it; each phase is on record before it begins and can be begun
again; while one is not finished, `up` and `deploy` refuse.
"""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Final

from asbuilt.engines.etcd.admin import open_store
from asbuilt.engines.etcd.config import find_node
from asbuilt.engines.postgresql.cluster import Registration
from asbuilt.engines.postgresql.config import PREFIX
from asbuilt.engines.postgresql.engine import PROTECTED, READY
from asbuilt.engines.postgresql.seed import Seed
from asbuilt.graph.model import Kind
from asbuilt.operations.backup.archive import read_archive
from asbuilt.operations.backup.base import take_base
from asbuilt.operations.backup.context import Backups, fail, hold
from asbuilt.operations.backup.lineage import find_system
from asbuilt.operations.backup.receiver import set_aside
from asbuilt.operations.backup.restore import Restored, check_room, find_client, waiting
from asbuilt.operations.backup.sidecar import SUBJECT, SideCar
from asbuilt.operations.progress import Event, told
from asbuilt.operations.reading import IN_PLACE, read_facts
from asbuilt.operations.session import open_session
from asbuilt.values.errors import AsbuiltError, RefusedError

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.operations.session import Session
    from asbuilt.plan.choice import Choice
    from asbuilt.targets.local.client import AgentClient

RECOVERED, EXCHANGED = "recovered", "exchanged"
_ASIDE: Final = "data.before-restore"
_WITHIN: Final = 120.0


def restore_in_place(backups: Backups, choice: Choice) -> Restored:
    """Do it, from the recovery to a database that takes writes and is backed up."""
    began = time.monotonic()
    root = backups.stage.root
    if read_facts(backups.stage, None).get(IN_PLACE):
        raise RefusedError(
            "RESTORE-030",
            "a restore is replacing the database and is not finished",
            hint=f"asbuilt restore {backups.stage.environment} --in-place --resume goes on with it",
        )
    check_room(backups, choice.backup.clear_size)
    point = _keep_present(backups)
    sidecar = SideCar(backups, root / "in-place", backups.prepared.site.addresses["backup-1"])
    with hold(backups, "restoring in place"):
        sidecar.fetch(choice.backup)
        end = sidecar.replay(choice, read_archive(backups))
        fact = {
            "phase": RECOVERED,
            "target": str(choice.target),
            "end": str(end),
            "last": sidecar.last_commit,
            "backup": choice.backup.id,
            "point": point,
        }
        finish(backups, fact)
    seconds = time.monotonic() - began
    return Restored(
        str(choice.target), choice.backup.id, str(end), sidecar.last_commit, seconds, sidecar.legs
    )


def resume(backups: Backups) -> Restored:
    """Go on with one that was interrupted. Raises RefusedError RESTORE-034 when there is none."""
    text = read_facts(backups.stage, None).get(IN_PLACE)
    if not text:
        raise RefusedError(
            "RESTORE-034", "no restore is under way", hint="asbuilt restore --to ... begins one"
        )
    began = time.monotonic()
    fact: dict[str, str] = json.loads(text)
    with hold(backups, "restoring in place"):
        finish(backups, fact)
    return Restored(fact["target"], fact["backup"], fact["end"], fact["last"], time.monotonic() - began, {})


def finish(backups: Backups, fact: dict[str, str]) -> None:
    """From the recovered copy to the running database. Each phase may be done again."""
    with open_session(backups.stage, "restore", backups.tell) as session, session.operation(fact):
        client = find_client(backups.stage, session)
        _remember(session, fact)
        if fact["phase"] == RECOVERED:
            _stop_members(backups, session, client)
            _exchange(backups)
            fact = {**fact, "phase": EXCHANGED}
            _remember(session, fact)
        _start_members(backups, session, client)
        session.journal.remember_facts({IN_PLACE: ""})
        shutil.rmtree(backups.stage.root / "in-place", ignore_errors=True)


def _remember(session: Session, fact: dict[str, str]) -> None:
    session.journal.remember_facts({IN_PLACE: json.dumps(fact)})


def _keep_present(backups: Backups) -> str:
    """A backup of now, where there is a primary to take one from; its id, or nothing."""
    if backups.admin.leader() is None:
        backups.tell(
            Event("note", "", "there is no primary: the present is kept only as its data directories")
        )
        return ""
    if find_system(backups.settings) != backups.system:
        backups.tell(
            Event("note", "", "the database of now is another one: it is kept as its data directories")
        )
        return ""
    with told(backups.tell, SUBJECT, "take a backup of the present first"):
        return take_base(backups, label="before-restore").id


def _members(backups: Backups) -> tuple[str, ...]:
    return tuple(node.id for node in backups.prepared.architecture.of(Kind.DATABASE))


def _data(backups: Backups, node: str) -> Path:
    return backups.prepared.site.node_dir(node) / "data"


def _stop_members(backups: Backups, session: Session, client: AgentClient) -> None:
    members = _members(backups)
    leader = backups.admin.leader()
    with told(backups.tell, SUBJECT, "stop the database"):
        # the replicas first: none of them may take the lead while the primary stops
        for node in (*sorted(members, key=lambda one: one == leader), "backup-1"):
            client.stop(node, session.epoch)


def _exchange(backups: Backups) -> None:
    """The recovered data for the first member; the others are cloned from it."""
    first, *others = _members(backups)
    recovered = backups.stage.root / "in-place" / "data"
    with told(backups.tell, SUBJECT, "exchange the data"):
        for node in (first, *others):
            data, aside = _data(backups, node), _data(backups, node).with_name(_ASIDE)
            if node == first and not recovered.exists():
                continue  # done before we were interrupted
            if data.exists():
                shutil.rmtree(aside, ignore_errors=True)
                data.rename(aside)
        # the log that was received is of the timeline that is left here
        set_aside(backups.settings.spool)
        if recovered.exists():
            for name in ("postgresql.auto.conf", "recovery.signal", "standby.signal"):
                (recovered / name).unlink(missing_ok=True)
            recovered.rename(_data(backups, first))


def _start_members(backups: Backups, session: Session, client: AgentClient) -> None:
    prepared = backups.prepared
    architecture, site, database = prepared.architecture, prepared.site, prepared.architecture.spec.database
    consensus = find_node(architecture)
    members = _members(backups)
    if consensus is not None and database is not None and len(members) > 1:
        store = open_store(site, consensus.id)
        seed = Seed(site, members, database.max_connections, prepared.runner)
        with told(backups.tell, SUBJECT, "tell the consensus store about the restored database"):
            store.forget(PREFIX)
            Registration(database, site, seed, store, prepared.runner).run()
    with told(backups.tell, SUBJECT, "start the database"):
        for node in members:
            client.start(prepared.desired.workloads[node], session.epoch)
        _wait(backups)
    # the log that is received now is of another timeline: it begins with a new backup
    client.start(prepared.desired.workloads["backup-1"], session.epoch)


def _wait(backups: Backups) -> None:
    tell = waiting(backups)
    deadline = time.monotonic() + _WITHIN
    for name in (READY, PROTECTED):
        setup = backups.prepared.desired.setups.get(name)
        if setup is None:
            continue
        while True:
            try:
                setup.run()
                break
            except AsbuiltError:
                if time.monotonic() > deadline:
                    raise
                tell(setup.title)
    if backups.admin.leader() is None:
        raise fail("RESTORE-035", "the restored database has no primary", hint="asbuilt logs --node db-1")
