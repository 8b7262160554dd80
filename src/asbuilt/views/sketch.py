"""What a diagram shows, before it has a form: frames, boxes and arrows. Mermaid and SVG both draw this.

Invariant: every node stands in exactly one box, and every edge is told by an arrow or by a group (whose
members all talk with each other). So nothing of the architecture is left out of a drawing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Architecture, Edge, Kind, Node, Purpose, Role

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHOWN_APPS: Final = 5
"""App servers drawn one by one; of more than this and one, the rest shares a box."""

_TIERS: Final[tuple[tuple[str, tuple[Kind, ...]], ...]] = (
    ("Load Balancing Tier", (Kind.DNS, Kind.CDN, Kind.WAF, Kind.LOAD_BALANCER)),
    ("Application Tier", (Kind.APP,)),
    ("Data Tier", (Kind.DATABASE, Kind.CACHE, Kind.CONSENSUS)),
    ("Storage Tier", (Kind.OBJECTS, Kind.FILES, Kind.ARCHIVE, Kind.BACKUP)),
    ("Other Systems", (Kind.MOCK,)),
)
_GROUPS: Final = {Kind.DATABASE: "PostgreSQL Cluster", Kind.CACHE: "Redis Cluster"}
_ROUTES: Final = {
    "route-primary": (Kind.DATABASE, Role.PRIMARY),
    "route-replica": (Kind.DATABASE, Role.REPLICA),
    "route-cache": (Kind.CACHE, Role.PRIMARY),
}


@dataclass(frozen=True, slots=True)
class Look:
    """How a node was seen: the health as a word, and the role it has now, if it has one."""

    health: str
    role: str | None = None


class Style(StrEnum):
    """How an arrow looks, because of what it means."""

    CALL = "call"
    REPLICATION = "replication"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Box:
    """A node, or several app servers that share a box.

    Args:
        id: the node's id, or `app-more`.
        kind: what it is.
        title: words for people.
        detail: one short line: limits, or that it is not supported yet.
        nodes: ids of the nodes it stands for.
        role: the role it has now, or starts with.
        supported: False for what is drawn and not run.
        health: the word of its health; empty when nothing was looked at.
    """

    id: str
    kind: Kind
    title: str
    detail: str
    nodes: tuple[str, ...]
    role: str | None
    supported: bool = True
    health: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Members of one cluster. `edges` are those between members that no arrow shows."""

    id: str
    title: str
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class Tier:
    """A frame of the source document: groups first, then single boxes."""

    title: str
    groups: tuple[Group, ...]
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Arrow:
    """One arrow between boxes (or groups), and the edges it tells of."""

    source: str
    target: str
    style: Style
    edges: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class Sketch:
    """A whole diagram. `outside` stands above the frame: who uses it."""

    title: str
    outside: tuple[Box, ...]
    tiers: tuple[Tier, ...]
    arrows: tuple[Arrow, ...]

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Every box, from the top."""
        inside = (b for t in self.tiers for b in (*(m for g in t.groups for m in g.boxes), *t.boxes))
        return (*self.outside, *inside)


def sketch(architecture: Architecture, looks: Mapping[str, Look] | None = None) -> Sketch:
    """The diagram of `architecture`; with `looks`, as it is now: health in words, and the roles of today."""
    roles = current_roles(architecture, looks or {})
    boxes = _boxes(architecture, roles, looks)
    place = {node: box.id for box in boxes for node in box.nodes}
    clusters = {kind: f"{kind}-cluster" for kind in _GROUPS if len(architecture.of(kind)) > 1}
    arrows, within = _arrows(architecture, place, roles, clusters)
    tiers = []
    for title, kinds in _TIERS:
        inside = [box for box in boxes if box.kind in kinds]
        groups = [
            Group(name, _GROUPS[kind], tuple(b for b in inside if b.kind is kind), tuple(within[kind]))
            for kind, name in clusters.items()
            if kind in kinds
        ]
        if inside:
            single = tuple(box for box in inside if box.kind not in clusters)
            tiers.append(Tier(title, tuple(groups), single))
    outside = tuple(box for box in boxes if box.kind is Kind.USERS)
    local = "Local Machine: " if architecture.spec.kind == "development" else ""
    title = f"{local}{architecture.name} {architecture.environment}"
    return Sketch(title, outside, tuple(tiers), arrows)


def current_roles(architecture: Architecture, looks: Mapping[str, Look]) -> dict[str, str]:
    """The role of each database and cache: as seen, and as it starts where nothing was seen.

    While no member is seen as primary (a failover is under way), the one that starts as primary counts.
    """
    roles: dict[str, str] = {}
    for kind in _GROUPS:
        members = architecture.of(kind)
        found = {n.id: looks[n.id].role or Role.REPLICA if n.id in looks else n.role for n in members}
        if Role.PRIMARY not in found.values():
            found |= {n.id: n.role for n in members if n.role is Role.PRIMARY}
        roles |= {identity: str(role) for identity, role in found.items()}
    return roles


def _boxes(
    architecture: Architecture, roles: Mapping[str, str], looks: Mapping[str, Look] | None
) -> tuple[Box, ...]:
    apps = architecture.of(Kind.APP)
    shared = apps[SHOWN_APPS:] if len(apps) > SHOWN_APPS + 1 else ()
    hidden = {node.id for node in shared}
    boxes: list[Box] = []
    for node in architecture.nodes:
        if node.id not in hidden:
            boxes.append(_box(architecture, node, roles.get(node.id), looks))
        elif node is shared[0]:
            title = f"App {shared[0].number} to {shared[-1].number}"
            ids = tuple(n.id for n in shared)
            more = f"{len(ids)} more"
            boxes.append(Box("app-more", Kind.APP, title, more, ids, None, health=_count(ids, looks)))
    return tuple(boxes)


def _count(ids: Sequence[str], looks: Mapping[str, Look] | None) -> str:
    """The health of several nodes: one word when all have it, else the worst news in numbers."""
    if looks is None:
        return ""
    words = [looks[identity].health if identity in looks else "stopped" for identity in ids]
    ready = words.count("ready")
    return words[0] if len(set(words)) == 1 else f"{ready} of {len(words)} ready"


def _box(architecture: Architecture, node: Node, role: str | None, looks: Mapping[str, Look] | None) -> Box:
    title = node.title
    if node.role is not None and role != node.role:
        alone = {
            Kind.DATABASE: ("Primary DB", "Read Replica"),
            Kind.CACHE: ("Redis Primary", "Redis Replica"),
        }
        title = alone[node.kind][0 if role == Role.PRIMARY else 1]
    health = ""
    if looks is not None and node.supported and node.kind is not Kind.USERS:
        health = looks[node.id].health if node.id in looks else "stopped"
    return Box(
        node.id, node.kind, title, _detail(architecture, node), (node.id,), role, node.supported, health
    )


def _detail(architecture: Architecture, node: Node) -> str:
    """One short line of what the owner bought: limits, storage, connections."""
    if not node.supported:
        return "not supported yet"
    limits, spec = node.resources, architecture.spec
    if node.kind is Kind.LOAD_BALANCER and spec.load_balancer is not None:
        return f"{spec.load_balancer.connections:,} connections"
    if node.kind is Kind.APP:
        return f"{limits.cpu:g} CPU, {limits.memory}"
    if limits.storage is not None:
        grows = limits.storage_max not in {None, limits.storage}
        return f"{limits.storage}..{limits.storage_max}" if grows else str(limits.storage)
    if node.kind is Kind.CACHE and spec.cache is not None:
        return f"{limits.memory}, {spec.cache.eviction}"
    return "etcd" if node.kind is Kind.CONSENSUS else ""


def _arrows(
    architecture: Architecture,
    place: Mapping[str, str],
    roles: Mapping[str, str],
    clusters: Mapping[Kind, str],
) -> tuple[tuple[Arrow, ...], dict[Kind, list[Edge]]]:
    """The arrows, and for each cluster the edges between its members that no arrow shows."""
    told: dict[tuple[str, str, Style], list[Edge]] = defaultdict(list)
    within: dict[Kind, list[Edge]] = defaultdict(list)
    onwards = {(e.source, e.target): e for e in architecture.edges if e.purpose is Purpose.CALL}
    for edge in architecture.edges:
        source, target = architecture.by_id[edge.source], architecture.by_id[edge.target]
        if edge.service in _ROUTES:
            kind, role = _ROUTES[edge.service]
            for member in architecture.of(kind):
                if roles[member.id] == role:
                    key = (place[source.id], place[member.id], Style.CALL)
                    told[key] += [edge, onwards[target.id, member.id]]
        elif source.kind is target.kind and source.kind in clusters:
            _tell_member(edge, roles, told, within[source.kind])
        elif target.kind is Kind.CONSENSUS and source.kind in clusters:
            told[clusters[source.kind], target.id, Style.CONTROL].append(edge)
        elif source.kind is Kind.LOAD_BALANCER and target.kind in clusters:
            told[source.id, clusters[target.kind], Style.CONTROL].append(edge)
        elif source.kind is Kind.BACKUP:
            end = clusters.get(target.kind, place[target.id])
            told[place[source.id], end, Style.CONTROL].append(edge)
        else:
            told[place[source.id], place[target.id], Style.CALL].append(edge)
    arrows = (Arrow(*key, tuple(dict.fromkeys(edges))) for key, edges in told.items())
    return tuple(arrows), within


def _tell_member(
    edge: Edge, roles: Mapping[str, str], told: dict[tuple[str, str, Style], list[Edge]], within: list[Edge]
) -> None:
    """Replication is an arrow from today's primary, along the data; the rest is what a cluster is."""
    leads = [end for end in (edge.source, edge.target) if roles[end] == Role.PRIMARY]
    if edge.purpose is Purpose.REPLICATE and len(leads) == 1:
        follower = edge.target if edge.source == leads[0] else edge.source
        told[leads[0], follower, Style.REPLICATION].append(edge)
    else:
        within.append(edge)
