from __future__ import annotations

import threading
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asbuilt.operations.execute import Watch, run_plan
from asbuilt.operations.progress import Event, silent
from asbuilt.plan.step import Plan, Step, StepKind
from asbuilt.values.errors import AsbuiltError


def step(name: str, *needs: str) -> Step:
    return Step(name, StepKind.START, name, "app", f"start {name}", "new", needs)


class Record:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.lock = threading.Lock()

    def add(self, word: str, name: str) -> None:
        with self.lock:
            self.lines.append((word, name))

    def watch(self) -> Watch:
        return Watch(
            lambda one: self.add("intend", one.id),
            lambda one, outcome: self.add("complete" if outcome == "done" else "fail", one.id),
            lambda: None,
        )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sets(st.integers(0, 7)), min_size=1, max_size=8))
def test_each_step_runs_once_after_what_it_needs(shape: list[set[int]]) -> None:
    plan = Plan(
        tuple(step(str(n), *(str(m) for m in sorted(needs) if m < n)) for n, needs in enumerate(shape))
    )
    record = Record()
    done = run_plan(plan, {StepKind.START: lambda one, _: record.add("act", one.id)}, record.watch(), silent)
    assert done == len(plan.steps)
    at = {line: index for index, line in enumerate(record.lines)}
    assert len(at) == len(record.lines) == 3 * done
    for one in plan.steps:
        assert at["intend", one.id] < at["act", one.id] < at["complete", one.id]
        for need in one.needs:
            assert at["complete", need] < at["intend", one.id]


def test_a_failure_stops_what_comes_after_and_is_raised() -> None:
    plan = Plan((step("a"), step("b", "a"), step("c", "b")))
    record, told = Record(), defaultdict(list)

    def act(one: Step, _: object) -> None:
        if one.id == "b":
            raise AsbuiltError("TEST-001", "broken")

    def tell(event: Event) -> None:
        told[event.kind].append(event.subject)

    with pytest.raises(AsbuiltError, match="TEST-001"):
        run_plan(plan, {StepKind.START: act}, record.watch(), tell)
    assert ("fail", "b") in record.lines
    assert ("intend", "c") not in record.lines
    assert told["failed"] == ["b"]


def test_a_lost_lock_stops_before_the_intent() -> None:
    record = Record()
    watch = record.watch()

    def lost() -> None:
        raise AsbuiltError("LOCK-002", "somebody else works here")

    watch.still_ours = lost
    with pytest.raises(AsbuiltError, match="LOCK-002"):
        run_plan(Plan((step("a"),)), {StepKind.START: lambda *_: None}, watch, silent)
    assert record.lines == []


def test_independent_steps_run_side_by_side() -> None:
    both = threading.Barrier(2, timeout=20)
    plan = Plan((step("a"), step("b")))

    def meet(*_: object) -> None:
        both.wait()

    assert run_plan(plan, {StepKind.START: meet}, Record().watch(), silent) == 2
