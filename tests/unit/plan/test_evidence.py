"""The bets are fair: by counting every outcome of small cases, and by simulation."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asbuilt.plan.evidence import (
    LATER,
    NONE,
    PARTS,
    TIMES,
    Count,
    Odds,
    Wealth,
    above_factors,
    below_factors,
    odds_factors,
)

counts = st.integers(0, 40).flatmap(
    lambda n: st.integers(0, n).map(lambda x: Count(n, x)),
)


def binomial(n: int, x: int, chance: float) -> float:
    return math.comb(n, x) * chance**x * (1 - chance) ** (n - x)


def worse(chance: float, factor: float) -> float:
    """The chance with so many times the odds."""
    return factor * chance / (1 - chance + factor * chance)


@pytest.mark.parametrize("factor", [1.0, 1.5, 4.0])
@pytest.mark.parametrize("chance", [0.01, 0.2, 0.7])
@pytest.mark.parametrize(("ours", "theirs"), [(1, 1), (1, 9), (4, 6), (8, 3), (6, 0), (0, 6)])
def test_no_alternative_gains_on_average_at_the_edge_of_the_hypothesis(
    factor: float, chance: float, ours: int, theirs: int
) -> None:
    mean = [0.0] * len(TIMES)
    for x, y in product(range(ours + 1), range(theirs + 1)):
        weight = binomial(ours, x, worse(chance, factor)) * binomial(theirs, y, chance)
        for place, gain in enumerate(odds_factors(Count(ours, x), Count(theirs, y), factor)):
            mean[place] += weight * gain
    assert all(one <= 1 + 1e-9 for one in mean)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 6),
    st.integers(0, 9),
    st.floats(0.001, 0.95),
    st.floats(1, 5),
    st.floats(0, 1),
)
def test_no_alternative_gains_on_average_inside_the_hypothesis(
    ours: int, theirs: int, chance: float, factor: float, inside: float
) -> None:
    mean = [0.0] * len(TIMES)
    for x, y in product(range(ours + 1), range(theirs + 1)):
        weight = binomial(ours, x, worse(chance, inside * factor)) * binomial(theirs, y, chance)
        for place, gain in enumerate(odds_factors(Count(ours, x), Count(theirs, y), factor)):
            mean[place] += weight * gain
    assert all(one <= 1 + 1e-9 for one in mean)


def test_given_the_total_no_alternative_gains_either() -> None:
    """Noncentral hypergeometric, by counting: the bets are fair for every number of events."""
    ours, theirs, factor = 4, 7, 1.5
    for events in range(ours + theirs + 1):
        outcomes = range(max(0, events - theirs), min(ours, events) + 1)
        weights = [math.comb(ours, x) * math.comb(theirs, events - x) * factor**x for x in outcomes]
        for place in range(len(TIMES)):
            mean = sum(
                weight * odds_factors(Count(ours, x), Count(theirs, events - x), factor)[place]
                for weight, x in zip(weights, outcomes, strict=True)
            )
            assert mean <= sum(weights) * (1 + 1e-9)


def test_it_does_gain_where_the_candidate_is_worse() -> None:
    grown = sum(
        binomial(5, x, 0.6) * binomial(20, y, 0.1) * math.log(odds_factors(Count(5, x), Count(20, y), 1.5)[1])
        for x, y in product(range(6), range(21))
    )
    assert grown > 0.5


@pytest.mark.parametrize("limit", [0.02, 0.3])
@pytest.mark.parametrize("inside", [0.1, 0.9, 1.0])
def test_limits_are_fair_on_their_side(limit: float, inside: float) -> None:
    n = 12
    for place in range(len(TIMES)):
        mean = sum(
            binomial(n, x, inside * limit) * above_factors(Count(n, x), limit)[place] for x in range(n + 1)
        )
        assert mean <= 1 + 1e-9
    for place in range(len(PARTS)):
        chance = 1 - inside * (1 - limit)
        mean = sum(binomial(n, x, chance) * below_factors(Count(n, x), limit)[place] for x in range(n + 1))
        assert mean <= 1 + 1e-9


def test_the_whole_process_is_fair_over_several_ticks_with_waiting_and_later_bets() -> None:
    """All outcomes of four ticks, the last two with other chances; enumerated, so exact."""
    factor, sizes = 1.5, [(2, 8), (1, 3), (2, 7), (2, 8)]
    chances = [0.05, 0.05, 0.4, 0.4]
    states: dict[Odds, float] = {Odds.start(factor): 1.0}
    for (ours, theirs), chance in zip(sizes, chances, strict=True):
        following: dict[Odds, float] = {}
        for odds, weight in states.items():
            for x, y in product(range(ours + 1), range(theirs + 1)):
                part = binomial(ours, x, worse(chance, factor)) * binomial(theirs, y, chance)
                if part < 1e-4:
                    continue
                seen = odds.see(Count(ours, x), Count(theirs, y))
                following[seen] = following.get(seen, 0.0) + weight * part
        states = following
        assert sum(weight * odds.value for odds, weight in states.items()) <= 1 + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(counts, counts), max_size=20), st.floats(1, 4))
def test_evidence_is_never_negative_and_never_below_what_is_not_bet(
    ticks: list[tuple[Count, Count]], factor: float
) -> None:
    odds = Odds.start(factor)
    for ours, theirs in ticks:
        odds = odds.see(ours, theirs)
        assert math.isfinite(odds.value)
        assert odds.value >= odds.wealth.cash > 0
    assert odds.candidate.requests == sum(ours.requests for ours, _ in ticks)
    assert odds.stable.events == sum(theirs.events for _, theirs in ticks)


@settings(max_examples=60, deadline=None)
@given(st.lists(counts, max_size=20), st.booleans())
def test_one_side_alone_says_nothing(ticks: list[Count], candidate: bool) -> None:
    odds = Odds.start(2)
    for count in ticks:
        odds = odds.see(count, NONE) if candidate else odds.see(NONE, count)
    assert odds.value == 1


@settings(max_examples=60, deadline=None)
@given(counts, counts, st.floats(1, 4))
def test_one_more_event_of_the_candidate_is_more_evidence(ours: Count, theirs: Count, factor: float) -> None:
    if ours.events == ours.requests or not theirs.requests:
        return
    less = Odds.start(factor).see(ours, theirs).value
    more = Odds.start(factor).see(Count(ours.requests, ours.events + 1), theirs).value
    assert more >= less


def test_sparse_requests_are_gathered_until_they_can_be_compared() -> None:
    odds = Odds.start(1.5)
    for _ in range(40):
        odds = odds.see(Count(1, 1), NONE)
        odds = odds.see(NONE, Count(1, 0))
    assert odds.value > 1000


def test_a_long_good_time_costs_little_when_it_goes_wrong_later() -> None:
    def wait(good: int) -> int:
        odds = Odds.start(1.5)
        for _ in range(good):
            odds = odds.see(Count(100, 1), Count(900, 9))
        for tick in range(1000):
            if odds.value >= 100:
                return tick
            odds = odds.see(Count(100, 5), Count(900, 9))
        raise AssertionError

    assert wait(0) >= 1
    assert wait(600) <= 3 * wait(0)


def test_wealth_starts_at_one_and_is_capped() -> None:
    wealth = Wealth.start(3, LATER)
    assert wealth.value == pytest.approx(1)
    for _ in range(5):
        wealth = wealth.bet((1e200, 1e200, 1e200))
    assert math.isfinite(wealth.value)


def test_the_edge_of_the_hypothesis_is_rejected_no_more_often_than_allowed() -> None:
    source, runs, alpha, rejected = random.Random(5), 400, 0.05, 0
    for _ in range(runs):
        odds = Odds.start(1.5)
        for _ in range(150):
            x = sum(source.random() < worse(0.1, 1.5) for _ in range(3))
            y = sum(source.random() < 0.1 for _ in range(12))
            odds = odds.see(Count(3, x), Count(12, y))
            if odds.value >= 1 / alpha:
                rejected += 1
                break
    # at most 20 are expected; 4 standard deviations more would be a fault
    assert rejected <= runs * alpha + 4 * math.sqrt(runs * alpha * (1 - alpha))
