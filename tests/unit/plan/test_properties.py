"""What holds for every plan, whatever is wanted and whatever is there."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from asbuilt.observe.snapshot import Snapshot
from asbuilt.plan.invariants import check
from asbuilt.plan.planner import Desired, plan, plan_down
from asbuilt.plan.simulate import apply, begin
from support.worlds import World, executed, moments, productions, tangles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asbuilt.plan.step import Plan

T = TypeVar("T")
WORLDS = st.one_of(productions(), tangles())
SEEDS = st.integers(0, 2**32)
EXAMPLES = settings(max_examples=100, deadline=None)


def ordered(found: Plan) -> bool:
    position = {step.id: number for number, step in enumerate(found.steps)}
    return all(position[need] < position[step.id] for step in found.steps for need in step.needs)


@EXAMPLES
@given(WORLDS)
def test_after_a_plan_there_is_nothing_left_to_plan(world: World) -> None:
    found = plan(world.desired, world.before)
    assert ordered(found)
    after, desired = executed(found, world.before, world.desired)
    assert plan(desired, after).steps == ()


@EXAMPLES
@given(WORLDS, SEEDS)
def test_every_rule_holds_at_every_moment_of_every_parallel_execution(world: World, seed: int) -> None:
    found = plan(world.desired, world.before)
    for moment in moments(found, world.before, world.desired, seed):
        assert check(world.before, moment.snapshot, moment.desired) == (), moment.event


@EXAMPLES
@given(WORLDS, SEEDS)
def test_a_plan_that_was_cut_off_anywhere_is_finished_by_the_next(world: World, seed: int) -> None:
    whole, _ = executed(plan(world.desired, world.before), world.before, world.desired)
    run = moments(plan(world.desired, world.before), world.before, world.desired, seed)
    cut = random.Random(seed).choice(run)
    again = plan(cut.desired, cut.snapshot)
    for moment in moments(again, cut.snapshot, cut.desired, seed + 1):
        assert check(cut.snapshot, moment.snapshot, moment.desired) == (), moment.event
    after, desired = executed(again, cut.snapshot, cut.desired)
    assert plan(desired, after).steps == ()
    up = {one for one, s in after.workloads.items() if s.health == "ready"}
    assert up == {one for one, s in whole.workloads.items() if s.health == "ready"}


@EXAMPLES
@given(WORLDS)
def test_a_step_done_twice_is_a_step_done_once(world: World) -> None:
    snapshot = world.before
    for step in plan(world.desired, snapshot).steps:
        snapshot = apply(step, begin(step, snapshot, world.desired), world.desired)
        assert apply(step, snapshot, world.desired) == snapshot


@EXAMPLES
@given(WORLDS, SEEDS)
def test_the_order_of_the_input_does_not_matter(world: World, seed: int) -> None:
    chance = random.Random(seed)

    def shuffled(mapping: Mapping[str, T]) -> dict[str, T]:
        return dict(chance.sample(list(mapping.items()), len(mapping)))

    workloads = {
        one: replace(w, needs=tuple(chance.sample(w.needs, len(w.needs))))
        for one, w in shuffled(world.desired.workloads).items()
    }
    desired = Desired(
        workloads, shuffled(world.desired.setups), world.desired.release, world.desired.satisfied
    )
    before = Snapshot(shuffled(world.before.workloads), shuffled(world.before.setups))
    assert plan(desired, before) == plan(world.desired, world.before)
    assert plan_down(before) == plan_down(world.before)


@EXAMPLES
@given(WORLDS, SEEDS)
def test_down_stops_everything_and_nothing_before_those_that_need_it(world: World, seed: int) -> None:
    nothing = Desired()
    found = plan_down(world.before)
    assert ordered(found)
    last = world.before
    for moment in moments(found, world.before, nothing, seed):
        assert check(world.before, moment.snapshot, nothing) == (), moment.event
        last = moment.snapshot
    assert {s.health for s in last.workloads.values()} <= {"stopped"}
    assert plan_down(last).steps == ()
