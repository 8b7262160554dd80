"""Looks at everything that decides whether a drill may begin, and holds off a second one."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Kind
from asbuilt.operations.backup.archive import read_backups
from asbuilt.operations.backup.context import open_backups
from asbuilt.operations.drill.contract import Drill, find_obstacle
from asbuilt.operations.drill.damage import read_damage
from asbuilt.operations.drill.record import State, folder_of, read_fault
from asbuilt.operations.drill.restoring import copy_marker
from asbuilt.operations.progress import Event, Tell, silent
from asbuilt.plan.preflight import Before
from asbuilt.values.errors import AsbuiltError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from asbuilt.operations.drill.ground import Ground
    from asbuilt.values.stage import Stage

LOCK: Final = "lock"
_SETTLE: Final = 20.0
"""Seconds that a hiccup of a moment ago may take to be over."""


def find_interrupted(root: Path) -> str:
    """The drill that left something; empty for none."""
    fault = read_fault(root)
    if fault is not None and fault.state is not State.REMOVED:
        return fault.drill
    if read_damage(root):
        return "data-corruption"
    return "of a restore" if copy_marker(root).exists() else ""


def look_before(ground: Ground, drill: Drill, variant: str, tell: Tell) -> Before:
    """What is there before a drill."""
    obstacle = find_obstacle(drill, variant, ground.prepared.architecture)
    interrupted = find_interrupted(ground.root)
    missing: tuple[str, ...] = ()
    if not obstacle and not interrupted:
        missing = _settle(ground, tell)
    backup, verified = _find_backup(ground)
    return Before(
        ground.stage.environment,
        obstacle,
        interrupted,
        missing,
        shutil.disk_usage(ground.root).free,
        backup,
        verified,
        bool(ground.nodes(Kind.BACKUP)),
    )


def _settle(ground: Ground, tell: Tell) -> tuple[str, ...]:
    began = time.monotonic()
    while missing := ground.missing():
        waited = time.monotonic() - began
        if waited > _SETTLE:
            return missing
        tell(Event("waiting", "drill", f"redundancy to be complete: {missing[0]}", waited))
        time.sleep(0.5)
    return ()


def _find_backup(ground: Ground) -> tuple[str, datetime | None]:
    if not ground.nodes(Kind.BACKUP):
        return "", None
    try:
        with open_backups(ground.stage, silent) as backups:
            found = [(one.verified, one.id) for one in read_backups(backups)]
    except AsbuiltError:
        return "", None
    good = sorted((tried.at, name) for tried, name in found if tried is not None and tried.good)
    return (good[-1][1], good[-1][0]) if good else ("", None)


@contextmanager
def only_one(stage: Stage) -> Iterator[None]:
    """No other drill meanwhile. Raises RefusedError DRILL-008."""
    folder = folder_of(stage.root)
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RefusedError(
                "DRILL-008",
                f"another drill of {stage.environment} is under way",
                where=str(folder / LOCK),
                hint="wait for its end; Ctrl-C there takes its fault away",
            ) from None
        yield
    finally:
        os.close(descriptor)
