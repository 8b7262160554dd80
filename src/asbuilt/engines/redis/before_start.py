"""Runs before each start of a cache node or a sentinel: finds out who is primary, writes the running file.

When the node was primary, it is proven dead at this moment: then this makes another one primary. With
`succeed` that is all it does: after many failures the next start has to wait, a successor must not.

`python -m asbuilt.engines.redis.before_start ARGUMENTS.json [succeed]`. The engine rewrites its running file
itself, so that one is made anew from the rendered file at each start. Exit 0: start; 75: not now, try again.
Only the standard library, because every failover waits for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asbuilt.engines.redis.members import TIMEOUT, Members, parse_members
from asbuilt.engines.redis.resp import ReplyError
from asbuilt.engines.redis.role import (
    PATIENCE,
    Decision,
    Living,
    Named,
    Start,
    Stored,
    choose_successor,
    decide,
)
from asbuilt.engines.redis.succession import NotNowError, ask_opinion, ask_opinions, confirm, promote

SUCCEED = "succeed"
TRY_AGAIN = 75
"""EX_TEMPFAIL of sysexits.h."""
_LOOK_EVERY = 0.1
_AGREE_WITHIN = 12.0
"""Seconds in which the sentinels should agree: a busy machine needs some, a node doesn't wait for ever."""
_SUCCEED_WITHIN = 6.0
_EMPTY_BASE = 512
"""Bytes: an empty Redis or Valkey writes about 100 of header into its first files."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What `config.render_arguments` wrote."""

    node: str
    what: str
    source: Path
    target: Path
    all: Members


def load_arguments(path: Path) -> Arguments:
    """The arguments from their file."""
    raw: dict[str, Any] = json.loads(path.read_text())
    node = raw["node"]
    return Arguments(
        node=node,
        what=raw["what"],
        source=Path(raw["source"]),
        target=Path(raw["target"]),
        all=parse_members(raw, raw["members"][node]["host"]),
    )


def ask_living(arguments: Arguments, name: str) -> Living | None:
    """What another node says of itself; None when it does not answer."""
    try:
        with arguments.all.server(name) as client:
            said = client.info("replication")
    except (OSError, ReplyError, ValueError):
        return None
    if said.get("role") == "master":
        return Living(primary=True, synced=True, offset=int(said.get("master_repl_offset", "0")))
    up = said.get("master_link_status") == "up"
    lost = int(said.get("master_link_down_since_seconds", "-1")) >= 0
    follows = arguments.all.at(said.get("master_host", ""))
    return Living(
        primary=False, follows=follows, synced=up or lost, offset=int(said.get("slave_repl_offset") or 0)
    )


def ask_named(arguments: Arguments, name: str) -> Named | None:
    """Whom the sentinel of a node names: itself when it answers, else its file."""
    opinion = ask_opinion(arguments.all, name)
    return Named(opinion.node, opinion.epoch, living=True) if opinion else read_named(arguments, name)


def read_named(arguments: Arguments, name: str) -> Named | None:
    """Whom the file of a node's sentinel names; None when there is none, or it names a foreign address."""
    try:
        text = (arguments.all.members[name].folder / "run" / "sentinel.conf").read_text()
    except OSError:
        return None
    word = re.escape(arguments.all.monitor)
    monitor = re.search(rf"^sentinel monitor {word} (\S+) ", text, re.MULTILINE)
    epoch = re.search(rf"^sentinel config-epoch {word} (\d+)", text, re.MULTILINE)
    node = arguments.all.at(monitor[1]) if monitor else None
    # an unused file names the first node in epoch 0, and says nothing about what happened
    return Named(node, int(epoch[1]), living=False) if node and epoch else None


def read_stored(arguments: Arguments, name: str) -> Stored:
    """Whether a node's disk holds data, and when it was last written."""
    data = arguments.all.members[name].folder / "data"
    written, size = 0.0, 0
    for folder, _, files in os.walk(data):
        for file in files:
            if file.endswith((".aof", ".rdb")):
                try:
                    status = Path(folder, file).stat()
                except OSError:
                    continue
                size = max(size, status.st_size)
                written = max(written, status.st_mtime)
    return Stored(size > _EMPTY_BASE or _has_keys(data), written)


def _has_keys(data: Path) -> bool:
    """Whether small files hold anything: an increment file has commands, an empty one is empty."""
    return any(path.stat().st_size > 0 for path in data.glob("appendonlydir/*.incr.aof"))


@dataclass(frozen=True, slots=True)
class Look:
    """What there was to see: the other nodes that answer, and whom the sentinels name."""

    living: dict[str, Living]
    named: tuple[Named, ...]
    decision: Decision


