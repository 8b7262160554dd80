"""`asbuilt drill recover`: takes away whatever an interrupted drill left. Idempotent."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psycopg

from asbuilt.engines.redis.resp import ReplyError
from asbuilt.graph.model import Kind
from asbuilt.operations.backup.restore import drop_sidecar
from asbuilt.operations.drill.damage import clear_damage, read_damage
from asbuilt.operations.drill.database import SCHEMA, drop_schema, has_schema
from asbuilt.operations.drill.faults import is_undone, undo
from asbuilt.operations.drill.ground import Ground, open_ground
from asbuilt.operations.drill.preflight import only_one
from asbuilt.operations.drill.record import FaultRecord, State, mark_removed, read_fault
from asbuilt.operations.drill.restoring import copy_marker
from asbuilt.operations.progress import Event, Tell
from asbuilt.targets.local.process import is_alive, send_signal
from asbuilt.values.errors import AsbuiltError, ResumableError

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.values.stage import Stage

_WITHIN: Final = 45.0
_HOLDER_WITHIN: Final = 8.0
_AGAIN: Final = 0.5
_DATABASE_WITHIN: Final = 30.0
_KEYS: Final = "asbuilt_drill:*"


def recover(stage: Stage, tell: Tell) -> tuple[str, ...]:
    """What was taken away, one line each; none when there was nothing.

    Raises RefusedError DRILL-001 and DRILL-008, ResumableError DRILL-011 when something is left.
    """
    ground = open_ground(stage)
    with only_one(stage):
        done = [*recover_fault(stage.root, tell)]
        if copy_marker(stage.root).exists():
            drop_sidecar(stage, tell)
            copy_marker(stage.root).unlink(missing_ok=True)
            done.append("the copy of the database that was restored beside")
        if not ground.status()["nodes"]:
            tell(Event("note", "", f"{stage.environment} is down: its database and cache were not looked at"))
            return tuple(done)
        done += _recover_damage(ground, tell)
        if ground.nodes(Kind.DATABASE):
            done += _recover_schema(ground, tell)
        if ground.nodes(Kind.CACHE):
            done += _recover_keys(ground)
    return tuple(done)


def recover_fault(root: Path, tell: Tell) -> list[str]:
    """The fault on record, if it is on; what was taken away."""
    record = read_fault(root)
    if record is None or record.state is State.REMOVED:
        return []
    if record.holder is not None and is_alive(record.holder):
        send_signal(record.holder, signal.SIGTERM)  # it knows best what to do
        began = time.monotonic()
        while is_alive(record.holder) and time.monotonic() - began < _HOLDER_WITHIN:
            tell(Event("waiting", "drill", "the holder of the fault to end", time.monotonic() - began))
            time.sleep(0.05)
        send_signal(record.holder, signal.SIGKILL)
    words = f"the fault of {record.drill}: {record.fault.words}"
    if record.state is State.ARMED:
        mark_removed(root, record)
        return [f"{words} (it was not on yet)"]
    _undo(root, record, tell)
    return [words]


def _undo(root: Path, record: FaultRecord, tell: Tell) -> None:
    began, why = time.monotonic(), "it is still there"
    while (waited := time.monotonic() - began) < _WITHIN:
        try:
            undo(root, record)
            if is_undone(root, record):
                mark_removed(root, record)
                return
        except (AsbuiltError, OSError) as error:
            why = str(error)
        tell(Event("waiting", "drill", f"the fault to be off: {why}", waited))
        time.sleep(_AGAIN)
    raise ResumableError(
        "DRILL-011",
        f"the fault of {record.drill} could not be taken away: {record.fault.words}",
        evidence=(why,),
        hint="asbuilt status shows what runs; run the same command again",
    )


def _recover_damage(ground: Ground, tell: Tell) -> list[str]:
    node = read_damage(ground.root)
    if not node:
        return []
    tell(Event("started", "drill", f"build {node} anew"))
    ground.admin.rebuild(node, within=_DATABASE_WITHIN)
    clear_damage(ground.root)
    return [f"the damaged data of {node}: it is built anew"]


def _recover_schema(ground: Ground, tell: Tell) -> list[str]:
    began = time.monotonic()
    while (waited := time.monotonic() - began) < _DATABASE_WITHIN:
        with suppress(psycopg.Error, OSError):
            if not has_schema(ground):
                return []
            if drop_schema(ground):
                return [f"the schema {SCHEMA}"]
        tell(Event("waiting", "drill", "the database to answer", waited))
        time.sleep(_AGAIN)
    raise ResumableError(
        "DRILL-011",
        f"the database does not answer: the schema {SCHEMA} may still be in it",
        hint="asbuilt status shows what runs; run the same command again",
    )


def _recover_keys(ground: Ground) -> list[str]:
    count, cursor = 0, "0"
    with suppress(OSError, ReplyError), ground.cache_client(timeout=5.0) as client:
        while True:
            said = client.ask("SCAN", cursor, "MATCH", _KEYS, "COUNT", "1000")
            if not isinstance(said, list):
                break
            cursor, keys = str(said[0]), said[1]
            if isinstance(keys, list) and keys:
                client.ask("UNLINK", *(str(key) for key in keys))
                count += len(keys)
            if cursor == "0":
                break
    return [f"{count} keys of the cache"] if count else []
