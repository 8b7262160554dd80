from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asbuilt.plan.autoscale import Decision, Memory, Verdict, decide, settings_of
from asbuilt.plan.demand import Sample, Settings, Signal
from asbuilt.spec.load import load as load_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SETTINGS = Settings(3, 20)
COST = 1 / 80
"""Servers at full CPU for one request each second."""
CROWD = 8.0
"""Requests in flight on a server at full CPU."""


def sample(at: float, rate: float, wanted: int, ready: int | None = None) -> Sample:
    """A fleet that answers what it can of `rate` requests/s."""
    serving = wanted if ready is None else ready
    share = min(rate * COST / serving, 1.0) if serving else 0.0
    return Sample(
        at,
        wanted,
        serving,
        starting=wanted - serving,
        in_flight=share * serving * CROWD,
        rate=rate,
        p95=200.0,
        cpu=share,
    )


def play(
    rate: Callable[[float], float],
    seconds: int,
    *,
    wanted: int = 3,
    memory: Memory | None = None,
    start: int = 0,
    targets: Settings = SETTINGS,
) -> Iterator[tuple[Sample, Decision]]:
    """A fleet whose servers are ready at the next sample."""
    memory = Memory() if memory is None else memory
    for at in range(start, start + seconds, 5):
        seen = sample(at, rate(at), wanted)
        decision = decide(seen, memory, targets)
        yield seen, decision
        wanted, memory = decision.servers, decision.memory


def settle(rate: float, wanted: int = 3) -> tuple[int, Memory]:
    """The fleet after half an hour of a load."""
    last = list(play(lambda _: rate, 1800, wanted=wanted))[-1][1]
    return last.servers, last.memory


def test_a_load_above_the_target_adds_what_it_needs_and_says_why() -> None:
    servers, memory = settle(150)
    assert servers == 3
    decision = decide(sample(1805, 700, 3), memory, SETTINGS)
    assert (decision.servers, decision.verdict) == (13, Verdict.UP)
    assert decision.reason.startswith("3 -> 13: 700 requests/s, 56 on a server at its target; ")
    assert not decision.at_ceiling


def test_without_a_rate_a_full_cpu_doubles_the_servers() -> None:
    seen = replace(sample(0, 900, 4), rate=None)
    decision = decide(seen, Memory(), SETTINGS)
    assert decision.servers == 8
    assert "cannot be seen" in decision.reason


def test_configured_requests_in_flight_count_by_themselves() -> None:
    seen = Sample(0, 3, 3, in_flight=61, rate=100, cpu=0.05)
    decision = decide(seen, Memory(), replace(SETTINGS, in_flight=12))
    assert decision.servers == 6
    assert decision.reason.startswith("3 -> 6: 61 requests in flight on 3 servers, target 12 each")
    assert decide(seen, Memory(), SETTINGS).servers == 3


def test_the_ceiling_holds_and_is_told() -> None:
    servers, memory = settle(150)
    decision = decide(sample(1805, 3000, servers), memory, SETTINGS)
    assert (decision.servers, decision.at_ceiling) == (20, True)
    assert "the spec allows 20, the load asks for 54" in decision.reason
    full = decide(sample(1810, 3000, 20), decision.memory, SETTINGS)
    assert (full.servers, full.verdict, full.at_ceiling) == (20, Verdict.HOLD, True)


