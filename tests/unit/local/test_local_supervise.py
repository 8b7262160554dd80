from __future__ import annotations

from dataclasses import replace

import pytest

from asbuilt.observe.snapshot import Health
from asbuilt.targets.local.supervise import (
    LOOP_PAUSE,
    Action,
    Ask,
    Failures,
    Fence,
    Rest,
    Start,
    Watch,
    decide,
    judge,
    next_probe,
    with_answer,
)

RUNNING = Watch(wanted=True, alive=True, started=100.0, next_probe=1000.0)


def act(watch: Watch, now: float, *, hang_after: float = 30.0, start_timeout: float = 60.0) -> Action:
    return decide(watch, now, hang_after=hang_after, start_timeout=start_timeout)


def test_what_is_not_wanted_is_left_alone() -> None:
    assert act(Watch(), 5) == Rest(None)
    assert act(replace(RUNNING, wanted=False, frozen_since=0.0), 500) == Rest(None)


def test_dead_is_fenced_before_it_is_started() -> None:
    assert isinstance(act(Watch(wanted=True), 5), Fence)
    assert act(Watch(wanted=True, clean=True), 5) == Start()


def test_back_off() -> None:
    failures, pauses = Failures(), []
    now = 1000.0
    for _ in range(5):
        failures = failures.after(now, 0.0)
        pauses.append(round(failures.retry_at - now, 3))
        now = failures.retry_at
    assert pauses == [0.0, 0.2, 0.4, 0.8, LOOP_PAUSE]
    assert failures.looping
    dead = Watch(wanted=True, clean=True, failures=failures)
    assert act(dead, now - 1) == Rest(failures.retry_at)
    assert act(dead, failures.retry_at) == Start()


def test_a_loop_stays_one_until_it_runs_steadily() -> None:
    failures = Failures()
    for second in range(5):
        failures = failures.after(float(second), 0.5)
    assert failures.looping
    later = failures.after(40.0, 5.0)
    assert later.looping
    assert later.retry_at == 40.0 + LOOP_PAUSE
    steady = later.after(500.0, 61.0)
    assert not steady.looping
    assert steady.count == 1
    assert steady.retry_at == 500.0


def test_slow_failures_are_no_loop_but_slow_down() -> None:
    failures = Failures()
    for number in range(20):
        failures = failures.after(number * 30.0, 29.0)
    assert not failures.looping
    assert failures.retry_at - 19 * 30.0 == 10.0


def test_frozen_for_two_seconds() -> None:
    frozen = replace(RUNNING, frozen_since=200.0)
    assert act(frozen, 201.9) == Rest(202.0)
    assert isinstance(act(frozen, 202.0), Fence)


def silent(watch: Watch, times: list[float]) -> Watch:
    for asked in times:
        watch = with_answer(watch, asked, good=False, answered=False)
    return watch


def test_hung_needs_questions_that_were_asked() -> None:
    ready = with_answer(RUNNING, 150.0, good=True, answered=True)
    # an agent that slept for an hour asked nothing
    assert act(ready, 4000.0) == Ask()
    assert not isinstance(act(silent(ready, [4000.0]), 4500.0), Fence)
    hung = silent(ready, [200.0, 202.0, 204.0])
    assert not isinstance(act(hung, 229.9), Fence)
    assert isinstance(act(hung, 230.0), Fence)
    assert not isinstance(act(hung, 230.0, hang_after=0), Fence)


def test_a_bad_answer_is_an_answer() -> None:
    ready = with_answer(RUNNING, 150.0, good=True, answered=True)
    bad = with_answer(silent(ready, [200.0, 202.0, 204.0]), 206.0, good=False, answered=True)
    assert not isinstance(act(bad, 900.0), Fence)
    assert judge(bad, 900.0, start_timeout=60) == Health.FAILING


def test_never_hung_while_it_may_still_be_starting() -> None:
    young = silent(RUNNING, [101.0, 102.0, 103.0])
    assert not isinstance(act(young, 189.0), Fence)
    assert isinstance(act(young, 190.0), Fence)


def test_one_question_at_a_time() -> None:
    due = replace(RUNNING, next_probe=0.0)
    assert act(due, 150.0) == Ask()
    assert act(replace(due, probing=True), 150.0) == Rest(None)


def test_how_often_it_is_asked() -> None:
    assert next_probe(RUNNING, 100.5, member=True, spread=0.5, start_timeout=60) == pytest.approx(100.53)
    assert next_probe(RUNNING, 103.0, member=True, spread=0.5, start_timeout=60) == pytest.approx(103.06)
    assert next_probe(RUNNING, 130.0, member=True, spread=0.5, start_timeout=60) == pytest.approx(130.1)
    assert next_probe(RUNNING, 300.0, member=True, spread=0.5, start_timeout=60) == 300.5
    ready = replace(RUNNING, good=True, ready_once=True)
    assert next_probe(ready, 300.0, member=True, spread=0.5, start_timeout=60) == 302.0
    assert next_probe(ready, 300.0, member=True, spread=0.0, start_timeout=60) < 302.0
    assert next_probe(ready, 300.0, member=False, spread=0.5, start_timeout=60) == 304.0


@pytest.mark.parametrize(
    ("watch", "now", "health"),
    [
        (Watch(), 0.0, Health.STOPPED),
        (Watch(wanted=True, clean=True), 0.0, Health.STARTING),
        (RUNNING, 110.0, Health.STARTING),
        (RUNNING, 161.0, Health.FAILING),
        (replace(RUNNING, good=True, ready_once=True), 110.0, Health.READY),
        (replace(RUNNING, ready_once=True), 110.0, Health.FAILING),
        (replace(RUNNING, good=True, trouble="shared"), 110.0, Health.FAILING),
        (replace(RUNNING, good=True, frozen_since=109.0), 110.0, Health.FAILING),
        (Watch(wanted=True, failures=Failures(1, (5.0,))), 6.0, Health.FAILING),
        (replace(RUNNING, failures=Failures(5, (5.0,), looping=True)), 110.0, Health.FAILING),
        (replace(RUNNING, good=True, failures=Failures(5, (5.0,), looping=True)), 110.0, Health.READY),
    ],
)
def test_health(watch: Watch, now: float, health: Health) -> None:
    assert judge(watch, now, start_timeout=60) == health
