"""Drills without an environment: what can be had where, records, reports, a broken release."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from asbuilt.graph.build import build
from asbuilt.operations.broken import COMMAND, spoil
from asbuilt.operations.drill.contract import PROMISES, find_obstacle, runs_of
from asbuilt.operations.drill.damage import clear_damage, flip_bytes, note_damage, read_damage
from asbuilt.operations.drill.listing import list_drills
from asbuilt.operations.drill.preflight import find_interrupted, only_one
from asbuilt.operations.drill.record import (
    FaultRecord,
    State,
    folder_of,
    mark_removed,
    read_fault,
    write_fault,
)
from asbuilt.operations.drill.registry import DRILLS, find_drill
from asbuilt.operations.drill.reports import find_report, load_reports, save_report
from asbuilt.operations.drill.restoring import copy_marker
from asbuilt.operations.gather import Gathered
from asbuilt.operations.order import Order
from asbuilt.operations.progress import silent
from asbuilt.plan.drillreport import Report
from asbuilt.plan.fault import Fault, How
from asbuilt.plan.verdict import Promise
from asbuilt.spec.load import load
from asbuilt.targets.local.process import Ident
from asbuilt.values.errors import RefusedError, UsageError
from asbuilt.values.stage import Stage

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture

ROOT = Path(__file__).resolve().parents[3]
SPEC = "name: x\napp: {command: ./run --port $PORT, migrate: ./migrate}\nenvironments:\n"
FAULT = Fault(How.HOLD, ("db-1", "db-2"), 30.0)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    file = tmp_path / "asbuilt.yaml"
    file.write_text(SPEC + "  production: {}\n  staging: {}\n  development: {}\n")
    made = Stage(file, "x", "production", tmp_path / "home")
    made.root.mkdir(parents=True)
    return made


def architecture(stage: Stage, name: str) -> Architecture:
    return build(load(stage.file).spec, name)


def test_every_drill_has_a_name_of_its_own_and_is_on_its_page() -> None:
    names = [one.name for one in DRILLS]
    assert len(set(names)) == len(names)
    page = (ROOT / "docs" / "drills.md").read_text()
    assert [name for name in names if f"| `{name}` |" not in page] == []
    assert {one.promise for one in DRILLS} == set(PROMISES)


def test_every_drill_says_what_it_does_not_show() -> None:
    assert [one.name for one in DRILLS if not one.not_tested] == []


def test_production_can_have_all_that_is_supported(stage: Stage) -> None:
    graph = architecture(stage, "production")
    refused = {one.name for one in DRILLS for variant in runs_of(one) if find_obstacle(one, variant, graph)}
    assert refused == set()
    assert [one.name for one in DRILLS if not runs_of(one)] == ["disk-full"]


def test_where_there_is_nothing_to_take_over_it_is_said(stage: Stage) -> None:
    graph = architecture(stage, "staging")
    drill, variant = find_drill("database-primary-lost", None)
    assert variant == "killed"
    assert find_obstacle(drill, variant, graph) == "this environment has only one database node"


@pytest.mark.parametrize(
    ("name", "variant"), [("database-primary-lost", "isolated"), ("disk-full", "")], ids=lambda one: one
)
def test_what_is_not_supported_says_so_in_one_line(stage: Stage, name: str, variant: str) -> None:
    drill, chosen = find_drill(name, variant or None)
    why = find_obstacle(drill, chosen, architecture(stage, "production"))
    assert why.startswith("not supported yet: ")
    assert "\n" not in why


def test_a_wrong_name_lists_the_right_ones() -> None:
    with pytest.raises(UsageError, match="DRILL-002") as raised:
        find_drill("earthquake", None)
    assert "bad-release" in raised.value.hint
    with pytest.raises(UsageError, match="DRILL-002") as raised:
        find_drill("database-primary-lost", "eaten")
    assert raised.value.hint == "it has killed, frozen, isolated"


def test_drills_can_be_listed_before_anything_runs(stage: Stage) -> None:
    rows = list_drills(stage)
    assert [row["name"] for row in rows] == [one.name for one in DRILLS]
    assert json.loads(json.dumps(rows)) == rows


def test_a_fault_is_found_again_from_its_record(stage: Stage) -> None:
    assert read_fault(stage.root) is None
    record = write_fault(stage.root, FaultRecord("d", FAULT, State.ARMED))
    assert read_fault(stage.root) == record
    on = replace(record, state=State.ON, holder=Ident(1, 2), deadline=5.0, victims=(Ident(3, 4),))
    assert read_fault(stage.root) == record
    write_fault(stage.root, on)
    assert read_fault(stage.root) == on
    assert find_interrupted(stage.root) == "d"
    mark_removed(stage.root, on)
    assert find_interrupted(stage.root) == ""


def test_damage_and_copies_that_were_left_are_found(stage: Stage) -> None:
    folder_of(stage.root).mkdir()
    note_damage(stage.root, "db-3")
    assert (find_interrupted(stage.root), read_damage(stage.root)) == ("data-corruption", "db-3")
    clear_damage(stage.root)
    copy_marker(stage.root).touch()
    assert find_interrupted(stage.root)
    copy_marker(stage.root).unlink()
    assert find_interrupted(stage.root) == ""


def test_flipped_bytes_are_flipped_back(tmp_path: Path) -> None:
    file = tmp_path / "page"
    content = bytes(range(256)) * 32
    file.write_bytes(content)
    flip_bytes(file)
    assert sum(a != b for a, b in zip(file.read_bytes(), content, strict=True)) == 16
    flip_bytes(file)
    assert file.read_bytes() == content


def test_one_drill_at_a_time(stage: Stage) -> None:
    with only_one(stage), pytest.raises(RefusedError, match="DRILL-008"), only_one(stage):
        pass
    with only_one(stage):
        pass


def make_report(name: str, drill: str) -> Report:
    return Report(
        name, drill, "", "t", "x", "production", "me", "2026-01-01T00:00:00Z", "2026-01-01T00:00:10Z",
        Promise("p", 1.0), (), {}, (),
    )  # fmt: skip


def test_reports_are_found_by_id_by_drill_and_by_being_the_newest(stage: Stage) -> None:
    with pytest.raises(UsageError, match="DRILL-009"):
        find_report(stage)
    for name, drill in (
        ("20260101T000000Z-a", "a"),
        ("20260102T000000Z-b", "b"),
        ("20260103T000000Z-a", "a"),
    ):
        save_report(stage, make_report(name, drill))
    (folder_of(stage.root) / "20260104T000000Z-a.json").write_text("{")
    assert [one.id for one in load_reports(stage)] == [
        "20260101T000000Z-a",
        "20260102T000000Z-b",
        "20260103T000000Z-a",
    ]
    assert find_report(stage).id == "20260103T000000Z-a"
    assert find_report(stage, "b").id == "20260102T000000Z-b"
    assert find_report(stage, "20260101T000000Z-a").id == "20260101T000000Z-a"
    with pytest.raises(UsageError, match="DRILL-009"):
        find_report(stage, "c")


def test_a_broken_release_differs_in_nothing_but_its_command(stage: Stage) -> None:
    nothing: Any = None
    gathered = Gathered(stage, load(stage.file), nothing, (), {}, {}, nothing, touch=False, tell=silent)
    before = gathered.loaded.spec.environments["production"]
    after = spoil(gathered).loaded.spec.environments["production"]
    assert after.app.command == list(COMMAND)
    assert after.app.migrate is None
    assert (
        after.app.model_copy(update={"command": before.app.command, "migrate": before.app.migrate})
        == before.app
    )
    assert after.model_copy(update={"app": before.app}) == before
    assert spoil(gathered).loaded.spec.environments["staging"] == gathered.loaded.spec.environments["staging"]


def test_an_order_fits_on_a_command_line() -> None:
    order = Order(broken=True)
    assert Order(**cast("dict[str, Any]", json.loads(json.dumps(asdict(order))))) == order
