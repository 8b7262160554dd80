"""Who runs a command, so that others can tell whether it still does.

Invariant: a client is called dead only when that is certain: same machine and same process namespace, and no
living process has its id and start time; or the same machine has been booted since.
"""

from __future__ import annotations

import os
import pwd
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Client:
    """One process that runs a command.

    Args:
        owner: `user@host pid`, for people.
        host: name and id of the machine.
        boot: id of the boot and of the process namespace: within both, a pid means one process.
        pid: its process id there.
        pid_start: its start time in clock ticks since boot: a later process of the same id has another.
    """

    owner: str
    host: str
    boot: str
    pid: int
    pid_start: int

    @staticmethod
    def this() -> Client:
        """The process that asks."""
        pid, host = os.getpid(), socket.gethostname()
        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            user = str(os.getuid())
        return Client(f"{user}@{host} {pid}", _host(host), _boot(), pid, start_time(pid) or 0)

    def dead(self) -> bool:
        """True when it certainly is. Asked from another machine or namespace, the answer is False."""
        if self.host != _host(socket.gethostname()):
            return False
        here = _boot()
        if self.boot.partition("/")[0] != here.partition("/")[0]:
            return True
        return self.boot == here and start_time(self.pid) != self.pid_start


def start_time(pid: int) -> int | None:
    """Start of a living process in clock ticks since boot; None when there is none (or a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X", "x"} else int(fields[19])


def _host(name: str) -> str:
    return f"{name}/{_first_line('/etc/machine-id')}"


def _boot() -> str:
    return f"{_first_line('/proc/sys/kernel/random/boot_id')}/{Path('/proc/self/ns/pid').readlink()}"


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
