"""When a drill must stop: the fault is taken away before it does more harm than was agreed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from asbuilt.graph.model import Kind, Purpose

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from asbuilt.graph.model import Architecture

ROOM: Final = 1_000_000_000
"""Bytes that must stay free on the disk."""
STRANGE: Final = 10.0
"""Seconds that a node outside the blast radius may be down: a hiccup is none of our business."""
_ROUTED: Final = frozenset({Kind.DATABASE, Kind.CACHE})
"""What applications reach through the load balancer."""
_DOWN: Final = frozenset({"failing", "stopped"})


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the patient does.

    Args:
        now: monotonic clock.
        served: when each kind of probe was answered last.
        free: bytes of disk.
        down: since when each node outside the blast radius is down.
    """

    now: float
    served: Mapping[str, float]
    free: int
    down: Mapping[str, float]


def find_stop(vitals: Vitals, patience: float) -> str:
    """Why the drill has to stop now; empty when it may go on."""
    for name, at in sorted(vitals.served.items()):
        if vitals.now - at > patience:
            return f"no {name} for more than {patience:g} s"
    for node, since in sorted(vitals.down.items()):
        if vitals.now - since > STRANGE:
            return f"a second failure: {node} is down and has no part in this drill"
    if vitals.free < ROOM:
        return f"the disk is nearly full: {vitals.free / 1e9:.1f} GB are free"
    return ""


def find_dependents(architecture: Architecture, hurt: Iterable[str]) -> frozenset[str]:
    """Nodes that may fail because those do: they call them, directly or through the load balancer.

    The load balancer itself has to stand.
    """
    broken, balancers = set(hurt), {node.id for node in architecture.of(Kind.LOAD_BALANCER)}
    calls = [edge for edge in architecture.edges if edge.purpose in {Purpose.CALL, Purpose.ARCHIVE}]
    found = {edge.source for edge in calls if edge.target in broken}
    if any(architecture.by_id[one].kind in _ROUTED for one in broken if one in architecture.by_id):
        found |= {edge.source for edge in calls if edge.target in balancers}
    return frozenset(found) - balancers


def find_down(nodes: Iterable[Mapping[str, Any]], blast: Collection[str]) -> tuple[str, ...]:
    """Nodes that are down and outside the blast radius."""
    return tuple(sorted(n["id"] for n in nodes if n["health"] in _DOWN and n["id"] not in blast))
