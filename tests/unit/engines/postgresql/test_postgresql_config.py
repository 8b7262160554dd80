from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from asbuilt.engines.postgresql import config, sizing
from asbuilt.engines.postgresql.engine import (
    PostgresqlEngine,
    build_member,
    build_standalone,
    describe_missing,
    parse_version,
    render_startup,
)
from asbuilt.engines.postgresql.seed import render_roles
from asbuilt.exec.identity import Identity
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.graph.model import Architecture, Kind
from asbuilt.plan.site import Site, Tools
from asbuilt.plan.workload import Workload, from_json, to_json
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.secret import Secret
from support.database import build_site
from support.specs import spec_of

if TYPE_CHECKING:
    from asbuilt.spec.schema import Database

TOOLS = Tools("postgresql", "16.14", "wheel", "", {"postgres": "/pg/bin/postgres", "psql": "/pg/bin/psql"})
NODES = ("consensus-1", "db-1", "db-2", "db-3")
NASTY = "a'b\"c: #{x}\\%&"


def site(prefix: str = "s3cret") -> Site:
    bare = build_site(Path("/env"), 210, NODES)
    fields = {name: getattr(bare, name) for name in Site.__dataclass_fields__}
    return Site(
        **{**fields, "tools": {"postgresql": TOOLS}, "secret": lambda name: Secret(f"{prefix}-{name}")}
    )


def architecture(**database: object) -> Architecture:
    return build(spec_of(production={"database": database}), "production")


def database(**words: object) -> Database:
    found = architecture(**words).spec.database
    assert found is not None
    return found


def member(place: Site, **words: object) -> Workload:
    graph = architecture(**words)
    assert graph.spec.database is not None
    return build_member(graph.spec.database, place, graph.of(Kind.DATABASE)[0], "consensus-1")


def test_a_members_configuration() -> None:
    text = config.render_patroni(database(), site(), "db-1", "consensus-1")
    found = yaml.safe_load(text)
    assert found["name"] == "db-1"
    assert "bootstrap" not in found
    assert found["restapi"]["listen"] == "127.210.3.1:8008"
    assert found["restapi"]["authentication"] == {"username": "patroni", "password": "s3cret-patroni.rest"}
    assert found["etcd3"]["hosts"] == ["127.210.5.1:2379"]
    assert found["etcd3"]["protocol"] == "https"
    postgresql = found["postgresql"]
    assert postgresql["listen"] == "127.210.3.1:5432"
    assert postgresql["bin_dir"] == "/pg/bin"
    assert postgresql["authentication"]["rewind"] == {
        "username": "rewind",
        "password": "s3cret-database.rewind",
    }
    assert postgresql["parameters"]["unix_socket_directories"] == ""
    assert {
        postgresql["parameters"][name] for name in ("fsync", "full_page_writes", "synchronous_commit")
    } == {"on"}


def test_only_this_machine_gets_in_and_only_with_a_password() -> None:
    for line in config.HBA:
        kind, _, role, network, method = line.split()
        assert (kind, network, method) == ("host", "127.0.0.0/8", "scram-sha-256")
        assert role in config.ROLES
    assert config.render_hba().count("\n") == len(config.HBA)


@pytest.mark.parametrize(("policy", "failsafe"), [("continue", True), ("stop", False)])
def test_what_the_members_share(policy: str, failsafe: bool) -> None:
    words = {"without_consensus": policy, "max_connections": 77}
    found = json.loads(config.render_cluster_config(config.build_cluster_config(database(**words), site())))
    assert found["failsafe_mode"] is failsafe
    assert found["synchronous_mode"] is True
    assert found["primary_start_timeout"] == 0
    assert found["postgresql"]["parameters"]["max_connections"] == 77


def test_hostile_secrets_stay_values() -> None:
    found = yaml.safe_load(config.render_patroni(database(), site(NASTY), "db-1", "consensus-1"))
    assert found["restapi"]["authentication"]["password"] == f"{NASTY}-patroni.rest"
    assert set(found) == {"scope", "namespace", "name", "log", "restapi", "etcd3", "postgresql", "watchdog"}
    sql = render_roles(dict.fromkeys(config.ROLES, "x'; DROP ROLE app; --"), 100)
    assert "PASSWORD 'x''; DROP ROLE app; --';" in sql
    for bad in ("a\nb", "a\0b", "a\\b", "a\rb"):
        with pytest.raises(ValueError, match="cannot be in a setting"):
            config.quote(bad)


