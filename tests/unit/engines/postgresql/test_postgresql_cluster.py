from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from asbuilt.engines.postgresql import seed as seeding
from asbuilt.engines.postgresql.admin import Member, confirms, is_primary, parse_members
from asbuilt.engines.postgresql.cluster import Copy, decide_leader, find_moved, parse_copy
from asbuilt.engines.postgresql.seed import Seed
from asbuilt.exec.identity import Identity
from asbuilt.exec.runner import Runner
from asbuilt.values.errors import AsbuiltError
from support.database import build_site

if TYPE_CHECKING:
    from pathlib import Path

ONE = Copy("db-1", "77", standby=False, timeline=1, position=100)
TWO = Copy("db-2", "77", standby=True, timeline=1, position=100)
CONTROL = """\
pg_control version number:            1300
Database system identifier:           7571
Database cluster state:               in production
pg_control last modified:             Sun 22 Nov 2026 11:13:15 PM UTC
Latest checkpoint location:           1/AC32E8
Latest checkpoint's TimeLineID:       3
Minimum recovery ending location:     0/0
"""


@pytest.mark.parametrize(
    ("copies", "leader"),
    [
        ((ONE, TWO), "db-1"),
        ((TWO, replace(ONE, node="db-3")), "db-3"),
        # a standby that already replayed more of the same history is still not the one that acknowledged it
        ((ONE, replace(TWO, position=200)), "db-1"),
        # an old primary that never came back loses to whoever was promoted after it
        ((ONE, replace(TWO, standby=False, timeline=2)), "db-2"),
        ((ONE, replace(TWO, timeline=2)), "db-2"),
        ((TWO, replace(TWO, node="db-3", position=300)), "db-3"),
        ((TWO, replace(TWO, node="db-3")), "db-2"),
    ],
)
def test_who_may_lead_when_the_store_knows_nothing(copies: tuple[Copy, ...], leader: str) -> None:
    assert decide_leader(copies, None).node == leader
    assert decide_leader(tuple(reversed(copies)), "77").system == "77"


@pytest.mark.parametrize(
    ("copies", "known"), [((ONE, replace(TWO, system="78")), None), ((ONE,), "78"), ((), None)]
)
def test_data_of_different_databases_is_refused(copies: tuple[Copy, ...], known: str | None) -> None:
    with pytest.raises(AsbuiltError) as caught:
        decide_leader(copies, known)
    assert caught.value.code == "DATABASE-003"


def test_members_that_were_elsewhere_in_an_earlier_life() -> None:
    known = {
        "/service/database/members/db-1": '{"api_url":"http://127.21.3.1:8008/patroni","state":"running"}',
        "/service/database/members/db-2": '{"api_url":"http://127.22.3.2:8008/patroni"}',
        "/service/database/members/db-3": "no JSON",
        "/service/database/members/db-9": '{"api_url":"http://127.21.3.9:8008/patroni"}',
        "/service/database/leader": "db-1",
    }
    addresses = {"db-1": "127.22.3.1", "db-2": "127.22.3.2", "db-3": "127.22.3.3"}
    assert find_moved(known, addresses) == ("/service/database/members/db-1",)


def test_a_control_file() -> None:
    assert parse_copy("db-1", CONTROL, standby=False) == Copy("db-1", "7571", False, 3, 0x100AC32E8)  # noqa: FBT003
    with pytest.raises(AsbuiltError) as caught:
        parse_copy("db-1", "pg_controldata: error", standby=True)
    assert caught.value.code == "DATABASE-004"


def test_members() -> None:
    said = """{"members": [
        {"name": "db-2", "role": "sync_standby", "state": "streaming", "timeline": 2, "lag": 0},
        {"name": "db-1", "role": "leader", "state": "running", "timeline": 2},
        {"name": "db-3", "role": "replica", "state": "starting", "lag": "unknown"}]}"""
    assert parse_members(said) == (
        Member("db-1", "leader", "running", 2, None),
        Member("db-2", "sync_standby", "streaming", 2, 0),
        Member("db-3", "replica", "starting", None, None),
    )
    assert parse_members("{}") == ()


@pytest.fixture
def seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seed:
    nodes = ("db-1", "db-2")

    def build(self: Seed) -> None:
        for node in nodes:
            self._seed_of(node).mkdir(parents=True, exist_ok=True)
            (self._seed_of(node) / "PG_VERSION").write_text("16\n")

    monkeypatch.setattr(seeding.Seed, "_build", build)
    return Seed(build_site(tmp_path, 210, nodes), nodes, 100, Runner(Identity("user", (), os.geteuid(), 0)))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", range(6))
def test_killed_anywhere_a_second_run_ends_the_same(
    seed: Seed, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(100))
    real_marker, real_sync = seeding._write_marker, seeding._sync_folder

    def dies(name: str) -> None:
        if next(steps) == moment:
            raise Killed(name)

    def marker(path: Path) -> None:
        dies("before a marker")
        real_marker(path)

    def sync(folder: Path) -> None:
        real_sync(folder)
        dies("after a step")

    monkeypatch.setattr(seeding, "_write_marker", marker)
    monkeypatch.setattr(seeding, "_sync_folder", sync)
    try:
        seed.run()
    except Killed:
        monkeypatch.undo()
        monkeypatch.setattr(seeding.Seed, "_build", _rebuild)
        seed.run()
    assert seed.satisfied()
    assert all(seed.has_data(node) for node in seed.nodes)
    assert not seed.built.exists()


def _rebuild(seed: Seed) -> None:
    assert not any(seed.has_data(node) for node in seed.nodes), "existing data would be initialised again"
    for node in seed.nodes:
        seed._seed_of(node).mkdir(parents=True, exist_ok=True)
        (seed._seed_of(node) / "PG_VERSION").write_text("16\n")


def test_existing_data_is_kept_and_lost_data_is_not_hidden(seed: Seed) -> None:
    assert not seed.satisfied()
    seed.run()
    (seed.data("db-1") / "row").write_text("precious")
    seed.run()
    assert (seed.data("db-1") / "row").read_text() == "precious"
    (seed.data("db-2") / "PG_VERSION").unlink()
    assert seed.satisfied()
    (seed.data("db-1") / "PG_VERSION").unlink()
    assert not seed.satisfied()
    with pytest.raises(AsbuiltError) as caught:
        seed.run()
    assert caught.value.code == "DATABASE-001"


def test_data_without_a_marker_is_adopted(seed: Seed) -> None:
    seed.data("db-2").mkdir(parents=True)
    (seed.data("db-2") / "PG_VERSION").write_text("16\n")
    seed.run()
    assert seed.satisfied()
    assert not seed.has_data("db-1")


def test_a_node_that_leads_is_no_primary_before_it_is_out_of_recovery() -> None:
    assert is_primary({"role": "primary", "state": "running"})
    assert not is_primary({"role": "replica", "state": "running"})
    assert not is_primary({"role": "primary", "state": "starting"})
    assert not is_primary({})


def test_a_replica_confirms_when_postgresql_waits_for_it() -> None:
    assert confirms({"replication": [{"sync_state": "async"}, {"sync_state": "sync"}]})
    assert confirms({"replication": [{"sync_state": "quorum"}]})
    assert not confirms({"replication": [{"sync_state": "async"}, {"sync_state": "potential"}]})
    assert not confirms({"replication": None})
    assert not confirms({})
