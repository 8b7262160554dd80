"""Asks a holder to break something, hears when it is broken, and asks it to stop."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from asbuilt.operations.drill.record import (
    FaultRecord,
    State,
    folder_of,
    mark_removed,
    read_fault,
    write_fault,
)
from asbuilt.targets.local.names import MARKER
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.plan.fault import Fault

_ARMED_WITHIN: Final = 20.0
_ON_WITHIN: Final = 30.0
REMOVED_WITHIN: Final = 5.0


@dataclass(frozen=True, slots=True)
class Injected:
    """What the holder saw.

    Args:
        moment: when it began to break things, by the monotonic clock of the machine.
        victims: processes that it was to hurt.
        hurt: those of them that were seen dead or frozen.
        problem: what it could not do.
    """

    moment: float
    victims: int
    hurt: int
    problem: str

    @property
    def proven(self) -> bool:
        """Whether all of it was seen to be on."""
        return 0 < self.victims == self.hurt and not self.problem


class Injection:
    """One fault and its holder. Leaving the block takes the fault away."""

    def __init__(self, root: Path, drill: str, fault: Fault) -> None:
        self._root = root
        self._buffer = b""
        write_fault(root, FaultRecord(drill, fault, State.ARMED))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log = os.open(folder_of(root) / "holder.log", flags, 0o600)
        try:
            # a session of its own: Ctrl-C is for us, and it learns of our end by its pipe
            self._child = subprocess.Popen(
                (sys.executable, "-P", "-m", "asbuilt.operations.drill.holder", str(root), drill),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={name: value for name, value in os.environ.items() if name != MARKER},
            )
        finally:
            os.close(log)

    def __enter__(self) -> Self:
        try:
            self._hear("armed", _ARMED_WITHIN)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def begin(self) -> Injected:
        """Now. Raises AsbuiltError DRILL-010 when the holder does not."""
        self._say("go")
        told = self._hear("on", _ON_WITHIN)
        return Injected(
            float(told["moment"]), int(told["victims"]), int(told["hurt"]), str(told["problem"] or "")
        )

    def remove(self, within: float = REMOVED_WITHIN) -> bool:
        """Take the fault away; whether it is seen to be off. Again is fine."""
        stream = self._child.stdin
        if stream is not None and not stream.closed:
            self._say("remove")
            with suppress(OSError):
                stream.close()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(within)
        if self._child.poll() is not None and self._child.stdout is not None:
            self._child.stdout.close()
        record = read_fault(self._root)
        if record is not None and record.state is State.ARMED and self._child.poll() is not None:
            mark_removed(self._root, record)  # it ended before it did anything
        return record is None or record.state is not State.ON

    def _say(self, word: str) -> None:
        stream = self._child.stdin
        with suppress(OSError, ValueError):
            if stream is not None:
                stream.write(f"{word}\n".encode())
                stream.flush()

    def _hear(self, what: str, within: float) -> dict[str, Any]:
        stream = self._child.stdout
        until = time.monotonic() + within
        while stream is not None and (left := until - time.monotonic()) > 0:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                told: dict[str, Any] = json.loads(line)
                if told["what"] == what:
                    return told
                continue
            ready, _, _ = select.select([stream], [], [], left)
            if not ready:
                break
            more = os.read(stream.fileno(), 65536)
            if not more:
                break
            self._buffer += more
        raise AsbuiltError(
            "DRILL-010",
            "the process that holds the fault did not do as it was told",
            where=str(folder_of(self._root) / "holder.log"),
            hint="nothing is left broken: asbuilt drill recover makes sure of it",
        )
