from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asbuilt.plan.fleet import WHOLE, Fleet, from_json, settle, to_json
from asbuilt.plan.rollout import Goal, Strategy, abandon, advance

THREE = Fleet({1: "r1", 2: "r1", 3: "r1"}, "r1")


def walk(fleet: Fleet, goal: Goal) -> list[Fleet]:
    """Every fleet on the way, the first and the last included."""
    found = [fleet]
    while (following := advance(found[-1], goal)) is not None:
        found.append(following)
        assert len(found) < 200, "it does not end"
    return found


def servers(fleets: list[Fleet]) -> list[str]:
    return [" ".join(f"{n}:{one}" for n, one in sorted(fleet.servers.items())) for fleet in fleets]


def test_rolling_with_a_surge_starts_one_more_and_stops_the_last_old_one() -> None:
    assert servers(walk(THREE, Goal("r2", Strategy.ROLLING, 3))) == [
        "1:r1 2:r1 3:r1",
        "1:r1 2:r1 3:r1 4:r2",
        "1:r2 2:r1 3:r1 4:r2",
        "1:r2 2:r2 3:r1 4:r2",
        "1:r2 2:r2 4:r2",
        "1:r2 2:r2 4:r2",
    ]


def test_rolling_without_a_surge_needs_no_server_more() -> None:
    way = walk(THREE, Goal("r2", Strategy.ROLLING, 3, surge=False))
    assert servers(way)[1:4] == ["1:r2 2:r1 3:r1", "1:r2 2:r2 3:r1", "1:r2 2:r2 3:r2"]
    assert way[-1] == Fleet({1: "r2", 2: "r2", 3: "r2"}, "r2")


def test_blue_green_moves_all_traffic_at_once_and_keeps_the_old_ones_warm() -> None:
    way = walk(THREE, Goal("r2", Strategy.BLUE_GREEN, 3, warm=True))
    assert [fleet.share for fleet in way] == [0, 0, WHOLE, 0]
    assert way[-1] == Fleet({1: "r1", 2: "r1", 3: "r1", 4: "r2", 5: "r2", 6: "r2"}, "r2", "r1")


def test_going_back_to_warm_servers_starts_nothing() -> None:
    warm = walk(THREE, Goal("r2", Strategy.BLUE_GREEN, 3, warm=True))[-1]
    back = walk(warm, Goal("r1", Strategy.BLUE_GREEN, 3, warm=True))
    assert {tuple(fleet.servers.items()) for fleet in back} == {tuple(warm.servers.items())}
    assert [(fleet.stable, fleet.share) for fleet in back] == [("r2", 0), ("r2", WHOLE), ("r1", 0)]


def test_a_canary_grows_with_its_share() -> None:
    way = walk(THREE, Goal("r2", Strategy.CANARY, 3))
    seen = list(
        dict.fromkeys((fleet.share, len(fleet.running("r2"))) for fleet in way if fleet.candidate == "r2")
    )
    assert seen == [(0, 1), (1000, 1), (1000, 2), (5000, 2), (5000, 3), (WHOLE, 3)]
    assert way[-1] == Fleet({4: "r2", 5: "r2", 6: "r2"}, "r2")


def test_an_abandoned_canary_loses_its_traffic_before_its_servers() -> None:
    goal = Goal("r2", Strategy.CANARY, 3)
    on_trial = next(fleet for fleet in walk(THREE, goal) if fleet.share == 5000)
    back = walk(on_trial, abandon(on_trial, goal, "r1"))
    assert back[1].share == 0
    assert len(back[1].servers) == len(on_trial.servers)
    assert back[-1] == THREE


def test_an_abandoned_rolling_release_goes_back() -> None:
    goal = Goal("r2", Strategy.ROLLING, 3)
    half = walk(THREE, goal)[2]
    assert walk(half, abandon(half, goal, "r1"))[-1] == THREE


