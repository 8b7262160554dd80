"""`asbuilt drill ENV --all`: every drill that can be had here, one after the other, until one is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.operations.drill.contract import find_obstacle, runs_of
from asbuilt.operations.drill.ground import open_ground
from asbuilt.operations.drill.registry import DRILLS
from asbuilt.operations.drill.run import Confirm, Wish, run_drill
from asbuilt.operations.progress import Event, Tell
from asbuilt.plan.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.operations.drill.ground import Ground
    from asbuilt.plan.drillreport import Report
    from asbuilt.values.stage import Stage


def list_wishes(ground: Ground) -> list[Wish]:
    """What `--all` runs in this environment."""
    return [
        Wish(drill, variant)
        for drill in DRILLS
        for variant in runs_of(drill)
        if not find_obstacle(drill, variant, ground.prepared.architecture)
    ]


def run_all(
    stage: Stage, repeat: int, patience: float | None, tell: Tell, confirm: Confirm
) -> Iterator[Report]:
    """Each report as it comes. A drill that was stopped is the last one; one that failed is not."""
    wishes = list_wishes(open_ground(stage))
    tell(Event("note", "", f"{len(wishes)} drills: {', '.join(wish.name for wish in wishes)}"))
    confirm(f"this breaks one part of {stage.environment} after the other on purpose: {len(wishes)} drills")
    for wish in wishes:
        report = run_drill(stage, Wish(wish.drill, wish.variant, repeat, patience), tell, confirm)
        yield report
        if report.decision.verdict is Verdict.ABORTED:
            return
