"""Which node may call which, and why: the edges of an architecture.

Invariant: an edge is a connection that is really opened. Where the database or the cache is replicated, an
app server calls a route of the load balancer, and the load balancer calls the members: there is no edge from
an app server straight to a member that may not be the primary any more.
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

from asbuilt.graph.model import Edge, Kind, Node, Purpose
from asbuilt.graph.services import SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from asbuilt.spec.schema import Environment

_Nodes = dict[Kind, list[Node]]


def wire(environment: Environment, nodes: Sequence[Node]) -> tuple[Edge, ...]:
    """Every edge between `nodes`, in the order of the nodes, then of ports and purposes."""
    by_kind: _Nodes = {kind: [] for kind in Kind}
    for node in nodes:
        by_kind[node.kind].append(node)
    position = {node.id: index for index, node in enumerate(nodes)}
    edges = [
        *_entrance(by_kind),
        *_checks(environment, by_kind),
        *_app_calls(by_kind),
        *_members(by_kind),
        *_backups(by_kind),
    ]
    return tuple(sorted(edges, key=lambda e: (position[e.source], position[e.target], e.port, e.purpose)))


def _edge(source: Node, target: Node, service: str, purpose: Purpose, label: str = "") -> Edge:
    listens = SERVICES[service]
    if service == "app":  # every instance has a port of its own
        service = target.id
    return Edge(source.id, target.id, listens.port, listens.protocol, purpose, label, service)


def _entrance(by_kind: _Nodes) -> Iterator[Edge]:
    """From the users to the app servers. Users call the load balancer themselves too: DNS only names it."""
    (users,) = by_kind[Kind.USERS]
    apps, balancers = by_kind[Kind.APP], by_kind[Kind.LOAD_BALANCER]
    if not balancers:
        yield from (_edge(users, app, "app", Purpose.CALL, "requests") for app in apps)
    for balancer in balancers:
        yield _edge(users, balancer, "https", Purpose.CALL, "requests")
        yield _edge(users, balancer, "http", Purpose.CALL, "redirect to HTTPS")
        yield from (_edge(cdn, balancer, "https", Purpose.CALL, "cache misses") for cdn in by_kind[Kind.CDN])
        yield from (_edge(balancer, app, "app", Purpose.CALL, "requests") for app in apps)
    for dns in by_kind[Kind.DNS]:
        yield _edge(users, dns, "dns", Purpose.CALL, "names")
        yield from (_edge(dns, cdn, "https", Purpose.CALL, "points to") for cdn in by_kind[Kind.CDN])


def _checks(environment: Environment, by_kind: _Nodes) -> Iterator[Edge]:
    """What the load balancer asks to know where it may send."""
    if environment.load_balancer is None:
        return
    path = environment.load_balancer.health_check.path or environment.app.health
    for balancer in by_kind[Kind.LOAD_BALANCER]:
        for app in by_kind[Kind.APP]:
            yield _edge(balancer, app, "app", Purpose.CHECK, f"GET {path}")
        if _routed(by_kind[Kind.DATABASE], by_kind):
            for database in by_kind[Kind.DATABASE]:
                yield _edge(balancer, database, "patroni", Purpose.CHECK, "who is the primary")
                yield _edge(balancer, database, "postgresql", Purpose.CALL, "database routes")
        if _routed(by_kind[Kind.CACHE], by_kind):
            for cache in by_kind[Kind.CACHE]:
                yield _edge(balancer, cache, "redis", Purpose.CHECK, "who is the primary")
                yield _edge(balancer, cache, "redis", Purpose.CALL, "cache route")


def _routed(members: Sequence[Node], by_kind: _Nodes) -> bool:
    """Whether apps reach these members through the load balancer: there are several, and there is one."""
    return len(members) > 1 and bool(by_kind[Kind.LOAD_BALANCER])


def _app_calls(by_kind: _Nodes) -> Iterator[Edge]:
    """What an app server may call: its databases, cache, storage and mock services."""
    calls: list[tuple[Node, str, str]] = []
    databases, caches = by_kind[Kind.DATABASE], by_kind[Kind.CACHE]
    balancers = by_kind[Kind.LOAD_BALANCER]
    if _routed(databases, by_kind):
        for balancer in balancers:
            calls.append((balancer, "route-primary", "reads and writes, on the primary"))
            calls.append((balancer, "route-replica", "reads, on the replicas"))
    else:
        calls += [(database, "postgresql", "reads and writes") for database in databases]
    if _routed(caches, by_kind):
        calls += [(balancer, "route-cache", "cache, on the primary") for balancer in balancers]
    else:
        calls += [(cache, "redis", "cache") for cache in caches]
    calls += [(objects, "s3", "objects") for objects in by_kind[Kind.OBJECTS]]
    calls += [(files, "files", "shared folder") for files in by_kind[Kind.FILES]]
    calls += [(mock, "mock", "other systems") for mock in by_kind[Kind.MOCK]]
    for app in by_kind[Kind.APP]:
        for target, service, label in calls:
            yield _edge(app, target, service, Purpose.CALL, label)


def _members(by_kind: _Nodes) -> Iterator[Edge]:
    """Between the members of a cluster: every one may follow every other, because roles move."""
    for source, target in permutations(by_kind[Kind.DATABASE], 2):
        yield _edge(source, target, "postgresql", Purpose.REPLICATE, "Replication")
        yield _edge(source, target, "patroni", Purpose.COORDINATE, "Patroni")
    for source, target in permutations(by_kind[Kind.CACHE], 2):
        yield _edge(source, target, "redis", Purpose.REPLICATE, "Replication")
        yield _edge(source, target, "sentinel", Purpose.COORDINATE, "Sentinel")
    for consensus in by_kind[Kind.CONSENSUS]:
        for database in by_kind[Kind.DATABASE]:
            yield _edge(database, consensus, "etcd", Purpose.COORDINATE, "leader key")


def _backups(by_kind: _Nodes) -> Iterator[Edge]:
    """What is copied, and to where. A backup opens all of its connections itself."""
    for backup in by_kind[Kind.BACKUP]:
        for database in by_kind[Kind.DATABASE]:
            yield _edge(backup, database, "postgresql", Purpose.ARCHIVE, "base backups and WAL")
        for cache in by_kind[Kind.CACHE]:
            yield _edge(backup, cache, "redis", Purpose.ARCHIVE, "snapshot")
        for files in by_kind[Kind.FILES]:
            yield _edge(backup, files, "files", Purpose.ARCHIVE, "snapshot")
        for objects in by_kind[Kind.OBJECTS]:
            kept = (
                "snapshot" if by_kind[Kind.ARCHIVE] else "snapshot; daily full backup, continuous WAL archive"
            )
            yield _edge(backup, objects, "s3", Purpose.ARCHIVE, kept)
        for archive in by_kind[Kind.ARCHIVE]:
            yield _edge(
                backup, archive, "https", Purpose.ARCHIVE, "daily full backup, continuous WAL archive"
            )
