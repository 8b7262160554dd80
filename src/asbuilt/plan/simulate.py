"""What a step would do to a snapshot: pure, for tests, for `--dry-run` and for checking rules ahead.

Invariant: applying a step twice gives what applying it once gives.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from asbuilt.observe.snapshot import Health, Seen, Snapshot
from asbuilt.plan.ordering import APP
from asbuilt.plan.step import Step, StepKind

if TYPE_CHECKING:
    from asbuilt.plan.planner import Desired
    from asbuilt.plan.workload import Workload

_PID = 1
"""Stands for "some process": a simulation has none."""


def begin(step: Step, snapshot: Snapshot, desired: Desired) -> Snapshot:
    """The snapshot while `step` is under way."""
    if step.kind is StepKind.STOP:
        there = snapshot.workloads.get(step.subject)
        return snapshot if there is None else _with(snapshot, replace(there, health=Health.DRAINING))
    if step.kind in {StepKind.START, StepKind.RESTART}:
        seen = _ready(desired.workloads[step.subject], snapshot.workloads.get(step.subject))
        return _with(snapshot, replace(seen, health=Health.STARTING, pid=None))
    return snapshot


def apply(step: Step, snapshot: Snapshot, desired: Desired) -> Snapshot:
    """The snapshot after `step` succeeded."""
    if step.kind is StepKind.SETUP:
        return replace(snapshot, setups={**snapshot.setups, step.subject: desired.setups[step.subject].key})
    there = snapshot.workloads.get(step.subject)
    if step.kind is StepKind.STOP:
        if there is None:
            return snapshot
        return _with(snapshot, replace(there, health=Health.STOPPED, pid=None, role=None, problem=""))
    after = _with(snapshot, _ready(desired.workloads[step.subject], there))
    apps = [w for w in desired.workloads.values() if w.kind == APP]
    there_now = (after.workloads.get(w.id) for w in apps)
    serving = [s for s in there_now if s is not None and s.health is Health.READY]
    if apps and len(serving) == len(apps) and all(s.release == desired.release for s in serving):
        return replace(after, release=desired.release)
    return after


def found_done(step: Step, desired: Desired) -> Desired:
    """`desired` as a look at reality would make it after `step`: a setup that was done is satisfied."""
    if step.kind is not StepKind.SETUP:
        return desired
    return replace(desired, satisfied=desired.satisfied | {step.subject})


def _with(snapshot: Snapshot, seen: Seen) -> Snapshot:
    return replace(snapshot, workloads={**snapshot.workloads, seen.id: seen})


def _ready(workload: Workload, there: Seen | None) -> Seen:
    return Seen(
        id=workload.id,
        node=workload.node,
        kind=workload.kind,
        engine=workload.engine,
        digest=workload.digest,
        process_digest=workload.process_digest,
        health=Health.READY,
        role=there.role if there is not None else None,
        pid=there.pid if there is not None and there.pid is not None else _PID,
        address=workload.address,
        zone=workload.zone,
        release=workload.release,
        since=there.since if there is not None else "",
        restarts=there.restarts if there is not None else 0,
        needs=workload.needs,
        limited_by=there.limited_by if there is not None else "none",
    )
