"""What running workloads use: CPU time, memory, open files, each with what it may use.

Read from /proc only, without the agent, so that a look each second costs a few milliseconds. Invariant: a
process that ends during the look counts as nothing; nobody waits for it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asbuilt.targets.local.process import all_pids, read_process, read_rss

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
    processes = {one.pid: one for one in map(read_process, all_pids()) if one is not None}
    children: dict[int, list[int]] = {}
    for one in processes.values():
        children.setdefault(one.ppid, []).append(one.pid)
    found = {}
    for name, main in mains.items():
        if main not in processes:
            continue
        tree, todo = [], [main]
        while todo:
            pid = todo.pop()
            tree.append(pid)
            todo += children.get(pid, ())
        cpu = sum(processes[pid].ticks for pid in tree) / _TICKS
        found[name] = Usage(cpu, read_rss(tree), max(map(_files_share, tree)))
    return found


def _files_share(pid: int) -> float:
    with suppress(OSError, ValueError, StopIteration):
        opened = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - hot path
        with open(f"/proc/{pid}/limits") as file:  # noqa: PTH123 - hot path
            line = next(line for line in file if line.startswith("Max open files"))
        return opened / int(line.split()[3])
    return 0.0
