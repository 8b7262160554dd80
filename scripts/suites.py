"""Runs the named suites of tests one after the other and closes with one line over all of them.

One pytest for each suite, because real engines must not share the cores with the unit tests' workers. A suite
that fails does not keep the next one from running; a suite without a test has failed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITES = {
    # everything that starts no engine, the contract suite included
    "unit": ("-m", "not stack and not faults", "-n", "2", "--timeout", "120"),
    # engines and whole environments; they wait more than they compute, so three at a time fill two cores
    "stack": (
        "-m",
        "stack and not faults and not slow",
        "-n",
        "3",
        "--dist",
        "loadgroup",
        "--timeout",
        "300",
    ),
    # two files at a time: what they assert of times is generous, their figures are printed and not judged
    "faults": ("-n", "2", "-m", "faults and not slow", "--timeout", "300"),
    # the same and more, for minutes: `make faults`
    "slow": ("-m", "slow", "--timeout", "900"),
}
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b")


@dataclass
class Total:
    """What was counted over all suites."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    bad: list[str] = field(default_factory=list)


def parse_closing_line(line: str) -> dict[str, int]:
    """The counts in pytest's last line; an error counts as a failure."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for number, word in _COUNT.findall(line):
        key = {"error": "failed", "errors": "failed", "xfailed": "passed", "xpassed": "failed"}.get(
            word, word
        )
        counts[key] += int(number)
    return counts


def run_suite(name: str, extra: list[str]) -> tuple[int, dict[str, int]]:
    """Run one suite with its output going through; returns its exit status and counts."""
    argv = [sys.executable, "-m", "pytest", *SUITES[name], *extra]
    last = ""
    with subprocess.Popen(
        argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as pytest:
        if pytest.stdout is None:  # pragma: no cover - asked for above
            raise AssertionError
        for line in pytest.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            last = line if line.strip() else last
    return pytest.returncode, parse_closing_line(last)


def main(names: list[str], extra: list[str]) -> int:
    """Run the suites; 0 only when each of them ran at least one test and none failed."""
    total = Total()
    for name in names:
        print(f"\n== {name}", flush=True)
        began = time.monotonic()
        status, counts = run_suite(name, extra)
        total.passed += counts["passed"]
        total.failed += counts["failed"]
        total.skipped += counts["skipped"]
        if status != 0:
            total.bad.append(f"{name} (pytest exit status {status})")
        print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)
    if total.bad:
        print(f"\nnot good: {', '.join(total.bad)}")
    print(f"\n{total.passed} passed, {max(total.failed, len(total.bad))} failed, {total.skipped} skipped")
    return 1 if total.bad else 0


if __name__ == "__main__":
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    sys.exit(main(words[:cut] or list(SUITES), words[cut + 1 :]))
