"""The order in which things stop: what needs something stops before it.

The needs that each process was started with decide. Where they say nothing, the kind does: apps, the load
balancer, databases, caches, consensus, files, and the object store last, because PostgreSQL archives into it
while it shuts down. Members of one kind stop in parallel, helpers of a node (Sentinel) before the nodes, so
that no failover starts because of a stop.

Invariant: a circle among the needs (processes of different times can have one) never prevents stopping.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from asbuilt.observe.snapshot import Health, Seen
from asbuilt.plan.dag import Dag
from asbuilt.plan.step import natural

if TYPE_CHECKING:
    from collections.abc import Iterable

_RANKS: Final = {
    "app": 0,
    "load-balancer": 2,
    "waf": 3,
    "cdn": 3,
    "dns": 3,
    "mock": 4,
    "database": 6,
    "cache": 7,
    "consensus": 8,
    "files": 9,
    "objects": 10,
}
_OTHER: Final = 5


def rank(kind: str) -> int:
    """Place of a kind in the order of stopping; starting goes the other way round."""
    return _RANKS.get(kind, _OTHER)


def running(seen: Seen) -> bool:
    """True when there is something to stop: a process, or one that would be started again."""
    return seen.health is not Health.STOPPED or seen.pid is not None


def link_stops(dag: Dag, stopping: Iterable[Seen]) -> None:
    """Add the order of stopping to `dag`, which has a point `stop:ID` for each of `stopping`."""
    by_id = {seen.id: seen for seen in stopping}
    needs = {
        seen.id: [need for need in seen.needs if need in by_id and not _peers(seen, by_id[need])]
        for seen in by_id.values()
    }
    inner = Dag(by_id)
    for one, its in needs.items():
        for need in its:
            inner.add(one, need)
    ranks = {one: (rank(seen.kind), seen.id == seen.node) for one, seen in by_id.items()}
    ordered = inner.order(lambda one: (ranks[one], natural(one)))
    position = {one: number for number, one in enumerate(ordered)}
    for one in ordered:
        for need in needs[one]:
            if position[need] > position[one]:
                # What others need stops after them, whatever its kind is.
                ranks[need] = max(ranks[need], ranks[one])
                dag.add(f"stop:{one}", f"stop:{need}")
    groups: dict[tuple[int, bool], list[str]] = {}
    for one in ordered:
        groups.setdefault(ranks[one], []).append(f"stop:{one}")
    for earlier, later in pairwise(sorted(groups)):
        dag.barrier(groups[earlier], groups[later])


def _peers(one: Seen, other: Seen) -> bool:
    """Members of one cluster stop together: one after the other would be a failover each time."""
    return one.kind == other.kind and one.id == one.node and other.id == other.node
