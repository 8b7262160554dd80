"""From the spec of one environment to its architecture.

Pure and linear in the number of nodes. Invariant: the result passes `graph.check`, and the same spec in any
order of its keys gives the same architecture.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from asbuilt.graph.model import Architecture, Kind, Node, Resources, Role, Zone
from asbuilt.graph.wiring import wire
from asbuilt.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asbuilt.spec.schema import Environment, Spec
    from asbuilt.values.units import Size


def build(spec: Spec, environment: str, servers: Iterable[int] | None = None) -> Architecture:
    """The architecture of one environment of `spec`.

    Args:
        spec: what the owner wrote.
        environment: which one.
        servers: numbers of the app servers that there are; by default as many as the spec starts with.

    Raises:
        UsageError: `GRAPH-001` when the spec has no such environment.
    """
    found = spec.environments.get(environment)
    if found is None:
        names = sorted(spec.environments)
        close = get_close_matches(environment, names, 1)
        hint = f"did you mean {close[0]}?" if close else f"the environments are: {', '.join(names) or 'none'}"
        raise UsageError("GRAPH-001", f"there is no environment {environment!r}", hint=hint)
    nodes = (*_entrance(found), *_apps(found, servers), *_data(found), *_storage(found), *_backups(found))
    return Architecture(spec.name, environment, found, nodes, wire(found, nodes))


def _entrance(environment: Environment) -> list[Node]:
    """What is in front of the app servers."""
    title = "Developer" if environment.kind == "development" else "Users"
    nodes = [Node("users", Kind.USERS, Zone.INTERNET, 1, title, supported=True)]
    if environment.load_balancer is None:
        return nodes
    if environment.kind == "production":
        nodes += [
            Node("dns-1", Kind.DNS, Zone.PUBLIC, 1, "DNS", supported=False),
            Node("cdn-1", Kind.CDN, Zone.PUBLIC, 1, "CDN", supported=False),
        ]
    return [*nodes, Node("lb-1", Kind.LOAD_BALANCER, Zone.PUBLIC, 1, "Load Balancer")]


def _apps(environment: Environment, servers: Iterable[int] | None) -> list[Node]:
    """The app servers; to start with, the least number of the range."""
    app = environment.app
    limits = Resources(app.cpu, app.memory, app.disk)
    numbers = sorted(range(1, app.instances.minimum + 1) if servers is None else servers)
    return [
        Node(
            f"app-{n}",
            Kind.APP,
            Zone.PRIVATE,
            n,
            "App Server" if numbers == [1] else f"App Server {n}",
            None,
            limits,
        )
        for n in numbers
    ]


def _data(environment: Environment) -> list[Node]:
    """Databases, caches and the consensus store that decides who is the primary database."""
    nodes: list[Node] = []
    database, cache = environment.database, environment.cache
    if database is not None:
        storage = database.storage
        limits = Resources(None, database.memory, storage.initial, storage.maximum)
        titles = ("Database", "Primary DB", "Read Replica")
        nodes += _members("db", Kind.DATABASE, database.replicas, titles, limits)
    if cache is not None:
        titles = ("Redis", "Redis Primary", "Redis Replica")
        nodes += _members("cache", Kind.CACHE, cache.replicas, titles, Resources(memory=cache.memory))
    if database is not None and database.replicas > 0:
        nodes.append(Node("consensus-1", Kind.CONSENSUS, Zone.DATABASE, 1, "Consensus"))
    return nodes


def _members(
    prefix: str, kind: Kind, replicas: int, titles: tuple[str, str, str], limits: Resources
) -> list[Node]:
    """A primary and its replicas; `titles` are for one alone, the primary, and a replica."""
    alone, primary, replica = titles
    first = Node(f"{prefix}-1", kind, Zone.DATABASE, 1, primary if replicas else alone, Role.PRIMARY, limits)
    return [first] + [
        Node(f"{prefix}-{n + 1}", kind, Zone.DATABASE, n + 1, f"{replica} {n}", Role.REPLICA, limits)
        for n in range(1, replicas + 1)
    ]


def _backups(environment: Environment) -> list[Node]:
    """What takes the backups, and the place they go to where that is not the object storage."""
    database = environment.database
    if database is None or database.backup is None:
        return []
    apart = bool(database.backup.store or database.backup.folder)
    if not apart and environment.objects is None:
        return []
    nodes = []
    if apart:
        nodes.append(Node("archive-1", Kind.ARCHIVE, Zone.INTERNET, 1, "Backup Storage"))
    return [*nodes, Node("backup-1", Kind.BACKUP, Zone.DATABASE, 1, "Backups")]


def _storage(environment: Environment) -> list[Node]:
    """Object and file storage, and the mock services a developer has in the place of other systems."""

    def limit(storage: Size) -> Resources:
        return Resources(storage=storage, storage_max=storage)

    nodes: list[Node] = []
    if environment.objects is not None:
        limits = limit(environment.objects.storage)
        nodes.append(Node("objects-1", Kind.OBJECTS, Zone.PRIVATE, 1, "Object Storage", None, limits))
    if environment.files is not None:
        limits = limit(environment.files.storage)
        nodes.append(Node("files-1", Kind.FILES, Zone.PRIVATE, 1, "File Storage", None, limits))
    if environment.kind == "development":
        nodes.append(Node("mock-1", Kind.MOCK, Zone.PRIVATE, 1, "Mock Services", supported=False))
    return nodes
