"""What running workloads use: CPU time, memory, open files, each with what it may use.

Read from /proc only, without the agent, so that a look each second costs a few milliseconds. Invariant: a
process that ends during the look counts as nothing; nobody waits for it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asbuilt.targets.local.process import all_pids, read_rss

if TYPE_CHECKING:
    from collections.abc import Mapping

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What the process tree of one workload uses.

    Args:
        cpu: seconds of CPU time since the start, of the processes that live.
        memory: resident bytes.
        files: the largest part, 0..1, of its own limit of open files that a process has open.
    """

    cpu: float
    memory: int
    files: float


def read_usage(mains: Mapping[str, int]) -> dict[str, Usage]:
    """The usage of each workload, by its name; `mains` are the pids of their main processes."""
    parents, times = _read_all()
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found = {}
    for name, main in mains.items():
        if main not in parents:
            continue
        tree, todo = [], [main]
        while todo:
            pid = todo.pop()
            tree.append(pid)
            todo += children.get(pid, ())
        cpu = sum(times[pid] for pid in tree)
        found[name] = Usage(cpu, read_rss(tree), max(map(_files_share, tree)))
    return found


def _read_all() -> tuple[dict[int, int], dict[int, float]]:
    """Parent and CPU seconds of every process."""
    parents, times = {}, {}
    for pid in all_pids():
        with suppress(OSError):
            descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(descriptor, 4096)
            finally:
                os.close(descriptor)
            fields = data[data.rindex(b")") + 2 :].split()
            parents[pid] = int(fields[1])
            # user and system time, its own and that of children it has waited for
            times[pid] = sum(map(int, fields[11:15])) / _TICKS
    return parents, times


def _files_share(pid: int) -> float:
    with suppress(OSError, ValueError, StopIteration):
        opened = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - hot path
        with open(f"/proc/{pid}/limits") as file:  # noqa: PTH123 - hot path
            line = next(line for line in file if line.startswith("Max open files"))
        return opened / int(line.split()[3])
    return 0.0