def test_roles_have_the_least_privilege() -> None:
    sql = render_roles(dict.fromkeys(config.ROLES, "x"), 190)
    (app,) = [line for line in sql.splitlines() if line.startswith("CREATE ROLE app ")]
    assert "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT 190" in app
    assert "SUPERUSER" not in sql.replace("NOSUPERUSER", "")
    assert sql.count(" REPLICATION ") == 1
    assert sql.count("GRANT EXECUTE ON FUNCTION") == 4


def test_secrets_are_in_private_files_only() -> None:
    found = member(site())
    assert not [word for word in (*found.argv, *dict(found.env).values()) if "s3cret" in word]
    assert {file.mode for file in found.files} == {0o600}
    assert found.after_fence is not None
    assert b"s3cret" not in found.after_fence.send
    assert from_json(json.loads(json.dumps(to_json(found)))) == found


def test_a_member_as_workload() -> None:
    found = member(site())
    assert found.needs == ("consensus-1", "database.register")
    assert found.pid_file == "/env/nodes/db-1/data/postmaster.pid"
    assert found.ready.exchange is not None
    assert found.ready.exchange.send.startswith(b"GET /readiness?lag=1GB ")
    assert found.role is not None
    assert found.role.primary.send.startswith(b"GET /primary ")
    assert "/env/nodes/db-1/data" not in found.directories
    assert found.address == "127.210.3.1:5432"


def test_alone_it_is_postgresql_itself() -> None:
    graph = architecture(replicas=0)
    assert graph.spec.database is not None
    found = build_standalone(graph.spec.database, site(), graph.of(Kind.DATABASE)[0])
    assert found.argv[0] == "/pg/bin/postgres"
    assert (found.stop.signal, found.needs, found.after_fence) == ("SIGINT", ("database.seed",), None)
    text = {Path(file.path).name: file.content for file in found.files}
    assert "listen_addresses = '127.210.3.1'\n" in text["postgresql.conf"]
    assert "port = '5432'\n" in text["postgresql.conf"]
    realized = PostgresqlEngine().realize(graph, site(), Runner(Identity("user", (), 0, 0)))
    assert [one.id for one in realized.setups] == ["database.seed", "database.ready"]


def test_a_new_connection_in_postgresqls_words() -> None:
    sent = render_startup("127.0.0.1", 5432).send
    assert int.from_bytes(sent[:4], "big") == len(sent)
    assert sent[4:8] == bytes.fromhex("00030000")
    assert sent.endswith(b"\0user\0monitor\0database\0postgres\0\0"[1:])


@pytest.mark.parametrize(
    ("memory", "machine", "replicas", "expected"),
    [("1GB", 64, 2, 1024), ("64GB", 24, 2, 4096), ("64GB", 8, 0, 4096), ("1GB", 0, 8, 128)],
)
def test_memory_is_the_specs_clamped_to_the_machine(
    memory: str, machine: int, replicas: int, expected: int
) -> None:
    bare = site()
    fields = {name: getattr(bare, name) for name in Site.__dataclass_fields__}
    place = Site(**{**fields, "memory": machine * 2**30})
    assert sizing.size(database(memory=memory, replicas=replicas), place).memory == expected * 2**20


@pytest.mark.parametrize("memory", ["128MB", "1GB", "512GB"])
@pytest.mark.parametrize("connections", [20, 5000])
def test_no_figure_is_out_of_bounds(memory: str, connections: int) -> None:
    spec = database(memory=memory, max_connections=connections)
    found = sizing.build_parameters(spec, sizing.Sizes(spec.memory.bytes, 3))
    for name in ("shared_buffers", "work_mem", "maintenance_work_mem", "max_wal_size"):
        assert int(str(found[name]).removesuffix("MB")) >= 4


def test_versions_and_what_is_missing() -> None:
    assert parse_version("postgres (PostgreSQL) 16.14 (Debian 16.14-1)") == "16.14"
    assert parse_version("postgres (EnterpriseDB) 16.14") is None
    assert "apt install postgresql-16" in describe_missing(TOOLS)[0]
    assert describe_missing(Tools("postgresql", "16.1", "system", "", {})) == ()


def test_a_replica_alone_is_refused(tmp_path: Path) -> None:
    bare = site()
    fields = {name: getattr(bare, name) for name in Site.__dataclass_fields__}
    place = Site(**{**fields, "root": tmp_path})
    data = place.node_dir("db-1") / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    (data / "standby.signal").touch()
    runner = Runner(Identity("user", (), os.geteuid(), 0))
    realized = PostgresqlEngine().realize(architecture(replicas=0), place, runner)
    (seed,) = [one for one in realized.setups if one.id == "database.seed"]
    assert not seed.satisfied()
    with pytest.raises(AsbuiltError) as caught:
        seed.run()
    assert caught.value.code == "DATABASE-005"
    (data / "standby.signal").unlink()
    seed.run()
    assert seed.satisfied()
