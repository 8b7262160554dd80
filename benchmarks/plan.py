"""How long planning takes, and whether it grows in proportion to the graph.

    python benchmarks/plan.py

Four cases: everything new, everything restarts, nothing to do, everything removed. Each size is measured five
times; the ratio compares the CPU time per node with that of the smallest size (1.0 is perfectly linear).
"""

from __future__ import annotations

import gc
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

from asbuilt.observe.snapshot import Health, Seen, Snapshot
from asbuilt.plan.planner import Desired, plan
from asbuilt.plan.workload import ConfigFile, Setup, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (1250, 2500, 5000, 10000)
ROUNDS = 5
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


def measured(work: Callable[[], object]) -> tuple[float, float, float, float]:
    """Least, median and most seconds, and the least CPU seconds (which other programs disturb less)."""
    times, cpu = [], []
    for _ in range(ROUNDS):
        gc.collect()
        begin, used = time.perf_counter(), time.process_time()
        work()
        times.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - used)
    return min(times), statistics.median(times), max(times), min(cpu)


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


def main() -> int:
    """Print the table; 1 when 10,000 nodes take too long or the growth is not linear."""
    worst = growth = 0.0
    print("case         nodes   steps    min s median s    max s    cpu s  us/node  ratio")
    for case in CASES:
        base = 0.0
        for size in SIZES:
            desired, before = world(case, size)
            steps = len(plan(desired, before).steps)
            low, middle, high, cpu = measured(partial(plan, desired, before))
            base = base or cpu / size
            ratio = cpu / size / base
            print(
                f"{case:<10}{size:>8}{steps:>8}{low:>9.3f}{middle:>9.3f}{high:>9.3f}{cpu:>9.3f}"
                f"{cpu / size * 1e6:>9.1f}{ratio:>7.2f}"
            )
            if size == SIZES[-1]:
                worst, growth = max(worst, cpu), max(growth, ratio)
    good = worst < LIMIT and growth < LINEAR
    verdict = "ok" if good else "too slow"
    print(f"10,000 nodes: worst case {worst:.3f} s of CPU (limit {LIMIT} s), growth {growth:.2f}: {verdict}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
