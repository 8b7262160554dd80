"""`asbuilt doctor`: what this machine offers, what is missing, and the one command that fixes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.cli.output import paint, print_json, render_table
from asbuilt.context import find_home, find_spec
from asbuilt.operations.doctor import examine
from asbuilt.values.errors import EXIT_DONE, EXIT_FAILED

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Print the findings; exit 1 when something needed is missing."""
    findings = examine(find_spec(arguments.file), arguments.environment, find_home())
    good = all(finding.good for finding in findings)
    if arguments.json:
        rows = [
            {"about": f.about, "good": f.good, "found": f.found, "why": f.why, "fix": f.fix} for f in findings
        ]
        print_json({"good": good, "findings": rows})
        return EXIT_DONE if good else EXIT_FAILED
    table = render_table(
        ("", "ABOUT", "FOUND", "WHY"),
        [("ok" if f.good else "MISSING", f.about, f.found, f.why) for f in findings],
    ).splitlines()
    print(table[0])
    for line, finding in zip(table[1:], findings, strict=True):
        print(paint(line, "ready" if finding.good else "failing") if not finding.good else line)
        if finding.fix:
            print(f"         fix: {finding.fix}")
    return EXIT_DONE if good else EXIT_FAILED
