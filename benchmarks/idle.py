"""Memory and CPU of asbuilt's own processes while a production environment is idle."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from common import Row, print_rows, until
from shop import running_shop

if TYPE_CHECKING:
    from common import Environment

SECONDS = 20.0
OURS = (b"/lb-1.scaler\0", b"/backup-1\0")
"""How the marks of the workloads end that are asbuilt itself."""


def own_processes(ours: Environment) -> list[int]:
    """The agent and what else is ours; of its children those that are no workloads, by marker or by place."""
    agent = int((ours.root() / "agent" / "pid").read_text().split()[0])
    nodes = f"{(ours.root() / 'nodes').resolve()}/"
    found = [agent]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent != agent:
                    continue
                # some engines write their title over their environment: then the place tells
                environ = (entry / "environ").read_bytes()
                placed = f"{(entry / 'cwd').readlink()}/".startswith(nodes)
                stranger = not placed and b"ASBUILT_WORKLOAD=" not in environ
                if stranger or any(one in environ for one in OURS):
                    found.append(int(entry.name))
    return found


def pss(pid: int) -> int:
    """Proportional memory in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no Pss of {pid}")


def cpu(pid: int) -> float:
    """Seconds of CPU so far, ended children included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[n]) for n in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")


def has_good_backup(ours: Environment) -> bool:
    """Whether the day's backup is behind us: the work of a minute a day is not idle."""
    said = ours.run("backup", "production", "list", "--json", check=False).stdout
    return any((one["verified"] or {}).get("good") for one in json.loads(said or "{}").get("backups", ()))


def works(ours: Environment) -> bool:
    """Whether a backup or its proof is under way: its CPU time becomes the archiver's when it ends."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes()
            if b"asbuilt.operations.backup.job" in words and str(ours.home).encode() in words:
                return True
    return False


def measure(ours: Environment, runs: int, seconds: float) -> list[Row]:
    """Two rows, over `runs` windows of `seconds`."""
    memory, share = [], []
    for _ in range(runs):
        pids = own_processes(ours)
        before, began = sum(map(cpu, pids)), time.monotonic()
        time.sleep(seconds)  # the window that is measured
        share.append(100 * (sum(map(cpu, pids)) - before) / (time.monotonic() - began))
        memory.append(sum(map(pss, pids)) / 1e6)
    count = f"{len(pids)} process{'es' if len(pids) > 1 else ''}"
    return [
        Row(
            "asbuilt's own memory, idle production",
            "MB (PSS)",
            tuple(memory),
            count,
            "below 120",
            max(memory) < 120,
        ),
        Row(
            "asbuilt's own CPU, idle production",
            "% of a core",
            tuple(share),
            count,
            "below 2 on average",
            statistics.fmean(share) < 2,
        ),
    ]


def rows(runs: int = 5, seconds: float = SECONDS) -> list[Row]:
    """Measure on a production environment of the example."""
    with running_shop() as ours:
        until(partial(has_good_backup, ours), "the first backup, which is tried", within=300, every=2.0)
        until(lambda: not works(ours), "its job to end")
        time.sleep(2.0)  # the archiver looks each second whether it ended
        return measure(ours, runs, seconds)


if __name__ == "__main__":
    words = argparse.ArgumentParser()
    words.add_argument("--runs", type=int, default=5)
    words.add_argument("--seconds", type=float, default=SECONDS)
    given = words.parse_args()
    print_rows(rows(given.runs, given.seconds))
