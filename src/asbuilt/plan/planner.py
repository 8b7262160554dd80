"""From what is wanted and what is seen to the steps between them: pure, deterministic, linear.

The rules of the order are those of `ordering`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from asbuilt.observe.snapshot import Health, Seen, Snapshot
from asbuilt.plan.dag import Dag, find_cycle
from asbuilt.plan.ordering import Change, link_balancer, link_needs, link_tiers, needs_of, order_key
from asbuilt.plan.step import Plan, Step, StepKind, natural
from asbuilt.plan.stopping import link_stops, rank, running
from asbuilt.plan.workload import Setup, Workload, digests
from asbuilt.values.errors import AsbuiltError

KEEPS_DATA: Final = frozenset({"database", "cache", "objects", "files", "consensus"})
"""Kinds whose members hold a copy of data: stopping one for good is destructive."""


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be.

    Args:
        workloads: what should run, by id.
        setups: what should have been done, by id.
        release: id of the release that should take traffic, or None.
        satisfied: ids of the setups that a look at reality found done.
    """

    workloads: Mapping[str, Workload] = field(default_factory=dict)
    setups: Mapping[str, Setup] = field(default_factory=dict)
    release: str | None = None
    satisfied: frozenset[str] = frozenset()


def plan(desired: Desired, seen: Snapshot) -> Plan:
    """The steps from `seen` to `desired`. Raises AsbuiltError PLAN-001 for unknown needs and circles."""
    check_needs(desired)
    changes = _changes(desired, seen)
    dag = Dag(change.id for change in changes.values())
    link_needs(dag, changes, desired, seen)
    link_balancer(dag, changes)
    link_tiers(dag, changes, seen)
    link_stops(dag, (seen.workloads[c.subject] for c in changes.values() if c.kind is StepKind.STOP))
    keys = {change.id: order_key(change, desired, seen) for change in changes.values()}
    ordered = dag.order(keys.__getitem__)
    needs = dag.needs(ordered)
    by_id = {change.id: change for change in changes.values()}
    lanes: dict[str, list[str]] = {}
    for step in ordered:
        if by_id[step].kind is StepKind.RESTART:
            lanes.setdefault(by_id[step].node_kind, []).append(step)
    for lane in lanes.values():
        for first, then in pairwise(lane):
            needs[then].add(first)
    return Plan(tuple(_step(by_id[step], needs[step]) for step in ordered))


def plan_down(seen: Snapshot) -> Plan:
    """The steps that stop everything that runs, in the order of `stopping`. Nothing is lost: data stays."""
    stopping = {one: s for one, s in seen.workloads.items() if running(s)}
    changes = {f"stop:{one}": Change(StepKind.STOP, one, s.kind, "it runs") for one, s in stopping.items()}
    dag = Dag(changes)
    link_stops(dag, stopping.values())
    ordered = dag.order(lambda step: (rank(changes[step].node_kind), natural(changes[step].subject)))
    needs = dag.needs(ordered)
    return Plan(tuple(_step(changes[step], needs[step]) for step in ordered))


def check_needs(desired: Desired) -> None:
    """Raise AsbuiltError PLAN-001 for a need that names nothing, a name used twice, a circle of needs."""
    twice = sorted(set(desired.workloads) & set(desired.setups))
    if twice:
        raise AsbuiltError("PLAN-001", f"{twice[0]!r} is the name of both a workload and a setup")
    edges: dict[str, list[str]] = {}
    for one in sorted([*desired.workloads, *desired.setups]):
        edges[one] = sorted(needs_of(one, desired))
        for need in edges[one]:
            if need not in desired.workloads and need not in desired.setups:
                raise AsbuiltError(
                    "PLAN-001",
                    f"{one} needs {need}, which is not part of the environment",
                    where=one,
                    hint="this is a mistake of an engine, not of your file: please report it",
                )
    circle = find_cycle(edges)
    if circle:
        raise AsbuiltError(
            "PLAN-001",
            f"needs go in a circle: {' -> '.join(circle)}",
            where=circle[0],
            hint="this is a mistake of an engine, not of your file: please report it",
        )


def setup_pending(setup: Setup, desired: Desired, seen: Snapshot) -> str:
    """Why the setup has to be done; empty when it has not. Without `remembered` only reality is asked."""
    known = seen.setups.get(setup.id)
    if setup.remembered and known is None:
        return "it was never done"
    if setup.remembered and known != setup.key:
        return "what it is made from changed"
    return "" if setup.id in desired.satisfied else "it is not in place"


def difference(workload: Workload, seen: Seen | None) -> tuple[StepKind, str] | None:
    """What one wanted workload needs, and why; None when it runs as wanted and is ready."""
    if seen is None:
        return StepKind.START, "it does not run yet"
    problem = f": {seen.problem}" if seen.problem else ""
    if seen.health is Health.STOPPED or (seen.health is Health.FAILING and seen.pid is None):
        return StepKind.START, f"it is {seen.health}{problem}"
    digest, process_digest = digests(workload)
    if seen.digest == digest:
        # Not ready, but as wanted: the step waits for it, so that nothing goes on before its needs are ready.
        return None if seen.health is Health.READY else (StepKind.START, f"it is {seen.health}{problem}")
    if seen.process_digest == process_digest:
        reloads = workload.reload is not None and seen.health is Health.READY
        return StepKind.RELOAD if reloads else StepKind.RESTART, "its configuration changed"
    if workload.release is not None and seen.release is not None and workload.release != seen.release:
        return StepKind.RESTART, f"release {workload.release} replaces {seen.release}"
    return StepKind.RESTART, "its command, environment or limits changed"


def _changes(desired: Desired, seen: Snapshot) -> dict[str, Change]:
    """One change for each subject that needs one, by subject."""
    found: dict[str, Change] = {}
    for one, setup in desired.setups.items():
        reason = setup_pending(setup, desired, seen)
        if reason:
            found[one] = Change(StepKind.SETUP, one, "", reason, setup.title)
    for one, workload in desired.workloads.items():
        change = difference(workload, seen.workloads.get(one))
        if change is not None:
            found[one] = Change(change[0], one, workload.kind, change[1])
    for one, there in seen.workloads.items():
        if one not in desired.workloads and one not in found and running(there):
            # A helper (Sentinel) of a node holds no copy of the data.
            copy = there.kind in KEEPS_DATA and there.id == there.node
            found[one] = Change(StepKind.STOP, one, there.kind, "it is not wanted any more", destructive=copy)
    return found


def _step(change: Change, needs: set[str]) -> Step:
    return Step(
        id=change.id,
        kind=change.kind,
        subject=change.subject,
        node_kind=change.node_kind,
        title=change.title or f"{change.kind} {change.subject}",
        reason=change.reason,
        needs=tuple(sorted(needs, key=natural)),
        destructive=change.destructive,
    )
