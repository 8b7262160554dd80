"""The reports of an environment: one small file each, the newest are kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from asbuilt.operations.drill.record import FAULT, folder_of
from asbuilt.plan.drillreport import Report, from_json, to_json
from asbuilt.targets.local.files import read_json, write_atomically
from asbuilt.values.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.values.stage import Stage

KEPT: Final = 500


def save_report(stage: Stage, report: Report) -> Path:
    """Write one; the oldest beyond `KEPT` go."""
    folder = folder_of(stage.root)
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{report.id}.json"
    write_atomically(path, json.dumps(to_json(report), indent=1), durable=True)
    for old in _paths(stage)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def _paths(stage: Stage) -> list[Path]:
    """All of them, oldest first: their names sort by time."""
    return sorted(path for path in folder_of(stage.root).glob("2*.json") if path.name != FAULT)


def load_reports(stage: Stage) -> list[Report]:
    """All of them, oldest first; one that cannot be read is left out."""
    found = []
    for path in _paths(stage):
        raw = read_json(path)
        if raw is None:
            continue
        try:
            found.append(from_json(raw))
        except (KeyError, TypeError, ValueError):
            continue
    return found


def find_report(stage: Stage, name: str = "") -> Report:
    """One by its id or the name of its drill, by default the newest. Raises UsageError DRILL-009."""
    for report in reversed(load_reports(stage)):
        if not name or name in {report.id, report.drill}:
            return report
    raise UsageError(
        "DRILL-009",
        f"there is no report {name}".rstrip() + f" of {stage.environment}",
        hint=f"asbuilt drill {stage.environment} report --json lists all",
    )
