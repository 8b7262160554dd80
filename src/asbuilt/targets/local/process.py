"""Processes as /proc shows them: identity (pid and start time), and which of them belong to a workload.

Invariant: nothing is ever signalled by its pid alone; the start time must match too, and the signal goes
through a pidfd, so that a pid used again by somebody else is never hit.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.targets.local.names import MARKER

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_MARKER_BYTES = MARKER.encode() + b"="
_DEAD = frozenset("ZX")


@dataclass(frozen=True, slots=True)
class Ident:
    """One process for good: `start` is in clock ticks since boot."""

    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat, as far as it matters here."""

    pid: int
    ppid: int
    state: str
    start: int
    tty: int
    name: str
    ticks: int = 0
    """CPU time, its own and that of children it has waited for, in clock ticks."""

    @property
    def ident(self) -> Ident:
        """What it is known by."""
        return Ident(self.pid, self.start)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A living process with what shows whose it is."""

    process: Process
    marker: str | None
    cwd: str | None


def boot_id() -> str:
    """Changes with every boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def parse_stat(data: bytes) -> Process:
    """Parse /proc/PID/stat; the name may hold spaces and brackets."""
    close = data.rindex(b")")
    rest = data[close + 2 :].split()
    pid, _, name = data[:close].partition(b" (")
    return Process(
        int(pid),
        int(rest[1]),
        rest[0].decode(),
        int(rest[19]),
        int(rest[4]),
        name.decode(errors="replace"),
        sum(map(int, rest[11:15])),
    )


def _read(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        while part := os.read(descriptor, 65536):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_process(pid: int) -> Process | None:
    """The process with this pid (a zombie too), or None."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.read(descriptor, 4096)  # a line of at most some 400 bytes, made in one piece
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return parse_stat(data) if data else None


def is_alive(ident: Ident) -> bool:
    """Whether exactly this process runs (stopped counts, a zombie does not)."""
    process = read_process(ident.pid)
    return process is not None and process.start == ident.start and process.state not in _DEAD


def is_stopped(ident: Ident) -> bool:
    """Whether exactly this process is stopped (state T)."""
    process = read_process(ident.pid)
    return process is not None and process.start == ident.start and process.state == "T"


def all_pids() -> list[int]:
    """Every pid there is."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - hot path


def read_marker(pid: int) -> str | None:
    """The value of MARKER in its environment; None when there is none or we may not see it."""
    data = _read(f"/proc/{pid}/environ")
    if not data or _MARKER_BYTES not in data:
        return None
    for entry in data.split(b"\0"):
        if entry.startswith(_MARKER_BYTES):
            return entry[len(_MARKER_BYTES) :].decode(errors="replace")
    return None


def read_cwd(pid: int) -> str | None:
    """Its working directory; None when we may not see it. A removed folder keeps its name."""
    try:
        return os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)")  # noqa: PTH115 - hot path
    except OSError:
        return None


def look_around() -> dict[int, Sighting]:
    """Every living process by pid."""
    found = {}
    for pid in all_pids():
        process = read_process(pid)
        if process is not None and process.state not in _DEAD:
            found[pid] = Sighting(process, read_marker(pid), read_cwd(pid))
    return found


def is_below(path: str | None, folder: str) -> bool:
    """Whether `path` is `folder` or something in it."""
    return path is not None and (path == folder or path.startswith(folder + "/"))


def _closure(sightings: Mapping[int, Sighting], seeds: Iterable[int], barrier: Collection[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, sighting in sightings.items():
        children.setdefault(sighting.process.ppid, []).append(pid)
    found: set[int] = set()
    todo = [pid for pid in seeds if pid in sightings and pid not in barrier]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += [child for child in children.get(pid, ()) if child not in barrier]
    return found


def select_tree(
    sightings: Mapping[int, Sighting],
    *,
    marker: str,
    main: Ident | None,
    node_dir: str,
    strays: bool,
    others: Collection[int] = (),
    grouped: Collection[int] = (),
    keep: Collection[int] = (),
) -> frozenset[Ident]:
    """The processes of one workload.

    The main process, what carries its marker, what its cgroup holds, their descendants, and (`strays`) what
    works below the node's folder and belongs to nobody else.

    PostgreSQL's children make their own sessions and overwrite their environment: only parent and working
    directory tell. A person's shell in that folder has a terminal and is spared.

    Args:
        sightings: every living process.
        marker: the workload's marker.
        main: its recorded main process.
        node_dir: folder of its node.
        strays: whether unmarked processes below `node_dir` are its own (the node's main workload).
        others: main pids of other workloads of the environment.
        grouped: pids in its cgroup.
        keep: never selected (the agent itself).
    """
    foreign = {pid for pid, s in sightings.items() if s.marker is not None and s.marker != marker}
    foreign |= set(others)
    barrier = foreign | set(keep)
    seeds = {pid for pid, s in sightings.items() if s.marker == marker} | set(grouped)
    if main is not None and main.pid in sightings and sightings[main.pid].process.start == main.start:
        barrier.discard(main.pid)
        seeds.add(main.pid)
    found = _closure(sightings, seeds, barrier)
    if strays:
        theirs = _closure(sightings, foreign, keep)
        stray = {
            pid
            for pid, s in sightings.items()
            if s.marker is None and s.process.tty == 0 and is_below(s.cwd, node_dir) and pid not in theirs
        }
        found |= _closure(sightings, stray, barrier)
    return frozenset(sightings[pid].process.ident for pid in found)


def send_signal(ident: Ident, number: int) -> bool:
    """Signal exactly this process; False when it is gone (or another one has its pid now)."""
    try:
        descriptor = os.pidfd_open(ident.pid)
    except OSError:
        return False
    try:
        process = read_process(ident.pid)
        if process is None or process.start != ident.start:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def read_rss(pids: Iterable[int]) -> int:
    """Resident memory of these processes together, in bytes (shared pages count for each)."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = 0
    for pid in pids:
        data = _read(f"/proc/{pid}/statm")
        if data:
            total += int(data.split()[1]) * page
    return total
