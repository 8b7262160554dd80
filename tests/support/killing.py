"""The command line, killed in the middle: `python killing.py N WORDS...` is `asbuilt WORDS...`, then SIGKILL.

The journal is written before and after each step. The moments that differ are: right after an intent is on
the disk, and right before an outcome would be. At the N-th of them (from 1) the whole process is killed. With
N = 0 it only counts, and says how many there were on stderr at the end. The product knows nothing of it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from asbuilt.cli.main import run
from asbuilt.record.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable

_AFTER = ("begin_operation", "intend_step")
_BEFORE = ("complete_step", "remember_setup", "finish_operation")


class Fuse:
    """Counts the moments of all threads, and kills at one."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.passed = 0
        self._lock = threading.Lock()

    def burn(self) -> None:
        with self._lock:
            self.passed += 1
            if self.passed == self.at:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, name: str) -> None:
        original: Callable[..., Any] = getattr(Journal, name)

        def wrapped(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - stands for any method
            if name in _BEFORE:
                self.burn()
            answer = original(*given, **named)
            if name in _AFTER:
                self.burn()
            return answer

        setattr(Journal, name, wrapped)


def main() -> int:
    fuse = Fuse(int(sys.argv[1]))
    for name in (*_AFTER, *_BEFORE):
        fuse.wrap(name)
    status = run(sys.argv[2:])
    print(f"{fuse.passed} moments", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
