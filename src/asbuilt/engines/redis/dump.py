"""A dump of the cache: taken from a replica where there is one, checked by the engine's own tool, put back.

The engine writes the dump itself (BGSAVE): a connection that only asks for one would look like a replica to
the sentinels. Invariants: the primary forks only when no replica is in step; what is checked is what is read.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asbuilt.engines.redis.config import describe_members
from asbuilt.engines.redis.members import Members, parse_members
from asbuilt.engines.redis.resp import Client, ReplyError
from asbuilt.exec.runner import Command
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from asbuilt.exec.runner import Runner
    from asbuilt.graph.model import Architecture
    from asbuilt.plan.site import Site

_CHECKER: Final = "redis-check-rdb"
_KEYS: Final = re.compile(r"(\d+) keys read")
_LOOK: Final = 0.1
_PATIENCE: Final = 60.0
"""Seconds for an answer: to fork, a large server needs some in which it does nothing else."""
_HANG: Final = 600.0
"""Seconds without progress after which a dump will not come."""
_APPEND: Final = "appendonlydir"
_BASE: Final = "appendonly.aof.1.base.rdb"
_MANIFEST: Final = f"file {_BASE} seq 1 type b\n"


@dataclass(frozen=True, slots=True)
class Dump:
    """A dump on the disk of this machine. `node`: who made it."""

    path: Path
    node: str


def choose_source(said: Mapping[str, Mapping[str, str]]) -> str | None:
    """Who makes the dump: the replica in step that has most, else the primary; None when nobody can.

    `said`: INFO replication of every node that answers.
    """
    in_step = [
        (int(info.get("slave_repl_offset") or 0), node)
        for node, info in said.items()
        if info.get("role") == "slave" and info.get("master_link_status") == "up"
    ]
    if in_step:
        return max(in_step)[1]
    return next((node for node, info in sorted(said.items()) if info.get("role") == "master"), None)


def make_dump(
    architecture: Architecture, site: Site, to: Path, waiting: Callable[[str], None] = lambda _: None
) -> Dump:
    """Have a dump made of what is in the cache now, as a file of our own at `to`.

    Raises AsbuiltError CACHE-004: nobody answers; CACHE-005: the dump failed.
    """
    members = parse_members(describe_members(architecture, site))
    said = {name: info for name in members.members if (info := _ask(members, name))}
    node = choose_source(said)
    if node is None:
        raise AsbuiltError(
            "CACHE-004",
            "no node of the cache answers",
            hint="asbuilt status shows what runs; asbuilt up starts it",
        )
    try:
        one = members.members[node]
        with Client(one.host, one.port, members.password, members.user, _PATIENCE) as client:
            _save(client, node, waiting)
            folder, name = (_get(client, one) for one in ("dir", "dbfilename"))
            to.unlink(missing_ok=True)
            os.link(Path(folder) / name, to)  # a later dump takes the name, not the file
    except (OSError, ReplyError) as error:
        raise _failed(node, str(error)) from None
    return Dump(to, node)


def _ask(members: Members, name: str) -> dict[str, str]:
    try:
        with members.server(name) as client:
            return client.info("replication")
    except (OSError, ReplyError):
        return {}


def _get(client: Client, name: str) -> str:
    said = client.ask("CONFIG", "GET", name)
    if not isinstance(said, list) or len(said) != 2:  # noqa: PLR2004 - a name and its value
        raise ReplyError(f"no setting {name}")
    return str(said[1])


def _save(client: Client, node: str, waiting: Callable[[str], None]) -> None:
    """Begin a dump after whatever is being written now, and wait for its end."""
    _await_idle(client, waiting)
    before = int(client.info("persistence").get("rdb_saves", "0"))
    client.ask("BGSAVE")
    _await_idle(client, waiting)
    after = client.info("persistence")
    if after.get("rdb_last_bgsave_status") != "ok" or int(after.get("rdb_saves", "1")) <= before:
        raise _failed(node, "the engine says that its dump failed: a full disk or memory is the usual reason")


def _await_idle(client: Client, waiting: Callable[[str], None]) -> None:
    moved, seen = time.monotonic(), ""
    while True:
        said = client.info("persistence")
        busy = [said.get(f"{kind}_in_progress", "0") != "0" for kind in ("rdb_bgsave", "aof_rewrite")]
        if not any(busy) and said.get("aof_rewrite_scheduled", "0") == "0" and said.get("loading") == "0":
            return
        done = said.get("current_save_keys_processed", "0")
        if done != seen:
            moved, seen = time.monotonic(), done
        if time.monotonic() - moved > _HANG:
            raise ReplyError(f"it has been writing for {_HANG:g} s without getting on")
        waiting(f"{done} of {said.get('current_save_keys_total', '?')} keys of the cache")
        time.sleep(_LOOK)


def check_dump(site: Site, runner: Runner, dump: Path) -> int:
    """Have the engine's own tool read all of a dump, and its checksum; the answer is how many keys it has.

    It takes no more memory than the largest value. Raises AsbuiltError CACHE-006: it is damaged.
    """
    tools = site.tools["redis"]
    # the server is the tool as well, when it is called by its name
    tool = dump.with_name(_CHECKER)
    tool.unlink(missing_ok=True)
    tool.symlink_to(tools.programs["redis-server"])
    try:
        command = Command((str(tool), str(dump)), env=tuple(tools.env.items()), timeout=24 * 3600.0)
        done = runner.ask(command)
    finally:
        tool.unlink(missing_ok=True)
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    found = _KEYS.search("\n".join(said))
    if done.status != 0 or found is None:
        raise AsbuiltError(
            "CACHE-006",
            "a dump of the cache is damaged",
            where=str(dump),
            evidence=tuple(said[-4:]),
            hint="another backup may be whole: asbuilt backup list",
        )
    return int(found[1])


def lay_out(dump: Path, data: Path) -> None:
    """Make `data` the folder of a server that starts with what is in a dump.

    A server with an append-only file reads that and no dump: so the dump becomes the base of one.
    """
    folder = data / _APPEND
    folder.mkdir(mode=0o700, parents=True)
    shutil.move(dump, folder / _BASE)
    (folder / "appendonly.aof.manifest").write_text(_MANIFEST)


def _failed(node: str, why: str) -> AsbuiltError:
    return AsbuiltError(
        "CACHE-005",
        f"{node} made no dump: {why}",
        where=node,
        hint=f"asbuilt logs --node {node} says more",
    )
