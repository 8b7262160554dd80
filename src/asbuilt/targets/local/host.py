"""What all workloads of one agent share: folders, identity, the machine, the reaping of children.

Invariants: one thread, one loop; nothing here blocks for longer than a look at /proc takes. Only the agent
starts processes of workloads, so a look from after the last start of one shows whether any of it is left.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from asbuilt.exec.identity import Identity
from asbuilt.targets.local.limits import Machine
from asbuilt.targets.local.names import Paths
from asbuilt.targets.local.process import Ident, Sighting, is_alive, look_around
from asbuilt.values.clock import now_text

_LOOK_LASTS = 0.5
"""Seconds in which workloads that start together share one look at the machine."""
Ended = Callable[[int | None], None]
"""Called once when a process ended, with its wait status; None when it was not our child."""


class Reaper:
    """Collects every child that ends, known or inherited, and tells who waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[int, Ended] = {}
        loop.add_signal_handler(signal.SIGCHLD, self.reap)

    def watch_child(self, pid: int, ended: Ended) -> None:
        """Call `ended` when this child of ours ends."""
        self._waiting[pid] = ended

    def watch_stranger(self, ident: Ident, ended: Ended) -> bool:
        """Call `ended` when this process, started by an earlier agent, ends. False: it is gone already."""
        try:
            descriptor = os.pidfd_open(ident.pid)
        except OSError:
            return False
        if not is_alive(ident):
            os.close(descriptor)
            return False

        def told() -> None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
            ended(None)

        self._loop.add_reader(descriptor, told)
        return True

    def reap(self) -> None:
        """Collect what has ended."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                ended = self._waiting.pop(pid, None)
                if ended is not None:
                    ended(status)


@dataclass
class Host:
    """Shared by all workloads of one agent.

    Args:
        paths: files of the environment.
        identity: who engines run as.
        machine: what there is to give.
        reaper: collects children.
        mains: pids of the main processes of all workloads but the named one.
        stir: something happened to a workload of this kind: its fellows look again.
        is_ready: whether the named workload is ready; True for what is no workload.
    """

    paths: Paths
    identity: Identity
    machine: Machine
    reaper: Reaper
    mains: Callable[[str], set[int]] = field(default=lambda _: set())
    stir: Callable[[str], None] = field(default=lambda _: None)
    is_ready: Callable[[str], bool] = field(default=lambda _: True)
    _started: dict[str, float] = field(default_factory=dict)
    _looked: float = float("-inf")
    _sightings: Mapping[int, Sighting] = field(default_factory=dict)

    def note_start(self, workload: str) -> None:
        """A process of this workload is about to be started: earlier looks show nothing of it."""
        self._started[workload] = time.monotonic()

    def look_for(self, workload: str) -> Mapping[int, Sighting]:
        """A look at the machine from after the last start of this workload, shared with others."""
        now = time.monotonic()
        if self._looked <= self._started.get(workload, self._looked - 1) or now - self._looked > _LOOK_LASTS:
            self._looked, self._sightings = now, look_around()
        return self._sightings

    def say(self, text: str) -> None:
        """One line into the agent's log."""
        with suppress(OSError, ValueError):  # a full disk must not stop the supervision
            sys.stderr.write(f"{now_text()} {text}\n")
            sys.stderr.flush()


def tell_status(status: int | None) -> str:
    """Words for a wait status."""
    if status is None:
        return "is gone"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with status {code}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


async def read_to_end(descriptor: int) -> bytes:
    """Everything until the other end closes; closes the descriptor."""
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    parts: list[bytes] = []
    done = loop.create_future()

    def ready() -> None:
        try:
            part = os.read(descriptor, 4096)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if part:
            parts.append(part)
        elif not done.done():
            done.set_result(None)

    loop.add_reader(descriptor, ready)
    try:
        await done
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return b"".join(parts)
