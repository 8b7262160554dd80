"""The architecture graph: immutable typed nodes and typed edges.

An edge is a permission, a monitoring fact, a diagram arrow and a cost line: a flow that is not an edge does
not exist. Invariant: nodes and edges are sorted, ids are unique, and every edge ends at two nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from asbuilt.spec.schema import Environment
from asbuilt.values.units import Size


class Kind(StrEnum):
    """What a node is. The words are those of `asbuilt status --json`."""

    USERS = "users"
    DNS = "dns"
    CDN = "cdn"
    WAF = "waf"
    LOAD_BALANCER = "load-balancer"
    APP = "app"
    DATABASE = "database"
    CACHE = "cache"
    CONSENSUS = "consensus"
    OBJECTS = "objects"
    FILES = "files"
    ARCHIVE = "archive"
    BACKUP = "backup"
    MOCK = "mock"


class Zone(StrEnum):
    """Where a node lives: the tiers (subnets) of the source document."""

    INTERNET = "internet"
    PUBLIC = "public"
    PRIVATE = "private"
    DATABASE = "database"


class Role(StrEnum):
    """What a database or cache node does now; in the architecture: what it is meant to start as."""

    PRIMARY = "primary"
    REPLICA = "replica"


class Purpose(StrEnum):
    """Why there is an edge."""

    CALL = "call"
    REPLICATE = "replicate"
    COORDINATE = "coordinate"
    CHECK = "check"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True)
class Resources:
    """What one node may use at most; None means it is not limited."""

    cpu: float | None = None
    memory: Size | None = None
    storage: Size | None = None
    storage_max: Size | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One box of the diagram.

    Args:
        id: stable and readable, like `app-1`.
        kind: what it is.
        zone: where it lives.
        number: counts from 1 within its kind.
        title: words for people, like "App Server 1".
        role: what a database or cache node starts as, else None.
        resources: limits.
        supported: False for what the source document has and no engine realizes yet; it is drawn, not run.
    """

    id: str
    kind: Kind
    zone: Zone
    number: int
    title: str
    role: Role | None = None
    resources: Resources = Resources()
    supported: bool = True


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """One permission: `source` may open connections to `target`.

    A replica opens the connection to the member it follows, so a `replicate` edge points against the data.

    Args:
        source: id of the node that connects.
        target: id of the node that listens.
        port: the standard port of the service.
        protocol: what is spoken.
        purpose: why.
        label: words for people; empty when the purpose says enough.
        service: name of the service in `graph.services` and of its real port in `Site.ports`.
    """

    source: str
    target: str
    port: int
    protocol: str
    purpose: Purpose
    label: str = ""
    service: str = ""


@dataclass(frozen=True)
class Architecture:
    """A whole environment as a graph."""

    name: str
    environment: str
    spec: Environment
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @cached_property
    def by_id(self) -> dict[str, Node]:
        """Every node under its id."""
        return {node.id: node for node in self.nodes}

    @cached_property
    def by_kind(self) -> dict[Kind, tuple[Node, ...]]:
        """The nodes of each kind, in the order of their numbers; a kind without nodes is left out."""
        found: dict[Kind, list[Node]] = {}
        for node in sorted(self.nodes, key=lambda n: (n.kind, n.number)):
            found.setdefault(node.kind, []).append(node)
        return {kind: tuple(nodes) for kind, nodes in found.items()}

    def of(self, kind: Kind) -> tuple[Node, ...]:
        """The nodes of one kind, in order; empty when there are none."""
        return self.by_kind.get(kind, ())
