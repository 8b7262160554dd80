"""When a drill may begin, and when it must stop."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from asbuilt.graph.build import build
from asbuilt.plan.fault import Fault, How, is_lasting, parse_fault
from asbuilt.plan.guard import ROOM, STRANGE, Vitals, find_dependents, find_down, find_stop
from asbuilt.plan.preflight import Before, describe, find_refusal, render_age, render_safety
from asbuilt.plan.redundancy import find_missing_members, find_not_ready
from asbuilt.spec.load import load

if TYPE_CHECKING:
    from pathlib import Path

WELL = Vitals(now=100.0, served={"acknowledged write": 99.0}, free=ROOM * 5, down={})
READY = Before("production", "", "", (), 50 * 10**9)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_patient_that_does_well_is_left_alone() -> None:
    assert find_stop(WELL, 60.0) == ""


@pytest.mark.parametrize(
    ("vitals", "said"),
    [
        (replace(WELL, served={"acknowledged write": 39.0}), "no acknowledged write for more than 60 s"),
        (replace(WELL, free=ROOM - 1), "the disk is nearly full"),
        (replace(WELL, down={"cache-1": 100.0 - STRANGE - 1}), "a second failure: cache-1"),
    ],
)
def test_each_stop_condition_is_named(vitals: Vitals, said: str) -> None:
    assert find_stop(vitals, 60.0).startswith(said)


def test_a_hiccup_of_a_stranger_is_no_second_failure() -> None:
    assert find_stop(replace(WELL, down={"cache-1": 99.0}), 60.0) == ""
    nodes = [
        {"id": name, "health": health}
        for name, health in (("a", "failing"), ("b", "stopped"), ("c", "ready"))
    ]
    assert find_down(nodes, {"a"}) == ("b",)


def test_who_depends_on_what_is_broken_may_fail_with_it(tmp_path: Path) -> None:
    (tmp_path / "asbuilt.yaml").write_text(
        "name: x\napp: {command: ./run}\nenvironments:\n  production: {}\n"
    )
    architecture = build(load(tmp_path / "asbuilt.yaml").spec, "production")
    found = find_dependents(architecture, ("db-1",))
    assert {"app-1", "app-2", "app-3", "backup-1"} <= found
    assert not found & {"lb-1", "db-2", "cache-1", "consensus-1", "objects-1"}
    assert not find_dependents(architecture, ("app-1",)) & {"app-2", "db-1", "lb-1"}


@pytest.mark.parametrize(
    ("before", "code"),
    [
        (replace(READY, obstacle="not supported yet"), "DRILL-004"),
        (replace(READY, missing=("db-2 is stopped",)), "DRILL-005"),
        (replace(READY, interrupted="x"), "DRILL-006"),
        (replace(READY, free=10**9), "DRILL-007"),
    ],
)
def test_what_keeps_a_drill_from_beginning_has_a_code(before: Before, code: str) -> None:
    refusal = find_refusal(before)
    assert refusal is not None
    assert refusal.code == code
    assert refusal.hint


def test_a_whole_environment_may_be_drilled() -> None:
    assert find_refusal(READY) is None


def test_what_there_is_to_fall_back_on_is_said() -> None:
    assert render_safety(READY, NOW) == "this environment has no backups"
    some = replace(READY, backups=True)
    assert render_safety(some, NOW) == "no backup was verified yet"
    tried = replace(some, backup="20251231T000000Z", verified=NOW - timedelta(hours=3))
    assert render_safety(tried, NOW).endswith("verified 3 h ago")
    assert describe(tried, NOW)["backup_age_seconds"] == 3 * 3600


def test_ages_are_short() -> None:
    assert [render_age(s) for s in (5, 119, 600, 7200, 200_000)] == [
        "5 s",
        "119 s",
        "10 min",
        "2 h",
        "2 days",
    ]


@pytest.mark.parametrize("how", list(How))
def test_a_fault_survives_writing_and_reading(how: How) -> None:
    fault = Fault(how, ("db-1", "db-2"), 60.0)
    assert parse_fault(fault.to_json()) == fault
    assert is_lasting(fault) is (how is not How.KILL)


def test_what_redundancy_lacks_is_named() -> None:
    good = [
        ("db-1", "leader", "running"),
        ("db-2", "sync_standby", "streaming"),
        ("db-3", "replica", "streaming"),
    ]
    wanted = ("db-1", "db-2", "db-3")
    assert find_missing_members(good, wanted) == ()
    assert find_missing_members(good[:2], wanted) == ("db-3 is no member",)
    assert find_missing_members([good[0], ("db-2", "replica", "starting"), good[2]], wanted) == (
        "there is no synchronous standby",
        "db-2 is starting",
    )
    assert find_not_ready([{"id": "app-1", "health": "failing", "problem": "503"}]) == (
        "app-1 is failing: 503",
    )
