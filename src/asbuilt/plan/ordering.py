"""The order of the steps of a plan.

Rules, in the order in which they give way to each other:

1. Needs. What starts, restarts or is set up waits for the steps of what it needs. A need that is ready
   gives no wait, and a reload keeps its subject ready. A setup that has to be done again comes before the
   restart of those that need it; it does not cause one by itself: what a process is given shows in its
   digest.
2. Stops come last: after those that need the thing stopped or moved on, and after every step of the
   balancer, which takes the thing out of rotation.
3. Balancer and app servers. New app servers START before the balancer's RELOAD lets traffic to them. When
   none leaves, the app servers that RESTART do so after that RELOAD, so that the new ones carry the load.
   When some leave, the RESTARTs come first, then the RELOAD that takes the leavers out, then their STOP:
   leavers serve while the others restart. This is safe because a RELOAD never opens or closes a port
   (`listens` is part of the process digest, so a new route is a RESTART, and rule 1 puts that before those
   who need the route).
4. Rolling. Restarts of one kind go one at a time, helpers (Sentinel) first, then replicas, the primary last,
   and all of them after broken members of the kind were started. New members start in parallel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asbuilt.observe.snapshot import Health
from asbuilt.plan.step import StepKind, natural
from asbuilt.plan.stopping import rank

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asbuilt.observe.snapshot import Snapshot
    from asbuilt.plan.dag import Dag
    from asbuilt.plan.planner import Desired

APP: Final = "app"
BALANCER: Final = "load-balancer"


@dataclass(frozen=True, slots=True)
class Change:
    """A step before its place in the order is known."""

    kind: StepKind
    subject: str
    node_kind: str
    reason: str
    title: str = ""
    destructive: bool = False

    @property
    def id(self) -> str:
        """The step's id."""
        return f"{self.kind}:{self.subject}"


def needs_of(one: str, desired: Desired) -> tuple[str, ...]:
    """What a wanted workload or setup needs."""
    return desired.workloads[one].needs if one in desired.workloads else desired.setups[one].needs


def link_needs(dag: Dag, changes: Mapping[str, Change], desired: Desired, seen: Snapshot) -> None:
    """Rule 1, and of rule 2 the part about those that needed what is stopped."""
    for one, change in changes.items():
        if change.kind is not StepKind.STOP:
            for need in needs_of(one, desired):
                other = changes.get(need)
                if other is not None and _waits(change, other, seen):
                    dag.add(other.id, change.id)
        there = seen.workloads.get(one)
        if there is not None and change.kind in {StepKind.START, StepKind.RESTART, StepKind.RELOAD}:
            for need in there.needs:
                other = changes.get(need)
                if other is not None and other.kind is StepKind.STOP:
                    dag.add(change.id, other.id)


def _waits(change: Change, need: Change, seen: Snapshot) -> bool:
    if need.kind in {StepKind.RELOAD, StepKind.STOP}:
        return False
    if need.kind is StepKind.RESTART:
        # A reload does not care that something behind is away for a moment. Members of one kind that restart
        # are all there but one at any time, and their order is that of rule 4, unless the need is down now.
        ready = seen.workloads[need.subject].health is Health.READY
        together = ready and change.kind is StepKind.RESTART and change.node_kind == need.node_kind
        return change.kind is not StepKind.RELOAD and not together
    return True


def _of(changes: Mapping[str, Change], kind: StepKind, node_kind: str) -> list[Change]:
    return [c for c in changes.values() if c.kind is kind and c.node_kind == node_kind]


def _ids(changes: list[Change]) -> list[str]:
    return [change.id for change in changes]


def link_balancer(dag: Dag, changes: Mapping[str, Change]) -> None:
    """Rule 3, and of rule 2 that stops come after the balancer's steps.

    No circle: nothing waited for a reload before this.
    """
    reloads = _ids(_of(changes, StepKind.RELOAD, BALANCER))
    starts, restarts = _ids(_of(changes, StepKind.START, APP)), _ids(_of(changes, StepKind.RESTART, APP))
    leavers = _ids(_of(changes, StepKind.STOP, APP))
    dag.barrier(starts, reloads)
    if leavers:
        dag.barrier(restarts, reloads)
    else:
        before = dag.ancestors(reloads)
        dag.barrier(reloads, [restart for restart in restarts if restart not in before])
    stops = [c for c in changes.values() if c.kind is StepKind.STOP and c.node_kind != BALANCER]
    balancer = [c for c in changes.values() if c.node_kind == BALANCER and c.kind is not StepKind.STOP]
    dag.barrier(_ids(balancer), _ids(stops))
    dag.barrier(starts, leavers)


def link_tiers(dag: Dag, changes: Mapping[str, Change], seen: Snapshot) -> None:
    """Rule 4 but for the one-at-a-time, which follows the order found in the end."""
    kinds = sorted({c.node_kind for c in changes.values() if c.kind is StepKind.RESTART})
    for kind in kinds:
        restarts = _ids(_of(changes, StepKind.RESTART, kind))
        # A new app server is capacity to have first. A new replica is not: it may take hours to copy.
        starts = [
            c.id for c in _of(changes, StepKind.START, kind) if kind == APP or c.subject in seen.workloads
        ]
        dag.barrier_if_free(starts, restarts)
        dag.barrier(restarts, _ids(_of(changes, StepKind.STOP, kind)))


def order_key(change: Change, desired: Desired, seen: Snapshot) -> tuple[object, ...]:
    """Primaries as late as their needs let them, stops after everything else."""
    late, helper = 0, False
    if change.kind is StepKind.STOP:
        late = 2
    elif change.kind is not StepKind.SETUP:
        workload = desired.workloads[change.subject]
        helper = workload.id != workload.node
        there = seen.workloads.get(change.subject)
        if change.kind is StepKind.RESTART and there is not None and there.role == "primary":
            late = 1
    first = -rank(change.node_kind) if change.node_kind else -1000
    return (late, first if late < 2 else -first, not helper, natural(change.subject), change.id)  # noqa: PLR2004