def test_after_the_switch_the_way_back_is_a_switch() -> None:
    way = walk(THREE, Goal("r2", Strategy.BLUE_GREEN, 3, warm=True))
    switched = way[-1]
    assert (switched.stable, switched.candidate) == ("r2", "r1")
    back = walk(switched, abandon(switched, Goal("r2", Strategy.BLUE_GREEN, 3, warm=True), "r1"))
    assert [(fleet.stable, fleet.share) for fleet in back[:3]] == [("r2", 0), ("r2", WHOLE), ("r1", 0)]
    assert back[-1] == THREE


fleets = st.builds(
    lambda names, stable, candidate, share: Fleet(
        dict(enumerate(names, 1)),
        stable,
        candidate if candidate != stable else None,
        share if candidate != stable else 0,
    ),
    st.lists(st.sampled_from(["r1", "r2", "r3"]), min_size=1, max_size=8),
    st.sampled_from(["r1", "r2"]),
    st.sampled_from(["r1", "r2", "r3"]),
    st.sampled_from([0, 1000, 5000, WHOLE]),
)
goals = st.builds(
    Goal,
    st.sampled_from(["r1", "r2", "r3"]),
    st.sampled_from(list(Strategy)),
    st.integers(1, 8),
    surge=st.booleans(),
    warm=st.booleans(),
)


@given(fleets, goals)
def test_every_walk_ends_with_the_release_in_charge(fleet: Fleet, goal: Goal) -> None:
    end = walk(fleet, goal)[-1]
    assert end.stable == goal.release
    assert len(end.running(goal.release)) == goal.count
    assert end.share == 0
    assert goal.warm or set(end.servers.values()) == {goal.release}


@given(fleets, goals)
def test_traffic_comes_after_servers(fleet: Fleet, goal: Goal) -> None:
    for before, after in pairwise(walk(fleet, goal)):
        grown = after.candidate == goal.release and after.share > before.share
        if grown:
            assert len(before.running(goal.release)) * WHOLE >= goal.count * after.share
            assert after.servers == before.servers


@given(st.integers(1, 8), goals)
def test_a_release_is_never_short_of_servers(count: int, goal: Goal) -> None:
    start = settle(None, count, "r0")
    least = min(count, goal.count) - (not goal.surge)
    for before, after in pairwise(walk(start, goal)):
        kept = [n for n, one in before.servers.items() if after.servers.get(n) == one]
        assert len(kept) >= least or after.stable == goal.release


@given(fleets)
def test_a_fleet_survives_being_written(fleet: Fleet) -> None:
    assert from_json(to_json(fleet)) == fleet


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"servers": 3}', '{"servers": {"x": "r1"}}'])
def test_what_is_no_fleet_is_none(text: str | None) -> None:
    assert from_json(text) is None


def test_settling_leaves_what_serves_and_what_is_warm() -> None:
    warm = Fleet({1: "r1", 2: "r1", 4: "r2", 5: "r2"}, "r2", "r1")
    assert settle(warm, 2, "r2") == warm
    assert settle(warm, 3, "r2") == Fleet({1: "r1", 2: "r1", 3: "r2", 4: "r2", 5: "r2"}, "r2", "r1")
    assert settle(warm, 1, "r2") == Fleet({1: "r1", 2: "r1", 4: "r2"}, "r2", "r1")
    assert settle(warm, 2, "r3") == Fleet({4: "r3", 5: "r3"}, "r3")


def test_settling_keeps_numbers_and_removes_the_highest() -> None:
    there = Fleet({2: "r1", 5: "r1", 9: "r2"}, "r1", "r2", 10)
    assert settle(there, 2, "r3") == Fleet({2: "r3", 5: "r3"}, "r3")
    assert settle(there, 4, "r3") == Fleet({1: "r3", 2: "r3", 5: "r3", 9: "r3"}, "r3")
    assert settle(None, 2, "r1") == Fleet({1: "r1", 2: "r1"}, "r1")
