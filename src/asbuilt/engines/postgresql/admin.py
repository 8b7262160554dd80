"""Talks to the running database: who leads, is it writable, switch over, how a person connects.

Invariant: passwords travel by environment or inside the SCRAM exchange, never by argv or URL of a message.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asbuilt.engines.postgresql.config import APP, MONITOR, REST_USER, SUPERUSER
from asbuilt.graph.model import Kind
from asbuilt.plan.site import Site
from asbuilt.values.errors import AsbuiltError, RefusedError
from asbuilt.values.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from asbuilt.graph.model import Architecture

_OK = 200
_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Member:
    """One database node as Patroni sees it.

    Args:
        node: its id.
        role: `leader`, `sync_standby` or `replica`.
        state: `running`, `streaming`, `stopped`, ... in Patroni's words.
        timeline: of its data, None while unknown.
        lag: bytes it has not replayed, None while unknown or for the leader.
    """

    node: str
    role: str
    state: str
    timeline: int | None
    lag: int | None


@dataclass(frozen=True, slots=True)
class Connection:
    """What a client program needs. `argv` has no password, `secret_env` has."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    secret_env: tuple[tuple[str, Secret], ...]


@dataclass(frozen=True, slots=True)
class DatabaseAdmin:
    """Everything that can be asked of one environment's database."""

    site: Site
    nodes: tuple[str, ...]

    @property
    def replicated(self) -> bool:
        """Whether Patroni runs it."""
        return len(self.nodes) > 1

    def members(self, *, timeout: float = 2.0) -> tuple[Member, ...]:
        """The members, from the first node that answers. Raises AsbuiltError DATABASE-010 when none does."""
        if not self.replicated:
            return (Member(self.nodes[0], "leader", "running", None, None),)
        for node in self.nodes:
            answer = self._rest(node, "GET", "/cluster", timeout=timeout)
            if answer is not None and answer[0] == _OK:
                return parse_members(answer[1])
        raise AsbuiltError(
            "DATABASE-010",
            "no database node tells who leads",
            where=", ".join(self.nodes),
            hint="asbuilt status shows what runs",
        )

    def leader(self, *, timeout: float = 2.0) -> str | None:
        """The node that is the primary now, None while there is none."""
        for node in self.nodes:
            if not self.replicated:
                return node
            answer = self._rest(node, "GET", "/primary", timeout=timeout)
            if answer is not None and answer[0] == _OK:
                return node
        return None

    def seems_writable(self) -> bool:
        """What Patroni says of its lead: enough to see that there is nothing to wait for."""
        return self.leader(timeout=1.0) is not None

    def seems_protected(self) -> bool:
        """What Patroni says of `protected`."""
        try:
            members = self.members(timeout=1.0)
        except AsbuiltError:
            return False
        leads = any(one.role == "leader" and one.state == "running" for one in members)
        return leads and any(
            one.role == "sync_standby" and one.state in {"streaming", "running"} for one in members
        )

    def writable(self) -> bool:
        """Whether a primary takes writes.

        None of them can be lost by a failover: until a replica confirms every commit, no replica may lead.
        """
        if not self.replicated:
            return self._connects(self.nodes[0])
        return self._ask_primary() is not None

    def surely_protected(self) -> bool:
        """`protected`, and Patroni knows it too: only then may that replica lead."""
        return self.seems_protected() and self.protected()

    def protected(self) -> bool:
        """Whether a primary takes writes and, where there are replicas, one of them confirms every commit."""
        if not self.replicated:
            return self.writable()
        said = self._ask_primary()
        return said is not None and confirms(said)

    def _ask_primary(self) -> dict[str, Any] | None:
        """What the node that leads says of itself; None while none leads and is out of recovery.

        Patroni asks PostgreSQL for it in that moment. A connection of our own would tell the same, and cost
        the start-up of a client library while the nodes need the processor to start.
        """
        for node in self.nodes:
            answer = self._rest(node, "GET", "/primary", timeout=1.0)
            if answer is not None and answer[0] == _OK:
                said: dict[str, Any] = json.loads(answer[1])
                if is_primary(said):
                    return said
        return None

    def _connects(self, node: str) -> bool:
        import psycopg  # noqa: PLC0415 - a third of the time of an `up` that has nothing to do

        try:
            with self._connect(node, MONITOR, "postgres") as connection:
                row = connection.execute("select not pg_is_in_recovery()").fetchone()
        except psycopg.Error:
            return False
        return row is not None and bool(row[0])

    def wait(self, condition: Callable[[], bool], what: str, within: float) -> None:
        """Wait until `condition` holds. Raises AsbuiltError DATABASE-011 after `within` seconds."""
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                raise AsbuiltError(
                    "DATABASE-011",
                    f"the database did not get as far as this within {within:g} s: {what}",
                    evidence=self._told(),
                    hint="asbuilt logs --node db-1 says what it waits for",
                )
            time.sleep(_POLL)

    def switch_over(self, candidate: str | None = None, *, within: float = 60.0) -> str:
        """Planned change of the primary, without losing a commit. Returns the new primary.

        Args:
            candidate: who shall lead; by default the synchronous standby.
            within: seconds it may take.

        Raises:
            RefusedError: DATABASE-012 when Patroni refuses, with its own words.
        """
        leader = self.leader()
        if leader is None or not self.replicated:
            raise RefusedError(
                "DATABASE-012",
                "there is no primary to switch from"
                if self.replicated
                else "there is no replica to switch to",
                hint="asbuilt status shows the nodes and their roles",
            )
        if candidate == leader:
            return leader
        body = {"leader": leader, **({"candidate": candidate} if candidate else {})}
        answer = self._rest(leader, "POST", "/switchover", body, timeout=within)
        if answer is None or answer[0] != _OK:
            raise RefusedError(
                "DATABASE-012",
                f"the primary {leader} was not switched over",
                where=candidate or "",
                evidence=(answer[1].strip() if answer else "no answer",),
                hint="asbuilt status shows which replica is synchronous; only that one loses nothing",
            )
        deadline = time.monotonic() + within
        while (now := self.leader(timeout=1.0)) in {None, leader}:
            if time.monotonic() > deadline:
                raise AsbuiltError("DATABASE-013", f"no new primary within {within:g} s", where=leader)
            time.sleep(_POLL)
        return str(now)

    def force(self, candidate: str, *, within: float = 60.0) -> str:
        """Make a replica the primary whether or not there is one, and whatever it lacks.

        Raises:
            RefusedError: DATABASE-012 when Patroni refuses, with its own words.
            AsbuiltError: DATABASE-013 when nothing came of it in time.
        """
        answer = self._rest(candidate, "POST", "/failover", {"candidate": candidate}, timeout=within)
        if answer is None or answer[0] != _OK:
            raise RefusedError(
                "DATABASE-012",
                f"{candidate} was not made the primary",
                where=candidate,
                evidence=(answer[1].strip() if answer else "no answer",),
                hint="asbuilt logs --node says what it waits for",
            )
        deadline = time.monotonic() + within
        while (now := self.leader(timeout=1.0)) != candidate:
            if time.monotonic() > deadline:
                raise AsbuiltError(
                    "DATABASE-013", f"{candidate} does not lead after {within:g} s", where=now or ""
                )
            time.sleep(_POLL)
        return candidate

    def rebuild(self, node: str, *, within: float = 60.0) -> None:
        """Throw away a replica's data and copy the primary's. Returns when Patroni has begun with it.

        Raises RefusedError DATABASE-014 when Patroni refuses, with its own words.
        """
        deadline = time.monotonic() + within
        while True:
            answer = self._rest(node, "POST", "/reinitialize", {"force": "true"}, timeout=within)
            if answer is not None and answer[0] == _OK:
                return
            if time.monotonic() > deadline:
                raise RefusedError(
                    "DATABASE-014",
                    f"the replica {node} was not rebuilt",
                    where=node,
                    evidence=(answer[1].strip() if answer else "no answer",),
                    hint="asbuilt status shows whether it is a replica and there is a primary",
                )
            time.sleep(_POLL * 10)

    def connection(self, node: str | None = None, *, superuser: bool = False) -> Connection:
        """How `psql` reaches `node` (the primary by default) as the app, or as superuser."""
        target = node or self.leader() or self.nodes[0]
        return self.connection_to(
            f"{self.site.addresses[target]}:{self.site.ports['postgresql']}", superuser=superuser
        )

    def connection_to(self, address: str, *, superuser: bool = False) -> Connection:
        """How `psql` reaches a server of this database at an address, like `127.20.3.1:5432`."""
        host, _, port = address.rpartition(":")
        role, database = (SUPERUSER, "postgres") if superuser else (APP, APP)
        tools = self.site.tools["postgresql"]
        psql = tools.programs.get("psql")
        if psql is None:
            raise AsbuiltError(
                "ENGINE-001",
                "psql is not installed",
                where="postgresql",
                hint="apt install postgresql-client",
            )
        return Connection(
            (
                psql,
                "-h",
                host,
                "-p",
                port,
                "-U",
                role,
                database,
            ),
            tuple(sorted(tools.env.items())),
            (("PGPASSWORD", self.site.secret(f"database.{'superuser' if superuser else 'app'}")),),
        )

    def connect_primary(self, role: str = SUPERUSER, database: str = "postgres") -> psycopg.Connection[Any]:
        """A session on the primary. Raises AsbuiltError DATABASE-010 while there is none."""
        node = self.leader()
        if node is None:
            raise AsbuiltError(
                "DATABASE-010",
                "there is no primary now",
                where=", ".join(self.nodes),
                hint="asbuilt status shows what runs",
            )
        return self._connect(node, role, database)

    def connect_node(
        self, node: str, role: str = SUPERUSER, database: str = "postgres"
    ) -> psycopg.Connection[Any]:
        """A session on one node, whatever its role is."""
        return self._connect(node, role, database)

    def _connect(self, node: str, role: str, database: str) -> psycopg.Connection[Any]:
        import psycopg  # noqa: PLC0415 - the same

        return psycopg.connect(
            host=self.site.addresses[node],
            port=self.site.ports["postgresql"],
            user=role,
            password=self.site.secret(f"database.{'superuser' if role == SUPERUSER else role}").reveal(),
            dbname=database,
            connect_timeout=2,
            sslmode="disable",
            application_name="asbuilt",
            options="-c statement_timeout=2000",
            autocommit=True,
        )

    def _rest(
        self, node: str, method: str, path: str, body: dict[str, str] | None = None, *, timeout: float
    ) -> tuple[int, str] | None:
        line = http.client.HTTPConnection(
            self.site.addresses[node], self.site.ports["patroni"], timeout=timeout
        )
        headers = {}
        if body is not None:
            login = f"{REST_USER}:{self.site.secret('patroni.rest').reveal()}"
            headers = {
                "Authorization": "Basic " + base64.b64encode(login.encode()).decode(),
                "Content-Type": "application/json",
            }
        try:
            line.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = line.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return None
        finally:
            line.close()

    def _told(self) -> tuple[str, ...]:
        try:
            return tuple(f"{one.node}: {one.role}, {one.state}" for one in self.members(timeout=1.0))
        except AsbuiltError as error:
            return (error.what,)


def open_admin(architecture: Architecture, site: Site) -> DatabaseAdmin:
    """The admin of an environment's database."""
    return DatabaseAdmin(site, tuple(node.id for node in architecture.of(Kind.DATABASE)))


def is_primary(said: dict[str, Any]) -> bool:
    """Whether a node that says this of itself (Patroni's GET /primary) runs and is out of recovery."""
    return said.get("role") == "primary" and said.get("state") == "running"


def confirms(said: dict[str, Any]) -> bool:
    """Whether PostgreSQL waits for one of the replicas in what the primary says of itself at every commit."""
    return any(one.get("sync_state") in {"sync", "quorum"} for one in said.get("replication") or ())


def parse_members(said: str) -> tuple[Member, ...]:
    """What Patroni's GET /cluster says, sorted by node."""
    found: list[Member] = []
    for one in json.loads(said).get("members", []):
        lag = one.get("lag")
        found.append(
            Member(
                str(one.get("name")),
                str(one.get("role")),
                str(one.get("state")),
                one.get("timeline"),
                lag if isinstance(lag, int) else None,
            )
        )
    return tuple(sorted(found, key=lambda member: member.node))
