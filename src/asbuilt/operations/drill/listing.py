"""What can be drilled in an environment, and what the last drill of each showed, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asbuilt.graph.build import build
from asbuilt.operations.drill.contract import Drill, find_obstacle, runs_of
from asbuilt.operations.drill.registry import DRILLS
from asbuilt.operations.drill.reports import load_reports
from asbuilt.spec.load import load

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture
    from asbuilt.plan.drillreport import Report
    from asbuilt.values.stage import Stage


def list_drills(stage: Stage) -> list[dict[str, Any]]:
    """All, in the order of `--all`. Also for an environment that is not up."""
    architecture = build(load(stage.file).spec, stage.environment)
    reports = {report.drill: report for report in load_reports(stage)}
    return [_describe(drill, architecture, reports.get(drill.name)) for drill in DRILLS]


def _describe(drill: Drill, architecture: Architecture, last: Report | None) -> dict[str, Any]:
    return {
        "name": drill.name,
        "title": drill.title,
        "variants": list(runs_of(drill)) if drill.variants else [],
        "unsupported": {name or "all": why for name, why in sorted(drill.unsupported.items())},
        "obstacle": find_obstacle(drill, (*runs_of(drill), "")[0], architecture),
        "procedure": drill.promise.procedure,
        "promised_seconds": drill.promise.rto,
        "takes_seconds": drill.about,
        "last": None
        if last is None
        else {"id": last.id, "verdict": str(last.decision.verdict), "ended": last.ended},
    }
