"""All benchmarks, one table on stdout and in docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import autoscale
import backup
import campaign
import canary
import connections
import failover
import idle
import load
import loss
import plan
import releases
import replay
import up
from common import HEADER, ROOT, Row, print_rows, say

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin: written by make bench -->", "<!-- end -->"
PARTS: dict[str, Callable[[int], list[Row]]] = {
    "up": up.rows,
    "idle": idle.rows,
    "plan": plan.rows,
    "autoscale": autoscale.rows,
    "load": lambda runs: load.rows(3 * runs),
    "connections": connections.rows,
    "canary-simulated": canary.rows,
    "releases": releases.rows,
    "failover": lambda runs: failover.rows(3 * runs),
    "campaign": lambda runs: campaign.rows(8 * runs),
    "backup": backup.rows,
    "replay": replay.rows,
    "loss": loss.rows,
    "switchover": lambda runs: failover.rows(3 * runs, [failover.SWITCHOVER]),
}


def describe_machine() -> str:
    """Cores, memory, kernel: what figures depend on, and nothing that names the machine."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores = len(os.sched_getaffinity(0))
    kernel = platform.release().partition("-")[0]
    return f"{cores} cores ({model}), {memory:.0f} GiB, Linux {kernel}, Python {platform.python_version()}"


def render_page(page: str, found: dict[str, list[Row]], machine: str, day: str) -> str:
    """The page with the sections of the measured parts replaced; the others stay as they were measured."""
    before, _, rest = page.partition(BEGIN)
    old, _, after = rest.partition(END)
    sections = {name: text for name, _, text in (part.partition("\n") for part in old.split("### ")[1:])}
    for name, rows in found.items():
        table = "\n".join([HEADER, *(row.render() for row in rows)])
        sections[name] = f"\nMeasured on {day}: {machine}.\n\n{table}\n\n"
    text = "".join(f"### {name}\n{sections[name]}" for name in PARTS if name in sections)
    return f"{before}{BEGIN}\n\n{text}{END}{after}"


def main() -> int:
    """Run the parts; 1 when a target was missed or a part could not be measured."""
    words = argparse.ArgumentParser()
    words.add_argument("--runs", type=int, default=5)
    words.add_argument("--only", action="append", choices=list(PARTS))
    words.add_argument("--no-page", action="store_true", help="do not write docs/benchmarks.md")
    words.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="the campaign of this file, to its end; by default another",
    )
    given = words.parse_args()
    if given.resume:
        PARTS["campaign"] = lambda _: campaign.rows(0, given.resume)
    found: dict[str, list[Row]] = {}
    broken = []
    for name in given.only or PARTS:
        say(f"== {name}")
        try:
            found[name] = PARTS[name](given.runs)
        except (OSError, RuntimeError, ValueError) as error:
            broken.append(name)
            say(f"{name}: not measured: {error}")
    rows = [row for part in found.values() for row in part]
    print_rows(rows)
    if not given.no_page:
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        PAGE.write_text(render_page(PAGE.read_text(), found, describe_machine(), day))
    return 1 if broken or any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
