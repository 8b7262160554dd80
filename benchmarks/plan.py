"""How long planning takes, and whether it grows in proportion to the graph.

Four cases: everything new, everything restarts, nothing to do, everything removed. The growth compares the
CPU time per node with that of the smallest size (1.0 is perfectly linear).
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from common import Row, print_rows, say

from asbuilt.observe.snapshot import Health, Seen, Snapshot
from asbuilt.plan.planner import Desired, plan
from asbuilt.plan.workload import ConfigFile, Setup, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (1250, 10000)
LIMIT = 2.0
"""CPU seconds that 10,000 nodes may take (on a quiet core the wall clock says the same)."""
LINEAR = 2.0
"""Growth of the time per node from 1,250 to 10,000 nodes that still counts as linear: quadratic would be 8.
Caches of the processor and the garbage collector account for what is above 1."""


def environment(nodes: int, version: str) -> Desired:
    """Half app servers, the rest databases, caches with Sentinels, and a balancer that knows every app."""
    apps = nodes // 2
    databases = caches = nodes // 6
    kinds = [("app", apps), ("database", databases), ("cache", caches)]
    kinds.append(("load-balancer", 1))
    kinds.append(("consensus", nodes - apps - databases - caches - 1))
    workloads: dict[str, Workload] = {}
    for kind, count in kinds:
        for number in range(1, count + 1):
            one = f"{kind}-{number}"
            needs = {
                "app": ("load-balancer-1", "app.migrate", f"database-{1 + number % databases}"),
                "database": ("database.seed", "consensus-1"),
            }.get(kind, ())
            workloads[one] = Workload(
                id=one,
                node=one,
                kind=kind,
                engine="engine 1",
                argv=("/usr/bin/engine", "--port", str(number), version),
                cwd=f"/srv/{one}",
                env=tuple((f"NAME_{n}", "value") for n in range(8)),
                files=(ConfigFile(f"/srv/{one}/conf", "setting = value\n" * 20),),
                needs=needs,
            )
    members = tuple(one for one in workloads if one.startswith("database-"))
    setups = {
        one: Setup(one, one, needs, version, lambda: True, lambda: None)
        for one, needs in (("database.seed", ()), ("app.migrate", members))
    }
    return Desired(workloads, setups, None, frozenset(setups))


def running(desired: Desired) -> Snapshot:
    """Everything up."""
    return Snapshot(
        {
            one: Seen(
                one,
                w.node,
                w.kind,
                w.engine,
                w.digest,
                w.process_digest,
                Health.READY,
                role="primary" if one == "database-1" else None,
                pid=1,
                needs=w.needs,
            )
            for one, w in desired.workloads.items()
        },
        {one: setup.key for one, setup in desired.setups.items()},
    )


def cpu_seconds(work: Callable[[], object], runs: int) -> tuple[float, ...]:
    """CPU seconds of each run: on a quiet core the wall clock says the same."""
    found = []
    for _ in range(runs):
        gc.collect()
        used = time.process_time()
        work()
        found.append(time.process_time() - used)
    return tuple(found)


CASES = {
    "new": (("v2",), None),
    "restart": (("v2",), "v1"),
    "unchanged": (("v2",), "v2"),
    "removed": ((), "v2"),
}
"""What is wanted and what runs, by name of the case."""


def world(case: str, size: int) -> tuple[Desired, Snapshot]:
    """What is wanted and what is there."""
    wanted, there = CASES[case]
    desired = environment(size, wanted[0]) if wanted else Desired()
    return desired, Snapshot() if there is None else running(environment(size, there))


def rows(runs: int = 5) -> list[Row]:
    """A row for each case at the greatest size, beside its growth from the smallest."""
    table = []
    for case in CASES:
        found = {size: cpu_seconds(partial(plan, *world(case, size)), runs) for size in SIZES}
        growth = min(found[SIZES[-1]]) / SIZES[-1] / (min(found[SIZES[0]]) / SIZES[0])
        largest = found[SIZES[-1]]
        met = statistics.median(largest) < LIMIT and growth < LINEAR
        table.append(
            Row(
                f"plan for {SIZES[-1]:,} nodes, {case}",
                "CPU s",
                largest,
                f"{growth:.2f} x per node from {SIZES[0]:,} nodes",
                f"{LIMIT:g} s, linear",
                met,
            )
        )
        say(f"plan: {case}: done")
    return table


if __name__ == "__main__":
    everything = rows()
    print_rows(everything)
    sys.exit(any(row.met is False for row in everything))
