"""What must be true of every architecture, whatever the spec says.

Pure and linear. Invariant: a finding is one sentence, the findings come in a fixed order, and a sound
architecture has none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Kind, Purpose, Role, Zone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.graph.model import Architecture, Edge, Node

_KIND_ORDER: Final = {kind: index for index, kind in enumerate(Kind)}
_PURPOSE_ORDER: Final = {purpose: index for index, purpose in enumerate(sorted(Purpose))}


def check(architecture: Architecture) -> tuple[str, ...]:
    """Every rule of the structure that `architecture` breaks; empty when it is sound."""
    return (
        *_check_ids(architecture),
        *_check_ends(architecture),
        *_check_zones(architecture),
        *_check_reached(architecture),
        *_check_roles(architecture),
        *_check_order(architecture),
    )


def _check_ids(architecture: Architecture) -> Iterator[str]:
    for identity, times in sorted(Counter(node.id for node in architecture.nodes).items()):
        if times > 1:
            yield f"{times} nodes have the id {identity}"
    for key, times in sorted(Counter(map(_key, architecture.edges)).items()):
        if times > 1:
            source, target, port, purpose, service = key
            yield f"{times} edges {purpose} from {source} to {service or target} on {target}:{port}"


def _key(edge: Edge) -> tuple[str, str, int, str, str]:
    return edge.source, edge.target, edge.port, edge.purpose, edge.service


def _check_ends(architecture: Architecture) -> Iterator[str]:
    known = architecture.by_id
    for edge in architecture.edges:
        for end in (edge.source, edge.target):
            if end not in known:
                yield f"the edge {edge.source} -> {edge.target} ends at {end}, which is no node"
        if edge.source == edge.target:
            yield f"{edge.source} has an edge to itself"


def _check_zones(architecture: Architecture) -> Iterator[str]:
    balanced = bool(architecture.of(Kind.LOAD_BALANCER))
    for edge in architecture.edges:
        source, target = architecture.by_id.get(edge.source), architecture.by_id.get(edge.target)
        if source is not None and target is not None and not _may_cross(source, target, balanced=balanced):
            yield f"{source.id} in the {source.zone} zone may not call {target.id} in the {target.zone} zone"


def _may_cross(source: Node, target: Node, *, balanced: bool) -> bool:
    """Whether a call from one zone to the other is allowed at all.

    The internet ends at the public zone; without a load balancer (a developer's machine) at the app servers.
    Of the public zone only the load balancer goes further, and of the outer zones only it and the app servers
    reach the databases. What takes the backups reaches everything but the public zone, and lives in the
    innermost one.
    """
    if source.zone is Zone.INTERNET:
        return target.zone is Zone.PUBLIC or (not balanced and target.kind is Kind.APP)
    if source.zone is Zone.PUBLIC:
        return target.zone is Zone.PUBLIC or source.kind is Kind.LOAD_BALANCER
    if source.zone is Zone.PRIVATE:
        return source.kind is Kind.APP and target.zone is not Zone.INTERNET
    if source.kind is Kind.BACKUP:
        return target.zone is not Zone.PUBLIC
    return target.zone is Zone.DATABASE


def _check_reached(architecture: Architecture) -> Iterator[str]:
    follow: dict[str, list[str]] = defaultdict(list)
    for edge in architecture.edges:
        follow[edge.source].append(edge.target)
    # what the users call, and what acts by the clock
    open_ends = [node.id for kind in (Kind.USERS, Kind.BACKUP) for node in architecture.of(kind)]
    reached = set(open_ends)
    while open_ends:
        for target in follow[open_ends.pop()]:
            if target not in reached:
                reached.add(target)
                open_ends.append(target)
    for node in architecture.nodes:
        if node.id not in reached:
            yield f"nothing that users do, and no backup, reaches {node.id}"


def _check_roles(architecture: Architecture) -> Iterator[str]:
    for kind in (Kind.DATABASE, Kind.CACHE):
        members = architecture.of(kind)
        primaries = [node.id for node in members if node.role is Role.PRIMARY]
        if members and len(primaries) != 1:
            yield f"{kind} starts with {len(primaries)} primaries instead of one"
    if bool(architecture.of(Kind.CONSENSUS)) != (len(architecture.of(Kind.DATABASE)) > 1):
        yield "a consensus store is there exactly when the database is replicated, and this is not so"


def _check_order(architecture: Architecture) -> Iterator[str]:
    for one, two in pairwise(architecture.nodes):
        if (_KIND_ORDER[one.kind], one.number) >= (_KIND_ORDER[two.kind], two.number):
            yield f"{two.id} stands behind {one.id}"
    position = {node.id: index for index, node in enumerate(architecture.nodes)}

    def rank(edge: Edge) -> tuple[int, int, int, int, str]:
        source, target = position.get(edge.source, -1), position.get(edge.target, -1)
        return source, target, edge.port, _PURPOSE_ORDER[edge.purpose], edge.service

    for first, second in pairwise(architecture.edges):
        if rank(first) > rank(second):
            yield f"the edge {second.source} -> {second.target} stands behind {first.source}'s"