def test_a_fall_is_believed_after_the_window_only() -> None:
    servers, memory = settle(600, 12)
    falling = list(play(lambda _: 100, 3600, wanted=servers, memory=memory, start=1800))
    first = next(seen.at for seen, decision in falling if decision.verdict is Verdict.DOWN)
    assert first - 1795 >= SETTINGS.down_after, "the sample at 1800 is of what came since 1795"
    assert falling[-1][1].servers == 3
    assert any("only for 40 s of 120 s" in decision.reason for _, decision in falling)
    assert all(seen.wanted - decision.servers <= max(1, seen.wanted // 4) for seen, decision in falling), (
        "too many at once"
    )


def test_a_crowd_that_came_once_keeps_its_room_for_a_while() -> None:
    servers, memory = settle(150)
    crowd = list(play(lambda _: 900, 60, wanted=servers, memory=memory, start=1800))[-1][1]
    after = list(play(lambda _: 150, 900, wanted=crowd.servers, memory=crowd.memory, start=1860))
    assert after[-1][1].servers > 4
    assert "came at once" in after[-1][1].reason
    later = list(
        play(lambda _: 150, 7200, wanted=after[-1][1].servers, memory=after[-1][1].memory, start=2760)
    )
    assert later[-1][1].servers == 3


def test_after_a_steady_load_that_ends_at_once_the_fewest_servers_remain() -> None:
    steady = list(play(lambda _: 900, 8 * 3600, wanted=12))[-1][1]
    ended = play(lambda _: 0, 1800, wanted=steady.servers, memory=steady.memory, start=8 * 3600)
    assert list(ended)[-1][1].servers == 3


def test_a_server_that_has_just_come_is_not_taken_for_one_that_worked() -> None:
    servers, memory = settle(150)
    assert servers == 3
    # three did the work of this sample, at whose end the fourth is ready
    after = decide(replace(sample(1805, 150, 3), wanted=4, ready=4), memory, SETTINGS)
    assert memory.trend is not None
    assert after.memory.trend is not None
    assert after.memory.trend.level == pytest.approx(memory.trend.level)
    assert after.memory.learned == memory.learned, "nor is it learned from"


def test_growth_is_seen_before_it_is_there() -> None:
    slow = replace(SETTINGS, start_time=60.0)
    at_once = replace(SETTINGS, start_time=1.0)

    def climb(at: float) -> float:
        return 160 + max(0.0, at - 900) * 0.5

    found = [
        next(seen.at for seen, one in play(climb, 3600, targets=targets) if one.servers >= 6)
        for targets in (slow, at_once)
    ]
    assert found[0] <= found[1]
    assert climb(found[0]) * COST < 6 * 0.95


DOUBTS: dict[str, Callable[[Sample], Sample]] = {
    "no CPU": lambda seen: replace(seen, cpu=None),
    "no requests in flight": lambda seen: replace(seen, in_flight=None),
    "no rate": lambda seen: replace(seen, rate=None),
    "not a number": lambda seen: replace(seen, cpu=math.nan),
    "negative": lambda seen: replace(seen, rate=-1.0),
    "nothing": lambda seen: replace(seen, cpu=None, in_flight=None, rate=None),
    "stale": lambda seen: replace(seen, age=31.0),
    "from the future": lambda seen: replace(seen, age=-1.0),
    "none in flight under load": lambda seen: replace(seen, in_flight=0.0, rate=900.0),
    "no requests, many in flight": lambda seen: replace(seen, in_flight=90.0, rate=0.0),
    "an idle CPU under load": lambda seen: replace(seen, cpu=0.001, in_flight=20.0, rate=200.0),
    "a server is missing": lambda seen: replace(seen, ready=seen.wanted - 1),
    "a server starts": lambda seen: replace(seen, starting=1),
    "a server crashes": lambda seen: replace(seen, crashing=1),
    "the database fails over": lambda seen: replace(seen, failing_over=True),
    "a release": lambda seen: replace(seen, releasing=True),
}


@pytest.mark.parametrize("what", DOUBTS)
def test_nothing_is_removed_on_a_doubt(what: str) -> None:
    servers, memory = settle(600, 12)
    trusted = memory
    for at in range(1805, 3600, 5):
        seen = sample(at, 100, servers)
        decision = decide(DOUBTS[what](seen), memory, SETTINGS)
        memory = decision.memory
        assert decision.servers >= servers, decision.reason
        assert decision.verdict is not Verdict.DOWN
        assert any(letter.isdigit() for letter in decision.reason.partition(":")[2]), decision.reason
        clear = decide(seen, trusted, SETTINGS)
        trusted = clear.memory
        if clear.verdict is Verdict.DOWN:
            break
    else:
        pytest.fail("the same load without a doubt removes none either")


def test_what_remains_of_the_signals_still_adds_servers() -> None:
    servers, memory = settle(150)
    seen = replace(sample(1805, 600, servers), cpu=None)
    assert decide(seen, memory, SETTINGS).servers >= 10
    assert decide(replace(seen, in_flight=None), memory, SETTINGS).servers >= 10
    assert decide(replace(seen, rate=None), memory, SETTINGS).servers > servers


def test_slow_answers_add_servers_only_where_there_is_work() -> None:
    targets = replace(SETTINGS, latency=500.0)
    busy = Sample(0, 10, 10, in_flight=55, rate=500, p95=900, cpu=0.65)
    assert decide(busy, Memory(), targets).servers == 15
    assert decide(replace(busy, cpu=0.2), Memory(), targets).servers == 10
    assert decide(replace(busy, failing_over=True), Memory(), targets).servers == 10


def test_the_word_of_the_operator_and_a_release_hold_the_number() -> None:
    servers, memory = settle(150)
    storm = sample(1805, 900, servers)
    by_hand = decide(replace(storm, by_hand=5), memory, SETTINGS)
    assert (by_hand.servers, by_hand.reason) == (5, "3 -> 5: 5 were asked for by hand")
    assert decide(replace(storm, by_hand=50), memory, SETTINGS).servers == 20
    release = decide(replace(storm, releasing=True), memory, SETTINGS)
    assert (release.servers, release.verdict) == (3, Verdict.HOLD)
    assert release.memory.learned.samples == 0, "the next release costs what it costs"


def test_more_of_what_crashes_is_not_started() -> None:
    servers, memory = settle(150)
    seen = replace(sample(1805, 900, servers), crashing=2)
    decision = decide(seen, memory, SETTINGS)
    assert (decision.servers, decision.verdict) == (3, Verdict.HOLD)
    assert "2 of 3 servers crash" in decision.reason


def test_a_start_that_fails_half_way_keeps_what_came_up_and_is_tried_again_later_and_later() -> None:
    servers, memory = settle(150)
    up = decide(sample(1805, 600, servers), memory, SETTINGS)
    memory, retries = up.memory, []
    for at in range(1810, 1810 + 1800, 5):
        decision = decide(sample(at, 600, up.servers, ready=5), memory, SETTINGS)
        memory = decision.memory
        assert decision.servers == up.servers, decision.reason
        if decision.verdict is Verdict.RETRY:
            retries.append(at)
    pauses = [after - before for before, after in pairwise(retries)]
    assert len(pauses) >= 3
    assert pauses == sorted(set(pauses))
    healed = decide(sample(3700, 600, up.servers), memory, SETTINGS)
    assert healed.memory.failures == 0


def test_the_time_that_servers_take_is_learned() -> None:
    servers, memory = settle(150)
    up = decide(sample(1805, 600, servers), memory, SETTINGS)
    memory = up.memory
    for at in range(1810, 1830, 5):
        memory = decide(sample(at, 600, up.servers, ready=servers), memory, SETTINGS).memory
    assert decide(sample(1830, 600, up.servers), memory, SETTINGS).memory.start_time == 25


def test_a_changed_range_is_followed() -> None:
    assert decide(sample(0, 10, 3), Memory(), Settings(5, 8)).servers == 5
    assert decide(sample(0, 10, 12), Memory(), Settings(5, 8)).servers == 8


def test_the_spec_sets_the_targets(tmp_path: Path) -> None:
    path = tmp_path / "asbuilt.yaml"
    path.write_text(
        "name: shop\napp:\n  command: serve\n  instances: 4..9\n"
        "  scaling: {cpu: 60%, in_flight: 8, latency: 500ms, down_after: 5m}\n"
        "environments: {production: {}, staging: {app: {scaling: {cpu: 50%}}}}\n"
    )
    environments = load_spec(path).spec.environments
    assert settings_of(environments["production"].app) == Settings(4, 9, 0.6, 8, 500, 300)
    assert settings_of(environments["staging"].app).cpu == 0.5
    path.write_text("name: shop\napp: {command: serve}\nenvironments: {production: {}}\n")
    assert settings_of(load_spec(path).spec.environments["production"].app) == SETTINGS


maybe = st.none() | st.floats(0, 5000) | st.sampled_from([math.nan, math.inf, -1.0])


rarely = st.sampled_from([False, False, False, True])
samples = st.builds(
    lambda wanted, missing, starting, **rest: Sample(
        0, wanted, max(wanted - missing, 0), min(starting, missing, wanted), **rest
    ),
    st.integers(0, 25),
    st.sampled_from([0, 0, 1, 5]),
    st.sampled_from([0, 1, 5]),
    crashing=st.sampled_from([0, 0, 0, 1]),
    in_flight=maybe,
    rate=maybe,
    p95=maybe,
    cpu=st.none() | st.floats(0, 1.2),
    age=st.sampled_from([0.0, 0.0, 5.0, 100.0]),
    releasing=rarely,
    failing_over=rarely,
)
histories = st.lists(st.tuples(st.integers(1, 60), samples), min_size=1, max_size=12)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories)
def test_whatever_is_seen_the_number_stays_in_the_range_and_is_explained(
    history: list[tuple[int, Sample]],
) -> None:
    memory, at = Memory(), 0.0
    for pause, seen in history:
        at += pause
        decision = decide(replace(seen, at=at), memory, SETTINGS)
        memory = decision.memory
        assert decision.servers == seen.wanted if seen.releasing else 3 <= decision.servers <= 20
        assert any(letter.isdigit() for letter in decision.reason)
        assert "\n" not in decision.reason
        assert "nan" not in decision.reason
        lowered = decision.servers < min(seen.wanted, 20)
        whole = None not in (seen.cpu, seen.in_flight, seen.rate) and seen.age <= 30
        assert not lowered or (whole and seen.ready >= seen.wanted and not seen.starting)
        assert not lowered or not (seen.crashing or seen.releasing or seen.failing_over)


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 1400), st.integers(3, 20))
def test_a_constant_load_settles_and_never_flaps(rate: float, wanted: int) -> None:
    found = [decision for _, decision in play(lambda _: rate, 3600, wanted=wanted)]
    ways = [decision.verdict for decision in found if decision.verdict is not Verdict.HOLD]
    # what is there for a noise that never came may leave later, but nothing comes back
    assert ways == sorted(ways, key=[Verdict.UP, Verdict.DOWN].index)
    numbers = [decision.servers for decision in found]
    assert max(numbers[-120:]) - min(numbers[-120:]) <= 1
    assert numbers[-1] == 20 or rate * COST / numbers[-1] <= 0.7 * 1.2


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(100, 1000))
def test_noise_does_not_make_it_run_about(seed: int, rate: float) -> None:
    chance = random.Random(seed)
    found = list(play(lambda _: rate * chance.uniform(0.95, 1.05), 3600, wanted=8))
    assert sum(decision.servers != seen.wanted for seen, decision in found[360:]) <= 4


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.floats(0, 1500), min_size=1, max_size=40),
    st.integers(3, 20),
    st.floats(0, 1),
    st.floats(1, 10),
)
def test_more_load_never_means_fewer_servers(
    rates: list[float], wanted: int, share: float, more: float
) -> None:
    memory = Memory()
    for number, rate in enumerate(rates):
        decision = decide(sample(5 * number, rate, wanted), memory, SETTINGS)
        wanted, memory = decision.servers, decision.memory
    low = Sample(5 * len(rates), wanted, wanted, in_flight=share * 30, rate=share * 400, cpu=share * 0.7)
    high = replace(low, in_flight=share * 30 * more, rate=share * 400 * more, cpu=min(share * 0.7 * more, 1))
    assert decide(high, memory, SETTINGS).servers >= decide(low, memory, SETTINGS).servers


def test_signals_that_an_environment_cannot_measure_are_not_waited_for() -> None:
    targets = replace(SETTINGS, expected=frozenset({Signal.CPU}))
    servers, memory = 12, Memory()
    for at in range(0, 3600, 5):
        seen = replace(sample(at, 200, servers), rate=None, in_flight=None)
        decision = decide(seen, memory, targets)
        servers, memory = decision.servers, decision.memory
    assert servers < 6
