"""How long `up` takes: beside a script that starts the same processes, and again when nothing changed.

Also the start-up of the command line itself, beside a bare Python, in pairs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

from common import BIN, Bench, Environment, Row, environment, print_rows, say, until
from failover import node_tree
from script import read_workloads, start_and_stop
from shop import answered, copy_shop, running_shop
from whole import Whole

_SLOW = 20.0
"""Seconds after which a round shows its steps: the environment is gone when somebody asks why."""


def _timed(ours: Environment, *words: str) -> tuple[float, str]:
    began = time.monotonic()
    done = ours.run(*words)
    return time.monotonic() - began, done.stdout


def first_up(runs: int) -> list[float]:
    """Everything from an empty home, the release's build and the database's initialisation included."""
    times = []
    for turn in range(runs):
        with Bench() as bench:
            project = copy_shop(bench.folder)
            began = time.monotonic()
            with environment(bench, project, "production") as ours:
                url = ours.status()["entrypoints"]["https"] + "/health"
                until(lambda url=url: answered(url), "the first answer", every=0.02)  # type: ignore[misc] # bound now
                times.append(time.monotonic() - began)
        say(f"up: first: {turn + 1} of {runs}: {times[-1]:.1f} s")
    return times


def timed_up(ours: Environment, whole: Whole) -> float:
    """Seconds until `up` has returned and the environment is whole."""
    began = time.monotonic()
    done = ours.run("up", ours.name)
    returned = time.monotonic() - began
    until(whole.reached, "the environment to be whole")
    seconds = time.monotonic() - began
    if seconds > _SLOW:
        say(f"up: {seconds:.1f} s, of which {returned:.1f} s until it returned:\n{done.stderr}")
    return seconds


def rows_up(runs: int) -> list[Row]:
    """`up` and the script take turns on the same data; then `up` on what is up."""
    ups, scripts, again = [], [], []
    with running_shop() as ours:
        status = ours.status()
        url = status["entrypoints"]["https"] + "/health"
        workloads, root = read_workloads(ours.root()), ours.root()
        whole = Whole.of(root, workloads, url)
        for turn in range(runs):
            ours.run("down", ours.name)
            scripts.append(start_and_stop(root, workloads, whole))
            until(
                lambda: not any(node_tree(ours, n["id"]) for n in status["nodes"]),
                "the script's processes to end",
            )
            ups.append(timed_up(ours, whole))
            say(f"up: {turn + 1} of {runs}: script {scripts[-1]:.1f} s, up {ups[-1]:.1f} s")
        for _ in range(runs):
            seconds, text = _timed(ours, "up", ours.name, "--json")
            steps = json.loads(text).get("steps")
            if steps:
                raise RuntimeError(f"up without a change did {steps}")
            again.append(seconds)
        statuses = paired([str(BIN / "asbuilt"), "status", ours.name], ours, runs * 4)
    ratio = statistics.median(ups) / statistics.median(scripts)
    beside = f"{ratio:.2f} x the script"
    return [
        Row("the script that starts the same processes", "s", tuple(scripts)),
        Row("up production", "s", tuple(ups), beside, "1.5 x the script", ratio <= 1.5),
        Row("up again without a change", "s", tuple(again), "", "below 1 s, no step", max(again) < 1),
        ratio_row("asbuilt status", statuses, 8.0),
    ]


def paired(argv: list[str], ours: Environment | None, runs: int) -> list[tuple[float, float]]:
    """Seconds of the command and of `python -c pass`, in turns."""
    env = {"PATH": "/usr/bin:/bin", "ASBUILT_HOME": str(ours.home) if ours else "/nonexistent"}
    cwd = ours.project if ours else None
    found = []
    for _ in range(runs):
        times = []
        for words in (argv, [sys.executable, "-c", "pass"]):
            began = time.perf_counter()
            subprocess.run(words, cwd=cwd, env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
        found.append((times[0], times[1]))
    return found


def ratio_row(name: str, pairs: list[tuple[float, float]], limit: float) -> Row:
    """The command's time, beside the bare Python of the same pairs."""
    ratio = statistics.median(a / b for a, b in pairs)
    beside = f"{ratio:.1f} x python -c pass"
    values = tuple(1000 * a for a, _ in pairs)
    return Row(name, "ms", values, beside, f"below {limit:g} x python -c pass", ratio < limit)


def rows(runs: int = 5) -> list[Row]:
    """All of it."""
    first = first_up(runs)
    first_row = Row("first up production, build included", "s", tuple(first), "", "aim below 12 s")
    helps = paired([str(BIN / "asbuilt"), "--help"], None, runs * 4)
    return [first_row, *rows_up(runs), ratio_row("asbuilt --help", helps, 4.0)]


if __name__ == "__main__":
    words = argparse.ArgumentParser()
    words.add_argument("--runs", type=int, default=5)
    words.add_argument("--help-only", action="store_true", help="only the start-up of the command line")
    given = words.parse_args()
    if given.help_only:
        table = [
            ratio_row("asbuilt --help", paired([str(BIN / "asbuilt"), "--help"], None, given.runs * 4), 4.0)
        ]
    else:
        table = rows(given.runs)
    print_rows(table)
    sys.exit(any(row.met is False for row in table))