def look(arguments: Arguments, waited: float) -> Look:
    """Ask everybody at once, then decide."""
    names = sorted(arguments.all.members)
    others = [name for name in names if name != arguments.node]
    with ThreadPoolExecutor(2 * len(names)) as pool:
        asked = dict(zip(others, pool.map(lambda n: ask_living(arguments, n), others), strict=True))
        said = tuple(pool.map(lambda n: ask_named(arguments, n), names))
    living = {name: one for name, one in asked.items() if one is not None}
    named = tuple(one for one in said if one is not None)
    stored = {name: read_stored(arguments, name) for name in names}
    return Look(living, named, decide(arguments.node, living, stored, named, waited))


def start_server(arguments: Arguments) -> int:
    """Write the server's running file, or refuse.

    When this node was primary it is proven dead, and another one has the data: that one is made primary now.
    The sentinels would do the same, seconds later. It is tried again and again in here: a start that fails so
    often would count as a crash loop, and the node come back half a minute late.
    """
    since = arguments.target.with_suffix(".waiting")
    begun, told = time.monotonic(), ""
    while True:
        seen = look(arguments, _age(since))
        decision = seen.decision
        words = f"{decision.start.value}: {decision.why}"
        if words != told:
            _say(f"{arguments.node} starts as {words}")
            told = words
        if decision.start is not Start.WAIT:
            break
        if not since.exists():
            since.touch()
        if _promote(arguments, seen, time.monotonic() - begun):
            continue
        if time.monotonic() - begun > PATIENCE + TIMEOUT:
            return TRY_AGAIN
        time.sleep(_LOOK_EVERY)
    since.unlink(missing_ok=True)
    text = arguments.source.read_text()
    if decision.follows is not None:
        _have_agreed(arguments, decision.follows, seen.living)
        primary = arguments.all.members[decision.follows]
        text += f"replicaof {primary.host} {primary.port}\n"
    _write(arguments.target, text)
    return 0


def succeed(arguments: Arguments) -> int:
    """Have another node made primary, if this one was and is dead. Nothing is written."""
    begun = time.monotonic()
    while time.monotonic() - begun < _SUCCEED_WITHIN:
        seen = look(arguments, 0.0)
        if seen.decision.start is not Start.WAIT:
            if seen.decision.follows is not None:
                _have_agreed(arguments, seen.decision.follows, seen.living)
            return 0
        if not _promote(arguments, seen, time.monotonic() - begun):
            time.sleep(_LOOK_EVERY)
    return TRY_AGAIN


def _promote(arguments: Arguments, seen: Look, waited: float) -> bool:
    others = len(arguments.all.members) - 1
    successor = choose_successor(arguments.node, others, seen.living, seen.named, waited)
    if successor is None:
        return False
    try:
        promote(arguments.all, arguments.node, successor)
    except (NotNowError, OSError, ReplyError) as error:
        _say(f"{successor} is not promoted yet: {error}")
        return False
    _say(f"{successor} was made primary")
    return True


def _have_agreed(arguments: Arguments, primary: str, living: dict[str, Living]) -> None:
    """The sentinels have to name the node that is primary, or they will make another one primary."""
    if [name for name, one in living.items() if one.primary] != [primary] or not ask_opinions(arguments.all):
        return
    deadline = time.monotonic() + _AGREE_WITHIN
    while not confirm(arguments.all, primary, dead=arguments.node) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY)


def _say(words: str) -> None:
    print(f"asbuilt: {words}", flush=True)  # noqa: T201 - its log


def start_sentinel(arguments: Arguments) -> int:
    """Keep the sentinel's own file while it is of the same cluster, else make it anew."""
    source = arguments.source.read_text()
    stamp = arguments.target.with_suffix(".stamp")
    digest = hashlib.sha256(source.encode()).hexdigest()
    named = read_named(arguments, arguments.node)
    if arguments.target.exists() and stamp.exists() and stamp.read_text() == digest:
        return 0
    decision = look(arguments, 0.0).decision
    living = [name for name in sorted(arguments.all.members) if _is_primary(arguments, name)]
    chosen = (living or [decision.follows or (named.node if named else arguments.node)])[0]
    primary = arguments.all.members[chosen]
    # `monitor` has to come before every other line about the cluster
    monitor = (
        f"sentinel monitor {arguments.all.monitor} {primary.host} {primary.port} {arguments.all.quorum}\n"
    )
    _write(arguments.target, monitor + source)
    _write(stamp, digest)
    return 0


def _is_primary(arguments: Arguments, name: str) -> bool:
    said = ask_living(arguments, name)
    return said is not None and said.primary


def _age(path: Path) -> float:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return 0.0


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def main(argv: list[str]) -> int:
    """Entry point. Returns the exit status."""
    arguments = load_arguments(Path(argv[1]))
    if argv[2:] == [SUCCEED]:
        return succeed(arguments)
    return start_sentinel(arguments) if arguments.what == "sentinel" else start_server(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
