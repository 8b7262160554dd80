"""`asbuilt status`: what is there, at once. Imports neither the schema nor the engines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from asbuilt.cli.output import paint, print_json, render_table
from asbuilt.context import choose_stage, find_spec
from asbuilt.operations.status import read_status
from asbuilt.values.errors import EXIT_DONE, EXIT_FAILED

if TYPE_CHECKING:
    from argparse import Namespace

    from asbuilt.values.stage import Stage

_HEAD = ("NODE", "KIND", "ROLE", "HEALTH", "ADDRESS", "RELEASE", "PID", "ENGINE")


def run(arguments: Namespace) -> int:
    """Print the status; exit 1 when something is not healthy, so that scripts can ask."""
    stage = choose_stage(find_spec(arguments.file), arguments.environment)
    if arguments.recovery:
        return _show_recovery(stage, as_json=arguments.json)
    while True:
        status = read_status(stage)
        if arguments.watch:
            print("\x1b[2J\x1b[H", end="")
        if arguments.json:
            print_json(status)
        else:
            print(_render(status))
        if not arguments.watch:
            return EXIT_DONE if status["healthy"] else EXIT_FAILED
        time.sleep(1)


def _show_recovery(stage: Stage, *, as_json: bool) -> int:
    from datetime import UTC, datetime

    from asbuilt.operations.drill.contract import PROMISES
    from asbuilt.operations.drill.reports import load_reports
    from asbuilt.plan.drilltext import build_recovery, render_recovery

    rows = build_recovery(PROMISES, load_reports(stage), datetime.now(UTC))
    if as_json:
        print_json({"name": stage.name, "environment": stage.environment, "recovery": rows})
    else:
        table = render_recovery(rows)
        print(render_table(table.head, table.rows))
    return EXIT_DONE


def _render(status: dict[str, Any]) -> str:
    nodes: list[dict[str, Any]] = status["nodes"]
    title = f"{status['name']} {status['environment']} on {status['target']}"
    word = "healthy" if status["healthy"] else ("not running" if not nodes else "NOT HEALTHY")
    lines = [f"{title}: {word}, release {status['release'] or 'none'}"]
    lines += [
        f"  {name:<6}{address}" for name, address in sorted(status["entrypoints"].items(), reverse=True)
    ]
    if nodes:
        rows = [
            (
                node["id"],
                node["kind"],
                node["role"] or "-",
                node["health"],
                node["address"] or "-",
                node["release"] or "-",
                str(node["pid"] or "-"),
                node["engine"],
            )
            for node in nodes
        ]
        table = render_table(_HEAD, rows).splitlines()
        lines += [
            "",
            table[0],
            *(_paint_health(line, row[3]) for line, row in zip(table[1:], rows, strict=True)),
        ]
    lines += [f"  {node['id']}: {node['problem']}" for node in nodes if node.get("problem")]
    lines += [f"note: {note}" for note in status["notes"]]
    if status["scaling"]:
        lines.append(f"scaling: {status['scaling']['reason']}")
    operation = status["operation"]
    if operation:
        lines.append(f"under way: {operation['verb']} by {operation['owner']} since {operation['since']}")
    return "\n".join(lines)


def _paint_health(line: str, health: str) -> str:
    return line.replace(f" {health} ", f" {paint(health, health)} ", 1)
