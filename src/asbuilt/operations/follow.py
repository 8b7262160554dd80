"""Starts the controller of a release and follows it, or follows one that is under way.

Invariant: whoever follows only reads. Going away changes nothing; coming back finds the same run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from asbuilt.operations.reading import read_journal
from asbuilt.operations.runs import END, FOLDER, Reader, find_current, has_ended, new_run, path_of
from asbuilt.record.lock import look
from asbuilt.targets.local.names import MARKER
from asbuilt.values.errors import EXIT_FAILED, AsbuiltError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asbuilt.operations.order import Order
    from asbuilt.values.stage import Stage

_EVERY = 0.1
_GRACE = 1.5
"""Seconds that a controller may take from giving back the lock to its last line."""
_LAST_WORDS = 15
VERBS = frozenset({"deploy", "rollback", "scale"})
"""Verbs whose lock is a controller's."""


@dataclass(frozen=True, slots=True)
class Running:
    """A run that is under way, and its verb."""

    run: str
    verb: str


def find_running(stage: Stage) -> Running | None:
    """The run that is under way."""
    holder = read_journal(stage, None, look) if stage.root.is_dir() else None
    if holder is None or not holder.held or holder.verb not in VERBS:
        return None
    if holder.client.dead() or holder.expires <= time.time():
        return None
    run = find_current(stage.root)
    # one that ended and stops its warm servers is no release on its way
    return Running(run, holder.verb) if run is not None and not has_ended(stage.root, run) else None


def start(stage: Stage, order: Order) -> tuple[str, subprocess.Popen[bytes]]:
    """Start a controller. Returns its run and its process. Raises RefusedError DEPLOY-001."""
    if not stage.root.is_dir():
        raise RefusedError(
            "DEPLOY-001",
            f"{stage.environment} was never up",
            hint=f"asbuilt up {stage.environment} comes first",
        )
    run = new_run(order.verb)
    folder = stage.root / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    words = (str(stage.file.absolute()), stage.name, stage.environment, str(stage.home), run)
    log = os.open(_log_of(stage, run), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        # -P: the folder we are in must not be able to shadow a module
        child = subprocess.Popen(
            (sys.executable, "-P", "-m", "asbuilt.operations.controller", *words, json.dumps(asdict(order))),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # it is nobody's helper, also when one has started it
            env={name: value for name, value in os.environ.items() if name != MARKER},
        )
    finally:
        os.close(log)
    return run, child


def follow(
    stage: Stage, run: str, child: subprocess.Popen[bytes] | None, hear: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Give every line of a run to `hear` until its last, which is returned.

    Raises AsbuiltError DEPLOY-005 when its controller dies.
    """
    reader = Reader(path_of(stage.root, run))
    seen = time.monotonic()
    while True:
        alive = child.poll() is None if child is not None else _is_running(stage, run)
        for line in reader.lines():
            if line.get("kind") == END:
                return line
            hear(line)
        if alive:
            seen = time.monotonic()
        elif time.monotonic() - seen > _GRACE:
            raise _died(stage, run)
        time.sleep(_EVERY)


def _is_running(stage: Stage, run: str) -> bool:
    found = find_running(stage)
    return found is not None and found.run == run


def _died(stage: Stage, run: str) -> AsbuiltError:
    said: tuple[str, ...] = ()
    with suppress(OSError):
        said = tuple(_log_of(stage, run).read_text(errors="replace").splitlines()[-_LAST_WORDS:])
    return AsbuiltError(
        "DEPLOY-005",
        "the controller of the release died before its end",
        where=str(_log_of(stage, run)),
        evidence=said,
        hint=f"asbuilt deploy {stage.environment} goes on from where it was, with --abort it goes back",
    )


def _log_of(stage: Stage, run: str) -> Path:
    return stage.root / FOLDER / f"{run}.log"


class ToldError(AsbuiltError):
    """An error that a controller told: the same code and exit status here as there."""

    def __init__(self, end: dict[str, Any]) -> None:
        error = end["error"]
        super().__init__(
            str(error["code"]),
            str(error["what"]),
            hint=str(error["hint"]),
            where=str(error["where"]),
            evidence=tuple(error["evidence"]),
        )
        self.exit_status = int(end.get("exit", EXIT_FAILED))
