"""Where a drill takes place: the addresses of one running environment, and whether it is whole."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from asbuilt.engines.app.engine import find_host_name
from asbuilt.engines.postgresql.admin import DatabaseAdmin, open_admin
from asbuilt.engines.redis.resp import Client, ReplyError
from asbuilt.graph.model import Kind
from asbuilt.operations.entry import reachable
from asbuilt.operations.prepare import Prepared, prepare
from asbuilt.operations.progress import silent
from asbuilt.operations.status import read_status
from asbuilt.plan.redundancy import find_missing_members, find_not_ready
from asbuilt.values.errors import AsbuiltError, RefusedError
from asbuilt.values.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.values.stage import Stage


@dataclass(frozen=True)
class Ground:
    """One running environment, as a client and as its operator sees it."""

    prepared: Prepared

    @property
    def stage(self) -> Stage:
        """The environment."""
        return self.prepared.stage

    @property
    def root(self) -> Path:
        """Its folder."""
        return self.stage.root

    @cached_property
    def admin(self) -> DatabaseAdmin:
        """Asks the database."""
        return open_admin(self.prepared.architecture, self.prepared.site)

    @cached_property
    def variables(self) -> dict[str, Secret]:
        """The secret variables that an app server is given: the addresses of its services."""
        apps = self.prepared.architecture.of(Kind.APP)
        return dict(self.prepared.desired.workloads[apps[0].id].secret_env)

    @property
    def database_url(self) -> Secret:
        """The route to the primary."""
        return self.variables["DATABASE_URL"]

    @property
    def replica_url(self) -> Secret:
        """The route to a replica."""
        return self.variables["DATABASE_REPLICA_URL"]

    def node_url(self, node: str) -> Secret:
        """One database node itself, as the app."""
        site = self.prepared.site
        return self.database_at(f"{site.addresses[node]}:{site.ports['postgresql']}")

    def database_at(self, host: str) -> Secret:
        """A server of this database at an address, like `127.20.3.1:5432`, as the app."""
        parts = urllib.parse.urlsplit(self.database_url.reveal())
        account = parts.netloc.rpartition("@")[0]
        return Secret(parts._replace(netloc=f"{account}@{host}").geturl())

    def cache_client(self, node: str | None = None, *, timeout: float = 2.0) -> Client:
        """The route to the cache's primary, or one node of it, as the app. Raises OSError or ReplyError."""
        parts = urllib.parse.urlsplit(self.variables["REDIS_URL"].reveal())
        password = urllib.parse.unquote(parts.password or "")
        site = self.prepared.site
        if node is not None:
            return Client(site.addresses[node], site.ports["redis"], password, timeout=timeout)
        return Client(parts.hostname or "", parts.port or 0, password, timeout=timeout)

    @cached_property
    def entry(self) -> tuple[str, int, str, str, Path | None]:
        """Host, port, path and name of the health path through the front door, and the authority for TLS."""
        architecture, site = self.prepared.architecture, self.prepared.site
        name, path = find_host_name(architecture), architecture.spec.app.health
        if architecture.of(Kind.LOAD_BALANCER):
            authority = site.authority_dir / "ca.crt"
            return reachable(site.entry.address), site.entry.https_port or 0, path, name, authority
        app = architecture.of(Kind.APP)[0].id
        return site.addresses[app], site.ports[app], path, name, None

    def nodes(self, kind: Kind) -> tuple[str, ...]:
        """The ids of all nodes of a kind."""
        return tuple(node.id for node in self.prepared.architecture.of(kind))

    def status(self) -> dict[str, Any]:
        """The status document."""
        return read_status(self.stage)

    def primary(self, kind: Kind) -> str:
        """The node that leads now. Raises RefusedError DRILL-003 unless exactly one does."""
        if kind is Kind.DATABASE:
            found = [one for one in (self.admin.leader(),) if one]
        else:
            found = [node for node in self.nodes(kind) if self.cache_role(node) == "master"]
        if len(found) != 1:
            raise RefusedError(
                "DRILL-003", f"there is no single primary among the {kind} nodes", hint="asbuilt status"
            )
        return found[0]

    def standby(self) -> str:
        """The synchronous standby of the database. Raises RefusedError DRILL-003 while there is none."""
        for one in self.admin.members():
            if one.role == "sync_standby":
                return one.node
        raise RefusedError("DRILL-003", "the database has no synchronous standby now", hint="asbuilt status")

    def cache_role(self, node: str) -> str:
        """What a cache node says it is; empty when it does not answer."""
        try:
            with self.cache_client(node) as client:
                return client.info("replication").get("role", "")
        except (OSError, ReplyError):
            return ""

    def missing(self, *kinds: Kind) -> tuple[str, ...]:
        """What redundancy lacks now, in words; of some kinds of nodes, by default of all."""
        status = self.status()
        nodes = [one for one in status["nodes"] if not kinds or one["kind"] in kinds]
        said = list(find_not_ready(nodes))
        if (not kinds or Kind.DATABASE in kinds) and self.admin.replicated:
            said += self._missing_members()
        if (not kinds or Kind.CACHE in kinds) and len(self.nodes(Kind.CACHE)) > 1:
            said += self._missing_copies()
        return tuple(said)

    def _missing_members(self) -> tuple[str, ...]:
        try:
            members = self.admin.members(timeout=1.0)
        except AsbuiltError as error:
            return (error.what,)
        if not self.admin.protected():
            return ("no replica of the database confirms commits",)
        return find_missing_members([(one.node, one.role, one.state) for one in members], self.admin.nodes)

    def _missing_copies(self) -> tuple[str, ...]:
        try:
            with self.cache_client() as client:
                said = client.info("replication")
        except (OSError, ReplyError) as error:
            return (f"the cache does not answer: {error}",)
        online = sum("state=online" in value for name, value in said.items() if name.startswith("slave"))
        wanted = len(self.nodes(Kind.CACHE)) - 1
        if said.get("role") == "master" and online >= wanted:
            return ()
        return (f"{online} of {wanted} replicas of the cache follow",)


def open_ground(stage: Stage) -> Ground:
    """The environment, seen from outside. Raises RefusedError DRILL-001 when it never ran here."""
    if not stage.root.is_dir():
        raise RefusedError(
            "DRILL-001",
            f"{stage.environment} is not up",
            hint=f"asbuilt up {stage.environment} comes first",
        )
    return Ground(prepare(stage, touch=False, tell=silent))
