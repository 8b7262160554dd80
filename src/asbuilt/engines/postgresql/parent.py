"""The parent of Patroni and of all that it starts: when Patroni is gone or stopped, so is its PostgreSQL.

The agent fences a node as well, and releases its lead. This is for the time in which the agent is dead or
stopped itself: a PostgreSQL without Patroni would take writes after its lead has run out and another node
leads. It also buries a postmaster that died: Patroni takes one that nobody has buried for a running one.

Invariants: nothing is left of its children when it ends, unless it is killed itself; it does nothing by the
clock alone, so a machine that was asleep hurts nobody.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from asbuilt.exec.subreaper import become_subreaper

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PATIENCE: Final = 2
"""Seconds that Patroni may be stopped: as long as the agent waits, and far less than a lead lasts."""
_PASSED_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_KILLED: Final = 128


def run_as_child(work: Callable[[], object]) -> int:
    """Run `work` in a child process, and be the parent of whatever that leaves behind; its exit status.

    To be called while this process has one thread and has imported nothing that is large.
    """
    become_subreaper()
    child = os.fork()
    if child == 0:
        work()
        return 0

    def pass_on(number: int, _: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    def give_up(_number: int, _: FrameType | None) -> None:
        sys.stderr.write(f"Patroni was stopped for {PATIENCE} s: it is ended, and its PostgreSQL with it\n")
        sys.stderr.flush()
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    signal.signal(signal.SIGALRM, give_up)
    status = _await(child)
    _end_others()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else _KILLED - code


def _await(child: int) -> int:
    """Until the child ended, burying others meanwhile; a child that is stopped for too long is ended."""
    while True:
        pid, status = os.waitpid(-1, os.WUNTRACED | os.WCONTINUED)
        if pid != child:
            continue
        if os.WIFSTOPPED(status):
            signal.alarm(PATIENCE)
        elif os.WIFCONTINUED(status):
            signal.alarm(0)
        else:
            signal.alarm(0)
            return status


def _end_others() -> None:
    """SIGKILL to every child; whose parent dies becomes one, until none is left."""
    while True:
        for pid in _find_children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _find_children() -> list[int]:
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - no Path needed
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as stream:  # noqa: PTH123 - the same
                if int(stream.read().rpartition(b")")[2].split()[1]) == os.getpid():
                    found.append(int(name))
    return found
