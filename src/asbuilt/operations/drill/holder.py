"""Holds one fault in a process of its own: `python -m asbuilt.operations.drill.holder ROOT DRILL`.

Invariants: the fault is on record before it is done; it is taken away at its deadline, and at once when
whoever asked for it is gone (the pipe from it ends) or says so. Talks in JSON lines: armed, on, removed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asbuilt.operations.drill.faults import count_hurt, do, find_victims, is_undone, undo
from asbuilt.operations.drill.record import FaultRecord, State, mark_removed, read_fault, write_fault
from asbuilt.targets.local.process import Ident, read_process
from asbuilt.values.errors import EXIT_DONE, EXIT_FAILED, AsbuiltError

if TYPE_CHECKING:
    from types import FrameType

_ASKED_WITHIN: Final = 60.0
_TRY_FOR: Final = 60.0
_AGAIN: Final = 0.5


def main(words: list[str]) -> int:
    """Hold the fault on record."""
    root = Path(words[0])
    record = read_fault(root)
    if record is None or record.drill != words[1] or record.state is not State.ARMED:
        return EXIT_FAILED
    signal.signal(signal.SIGTERM, _leave)
    process = read_process(os.getpid())
    holder = process.ident if process else Ident(os.getpid(), 0)
    victims = find_victims(root, record.fault)
    _say("armed", victims=len(victims))
    if _wait_for_word(_ASKED_WITHIN) != "go":
        mark_removed(root, record)
        return EXIT_DONE
    deadline = time.monotonic() + record.fault.seconds
    # once more: a moment has passed, and nobody else is to be hurt
    victims = find_victims(root, record.fault)
    record = write_fault(
        root,
        replace(
            record,
            state=State.ON,
            holder=holder,
            deadline=time.time() + record.fault.seconds,
            victims=victims,
        ),
    )
    try:
        _break(root, record)
        _wait_for_word(deadline - time.monotonic())
    finally:
        good = _remove(root, record)
        _say("removed", good=good)
    return EXIT_DONE if good else EXIT_FAILED


def _break(root: Path, record: FaultRecord) -> None:
    moment = time.monotonic()
    problem = ""
    try:
        do(root, record.fault, record.victims)
    except AsbuiltError as error:
        problem = error.what
    hurt = count_hurt(record.fault, record.victims)
    _say("on", moment=moment, victims=len(record.victims), hurt=hurt, problem=problem)


def _remove(root: Path, record: FaultRecord) -> bool:
    """Until it is off; an agent that is just starting again is tried again."""
    until = time.monotonic() + _TRY_FOR
    while time.monotonic() < until:
        with suppress(AsbuiltError, OSError):
            undo(root, record)
            if is_undone(root, record):
                mark_removed(root, record)
                return True
        time.sleep(_AGAIN)
    return False


def _wait_for_word(seconds: float) -> str:
    """The next word from who asked; empty when none came in time, or when it is gone."""
    ready, _, _ = select.select([sys.stdin], [], [], max(0.0, seconds))
    return sys.stdin.readline().strip() if ready else ""


def _say(what: str, **values: object) -> None:
    with suppress(OSError):
        os.write(1, json.dumps({"what": what, **values}).encode() + b"\n")


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(EXIT_DONE)


if __name__ == "__main__":
    os.umask(0o077)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.exit(main(sys.argv[1:]))
