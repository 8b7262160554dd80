"""The command line, killed in the middle: `python killing.py N WORDS...` is `asbuilt WORDS...`, then SIGKILL.

The journal is written before and after each step. The moments that differ are: right after an intent is on
the disk, and right before an outcome would be. A drill writes no steps: its moments are all that it tells,
each new thing that it waits for, and its fault just on. At the N-th moment (from 1) the whole process is
killed. With N = 0 it only counts, and says how many there were on stderr at the end. The product knows
nothing of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from asbuilt.cli.main import run
from asbuilt.cli.talk import Talk
from asbuilt.operations.drill.injection import Injection
from asbuilt.record.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from asbuilt.operations.progress import Event
    from support.live import Live

_AFTER = ("begin_operation", "intend_step")
_BEFORE = ("complete_step", "remember_setup", "finish_operation")


class Fuse:
    """Counts the moments of all threads, and kills at one."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.passed = 0
        self._lock = threading.Lock()
        self._waits: set[str] = set()

    def burn(self) -> None:
        with self._lock:
            self.passed += 1
            if self.passed == self.at:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, owner: type, name: str, *, before: bool) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def wrapped(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - stands for any method
            if before:
                self.burn()
            answer = original(*given, **named)
            if not before:
                self.burn()
            return answer

        setattr(owner, name, wrapped)

    def hear(self, event: Event) -> None:
        """What a drill tells, instead of `Talk`."""
        wait = event.text.partition(":")[0]
        if event.kind != "waiting" or wait not in self._waits:
            self._waits |= {wait} if event.kind == "waiting" else set()
            print(f"{event.kind} {event.text}", file=sys.stderr, flush=True)
            self.burn()


def killed_at(live: Live, moment: int, *words: str, timeout: float = 200) -> tuple[int, str]:
    """`asbuilt WORDS` killed at that moment: its status and what it said."""
    done = subprocess.run(
        [sys.executable, __file__, str(moment), *words],
        cwd=live.project,
        text=True,
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def main() -> int:
    fuse, words = Fuse(int(sys.argv[1])), sys.argv[2:]
    for name in (*_AFTER, *_BEFORE):
        fuse.wrap(Journal, name, before=name in _BEFORE)
    if words[0] == "drill":
        fuse.wrap(Injection, "begin", before=False)
        setattr(Talk, "__call__", lambda _, event: fuse.hear(event))  # noqa: B010 - a method of another class
    status = run(words)
    print(f"{fuse.passed} moments", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
