"""The planner's rules, one by one, on the production environment in small."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from asbuilt.observe.snapshot import Health, Snapshot
from asbuilt.plan.planner import Desired, plan, plan_down
from asbuilt.plan.render import parse_json, render_json, render_text
from asbuilt.plan.step import Plan, StepKind
from asbuilt.values.errors import AsbuiltError
from support.worlds import done, production, running, setup, wanted, with_health, workload

GOLDEN = Path(__file__).parents[2] / "golden" / "plans"


def behind(found: Plan, step: str) -> set[str]:
    """Everything that is finished before `step` begins."""
    todo, seen = [step], set[str]()
    while todo:
        for need in found.by_id[todo.pop()].needs:
            if need not in seen:
                seen.add(need)
                todo.append(need)
    return seen


def ids(found: Plan) -> list[str]:
    return [step.id for step in found.steps]


def test_nothing_to_do_when_everything_runs() -> None:
    desired = done(production())
    assert plan(desired, running(desired)).steps == ()


def test_a_first_start_follows_the_needs_and_starts_members_in_parallel() -> None:
    found = plan(production(), Snapshot())
    for number in (1, 2, 3):
        step = found.by_id[f"start:db-{number}"]
        assert step.needs == ("setup:database.seed", "start:consensus-1", "start:objects-1")
    assert "setup:app.migrate" in found.by_id["start:app-1"].needs
    assert not behind(found, "start:app-2") & {"start:app-1", "start:app-3"}


def test_a_need_that_runs_but_is_not_ready_is_waited_for() -> None:
    desired = production()
    before = with_health(running(desired), db_1=Health.STARTING)
    before = replace(before, setups={}, workloads={k: v for k, v in before.workloads.items() if k != "app-1"})
    found = plan(done(desired), before)
    assert "start:db-1" in found.by_id["setup:app.migrate"].needs
    assert {"start:db-1", "setup:app.migrate"} <= behind(found, "start:app-1")


@pytest.mark.parametrize(
    ("health", "pid", "kind"),
    [
        (Health.STOPPED, None, StepKind.START),
        (Health.FAILING, None, StepKind.START),
        (Health.FAILING, 7, StepKind.RESTART),
        (Health.READY, 7, StepKind.RESTART),
    ],
)
def test_a_changed_process_is_started_or_restarted(health: Health, pid: int | None, kind: StepKind) -> None:
    old, new = (wanted([workload("db-1", "database", version=v)], []) for v in (1, 2))
    before = running(old)
    before = replace(before, workloads={"db-1": replace(before.workloads["db-1"], health=health, pid=pid)})
    assert [step.kind for step in plan(new, before).steps] == [kind]


@pytest.mark.parametrize(("reload", "kind"), [(True, StepKind.RELOAD), (False, StepKind.RESTART)])
def test_changed_files_are_reloaded_where_that_is_possible(reload: bool, kind: StepKind) -> None:
    old, new = (wanted([workload("x-1", "other", files=n, reload=reload)], []) for n in (1, 2))
    assert [step.kind for step in plan(new, running(old)).steps] == [kind]


def test_needs_are_not_part_of_what_a_process_is_given() -> None:
    one, other = workload("lb-1", "load-balancer", ("app-1",)), workload("lb-1", "load-balancer")
    assert (one.digest, one.process_digest) == (other.digest, other.process_digest)


def test_a_setup_is_done_again_when_its_key_changed_or_reality_says_so() -> None:
    desired = wanted([], [setup("one"), setup("two"), setup("three")])
    before = Snapshot(setups={"one": "k1", "two": "old", "three": "k1"})
    found = plan(replace(desired, satisfied=frozenset({"one", "two"})), before)
    assert [(s.subject, s.reason) for s in found.steps] == [
        ("three", "it is not in place"),
        ("two", "what it is made from changed"),
    ]


def test_a_setup_that_is_not_remembered_is_judged_by_reality_alone() -> None:
    desired = wanted([], [replace(setup("one"), remembered=False)])
    assert ids(plan(desired, Snapshot())) == ["setup:one"]
    assert ids(plan(done(desired), Snapshot())) == []


def test_restarts_roll_one_at_a_time_helpers_first_and_the_primary_last() -> None:
    before = running(production(), primaries=("db-2", "cache-1"))
    found = plan(done(production(version=2)), before)
    restarts = [s for s in ids(found) if s.startswith("restart:")]
    assert [s for s in restarts if "db" in s] == ["restart:db-1", "restart:db-3", "restart:db-2"]
    assert [s for s in restarts if "cache" in s] == [
        *(f"restart:cache-{n}.sentinel" for n in (1, 2, 3)),
        "restart:cache-2",
        "restart:cache-3",
        "restart:cache-1",
    ]
    assert "restart:db-1" in found.by_id["restart:db-3"].needs
    assert "restart:db-3" in found.by_id["restart:db-2"].needs
    assert "restart:consensus-1" in behind(found, "restart:db-1")


def test_a_broken_replica_is_started_before_the_others_restart() -> None:
    before = with_health(running(production()), db_3=Health.STOPPED)
    found = plan(done(production(version=2)), before)
    assert "start:db-3" in behind(found, "restart:db-2")
    assert "start:db-3" in behind(found, "restart:db-1")


def test_a_new_release_migrates_then_restarts_the_apps_one_by_one() -> None:
    found = plan(done(production(release="r2")), running(production()))
    assert ids(found) == ["setup:app.migrate", "restart:app-1", "restart:app-2", "restart:app-3"]
    assert found.by_id["restart:app-1"].needs == ("setup:app.migrate",)
    assert found.by_id["restart:app-3"].needs == ("restart:app-2", "setup:app.migrate")


def test_new_apps_start_before_the_balancer_sends_them_traffic() -> None:
    found = plan(done(production(apps=5)), running(production(apps=3)))
    assert found.by_id["reload:lb-1"].needs == ("start:app-4", "start:app-5")


def test_new_apps_carry_the_load_while_the_old_ones_restart() -> None:
    found = plan(done(production(apps=4, release="r2")), running(production(apps=3)))
    assert {"start:app-4", "reload:lb-1"} <= behind(found, "restart:app-1")


def test_apps_stop_after_the_balancer_took_them_out() -> None:
    found = plan(done(production(apps=2)), running(production(apps=4)))
    assert ids(found) == ["reload:lb-1", "stop:app-3", "stop:app-4"]
    assert found.by_id["stop:app-3"].needs == ("reload:lb-1",)
    assert found.destructive == ()


def test_leaving_apps_serve_while_the_others_restart() -> None:
    found = plan(done(production(apps=1, release="r2")), running(production(apps=2)))
    assert "restart:app-1" in found.by_id["reload:lb-1"].needs
    assert {"restart:app-1", "reload:lb-1"} <= behind(found, "stop:app-2")


def test_removing_a_member_with_data_is_destructive() -> None:
    found = plan(done(production(replicas=1)), running(production(replicas=2)))
    assert [s.subject for s in found.destructive] == ["db-3", "cache-3"]
    assert "stop:cache-3.sentinel" in behind(found, "stop:cache-3")


def test_down_stops_apps_then_balancer_databases_together_and_objects_last() -> None:
    found = plan_down(running(production()))
    groups = [
        {"stop:app-1", "stop:app-2", "stop:app-3"},
        {"stop:lb-1"},
        {"stop:db-1", "stop:db-2", "stop:db-3"},
        {f"stop:cache-{n}.sentinel" for n in (1, 2, 3)},
        {f"stop:cache-{n}" for n in (1, 2, 3)},
        {"stop:consensus-1"},
        {"stop:objects-1"},
    ]
    assert set().union(*groups) == set(ids(found))
    for number, group in enumerate(groups):
        earlier = set[str]().union(*groups[:number])
        for step in group:
            assert behind(found, step) == earlier
    assert found.destructive == ()


def test_down_is_not_stopped_by_needs_that_go_in_a_circle() -> None:
    before = running(wanted([workload("a-1", "other", ("b-1",)), workload("b-1", "other2", ("a-1",))], []))
    assert len(plan_down(before).steps) == 2


def test_a_circle_of_needs_is_named() -> None:
    desired = wanted(
        [workload("a", "app", ("b",)), workload("b", "app", ("c",)), workload("d", "app", ("a",))],
        [setup("c", ("a",))],
    )
    with pytest.raises(AsbuiltError, match="a -> b -> c -> a") as caught:
        plan(desired, Snapshot())
    assert caught.value.code == "PLAN-001"


def test_an_unknown_need_is_named() -> None:
    with pytest.raises(AsbuiltError, match="app-1 needs nobody") as caught:
        plan(wanted([workload("app-1", "app", ("nobody",))], []), Snapshot())
    assert caught.value.code == "PLAN-001"


def test_large_groups_cost_no_product_of_edges() -> None:
    old = wanted([workload(f"app-{n}", "app") for n in range(2000)], [])
    new = wanted([workload(f"web-{n}", "app") for n in range(2000)], [])
    found = plan(new, running(old))
    assert sum(len(step.needs) for step in found.steps) < 5 * len(found.steps)
    assert {f"start:web-{n}" for n in range(2000)} <= behind(found, "stop:app-1999")


CASES = {
    "first-start": (production(), Snapshot()),
    "nothing": (done(production()), running(production())),
    "new-release": (done(production(release="r2")), running(production())),
    "scale-up-with-release": (done(production(apps=5, release="r2")), running(production())),
    "fewer-replicas-and-apps": (done(production(apps=2, replicas=1)), running(production())),
    "new-settings": (done(production(version=2)), running(production(), primaries=("db-2", "cache-3"))),
    "broken": (
        done(production()),
        with_health(running(production()), db_3=Health.FAILING, app_1=Health.STOPPED, lb_1=Health.STARTING),
    ),
    "down": (None, running(production())),
}


@pytest.mark.parametrize("name", CASES)
def test_golden_plans(name: str) -> None:
    desired, before = CASES[name]
    found = plan_down(before) if desired is None else plan(desired, before)
    raw = render_json(found)
    assert parse_json(json.loads(json.dumps(raw))) == found
    texts = {f"{name}.txt": render_text(found) + "\n", f"{name}.json": json.dumps(raw, indent=1) + "\n"}
    for file, text in texts.items():
        if os.environ.get("ASBUILT_GOLDEN") == "write":
            GOLDEN.mkdir(parents=True, exist_ok=True)
            (GOLDEN / file).write_text(text)
        assert (GOLDEN / file).read_text() == text


def test_an_empty_desire_on_an_empty_place_is_an_empty_plan() -> None:
    assert plan(Desired(), Snapshot()).empty
    assert plan_down(Snapshot()).empty
