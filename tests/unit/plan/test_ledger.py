"""What numbered writes and samples tell of a fault."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asbuilt.plan.ledger import (
    Sight,
    count_losses,
    count_overlaps,
    find_gap,
    find_legs,
    find_overlaps,
    measure_rto,
)


def test_only_what_was_acknowledged_can_be_lost() -> None:
    losses = count_losses([(1.0, 1), (2.0, 2), (3.0, 3)], [1, 3, 4, 4], moment=2.5)
    assert (losses.acknowledged, losses.lost, losses.outside, losses.doubled) == (3, (2,), (2,), (4,))
    assert losses.seconds == pytest.approx(0.5)


def test_a_store_that_may_lose_the_last_second_may_lose_no_more() -> None:
    acknowledged = [(8.5, 1), (9.5, 2), (10.1, 3), (11.0, 4)]
    losses = count_losses(acknowledged, [], moment=10.0, bound=1.0)
    assert losses.lost == (1, 2, 3, 4)
    assert losses.outside == (1, 4), "the first is too old, the last was after the fault"


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 50)), max_size=30), st.lists(st.integers(0, 50)))
def test_nothing_is_lost_that_is_there(acknowledged: list[tuple[float, int]], stored: list[int]) -> None:
    losses = count_losses(acknowledged, stored, moment=50.0)
    assert not set(losses.lost) & set(stored)
    assert set(losses.lost) | set(stored) >= {number for _, number in acknowledged}
    assert set(losses.outside) <= set(losses.lost)


def test_the_gap_is_the_longest_between_two_good_answers() -> None:
    assert measure_rto([8.0, 9.5, 9.9, 12.4, 12.5, 12.6], moment=10.0, now=12.7) == pytest.approx(2.5)


def test_a_gap_that_does_not_end_is_no_recovery() -> None:
    gap = find_gap([9.5, 9.9], moment=10.0, now=70.0)
    assert gap is not None
    assert not gap.closed
    assert measure_rto([9.5, 9.9], moment=10.0, now=70.0) is None
    assert measure_rto([], moment=10.0, now=70.0) is None


@given(st.lists(st.floats(0, 100), min_size=2, max_size=30))
def test_a_gap_is_no_longer_than_the_time_there_is(good: list[float]) -> None:
    gap = find_gap(good, moment=1.0, now=100.0)
    assert gap is None or 0.0 <= gap.seconds <= 100.0


def test_two_nodes_that_interleave_are_two_primaries() -> None:
    one_after_the_other = {"db-1": [(0.0, 0.1), (0.2, 0.3)], "db-2": [(0.5, 0.6)]}
    assert find_overlaps(one_after_the_other) == []
    both = {"db-1": [(0.0, 0.1), (1.0, 1.1)], "db-2": [(0.5, 0.6)]}
    assert find_overlaps(both) == ["db-1 and db-2"]
    assert count_overlaps(both) == 1


def test_a_node_that_led_before_and_leads_again_stopped_in_between_if_it_was_seen_not_to() -> None:
    there_and_back = {"db-1": [(0.0, 0.1), (0.2, 0.3), (2.0, 2.1)], "db-2": [(1.0, 1.1), (1.2, 1.3)]}
    assert find_overlaps(there_and_back) == ["db-1 and db-2"]
    assert find_overlaps(there_and_back, {"db-1": [0.5, 0.8], "db-2": [0.3, 1.8]}) == []
    assert find_overlaps(there_and_back, {"db-1": [1.9]}) == []
    assert find_overlaps(there_and_back, {"db-1": [0.1, 2.5]}) == ["db-1 and db-2"]


def test_one_answer_of_a_woken_primary_between_two_of_its_successor_is_seen() -> None:
    seen = {"db-1": [(0.0, 0.1), (5.25, 5.3)], "db-2": [(5.0, 5.1), (5.2, 5.21), (5.4, 5.41)]}
    denied = {"db-1": [0.2, 5.45], "db-2": [0.1, 0.3]}
    assert find_overlaps(seen, denied) == ["db-2 and db-1"]
    assert count_overlaps(seen, denied) == 1


def test_a_node_that_was_never_seen_again_has_ended() -> None:
    seen = {"db-1": [(0, 0.1), (0.2, 0.3)], "db-2": [(0.25, 0.4), (0.6, 0.7)], "db-3": []}
    assert find_overlaps(seen) == []


def test_an_answer_that_took_long_proves_nothing() -> None:
    assert find_overlaps({"db-1": [(0.0, 0.1), (0.4, 1.1)], "db-2": [(0.3, 0.6)]}) == []


def test_the_legs_of_a_failover_come_in_order() -> None:
    sight = Sight(
        moment=10.0,
        primary="db-1",
        broken=10.3,
        refused=(10.2, 10.4),
        connected=(9.0, 11.6),
        acknowledged=(9.9, 9.98, 11.7, 11.72),
        writable={"db-1": ((9.8, 9.81), (10.05, 10.1)), "db-2": ((11.5, 11.55),), "db-3": ()},
        whole=14.0,
    )
    legs = find_legs(sight, 12.0)
    assert list(legs) == ["detect", "fence", "promote", "route", "first write", "full redundancy"]
    assert legs["detect"] == pytest.approx(0.2)
    assert legs["fence"] == pytest.approx(0.1)
    assert legs["promote"] == pytest.approx(1.5)
    assert legs["route"] == pytest.approx(1.6)
    assert legs["first write"] == pytest.approx(1.7)


def test_legs_that_nobody_saw_are_left_out() -> None:
    assert find_legs(Sight(10.0, "db-1", None, (), (), (), {}, None), 12.0) == {}
