from __future__ import annotations

import itertools

import pytest

from asbuilt.engines.redis.role import (
    ALL_ANSWER_WITHIN,
    PATIENCE,
    Living,
    Named,
    Start,
    Stored,
    choose_successor,
    decide,
)

NODES = ("cache-1", "cache-2", "cache-3")
EMPTY = {node: Stored(data=False) for node in NODES}
FULL = {node: Stored(data=True, written=float(n)) for n, node in enumerate(NODES)}
FOLLOWER = Living(primary=False, follows="cache-1", synced=True)
COLD_FOLLOWER = Living(primary=False, follows="cache-1")


def test_the_first_start_ever_makes_the_first_node_primary() -> None:
    assert decide("cache-1", {}, EMPTY, (), 0).start is Start.PRIMARY
    assert decide("cache-2", {}, EMPTY, (), 0).follows == "cache-1"


def test_a_living_primary_is_followed_whatever_the_sentinels_say() -> None:
    living = {"cache-2": Living(primary=True), "cache-3": FOLLOWER}
    for named in ((), (Named("cache-1", 9, living=True),)):
        assert decide("cache-1", living, FULL, named, 0).follows == "cache-2"


def test_a_failed_primary_waits_for_the_promotion_of_another() -> None:
    living = {"cache-2": FOLLOWER, "cache-3": FOLLOWER}
    named = (Named("cache-1", 3, living=True),)
    assert decide("cache-1", living, FULL, named, 0).start is Start.WAIT
    assert decide("cache-1", living, FULL, named, PATIENCE + 1).start is Start.PRIMARY


def test_an_emptied_primary_waits_for_ever() -> None:
    living = {"cache-2": FOLLOWER, "cache-3": FOLLOWER}
    stored = FULL | {"cache-1": Stored(data=False)}
    assert decide("cache-1", living, stored, (Named("cache-1", 3, living=True),), 1e9).start is Start.WAIT


def test_it_follows_whom_the_sentinels_promote() -> None:
    living = {"cache-2": FOLLOWER}
    named = (Named("cache-1", 3, living=False), Named("cache-3", 4, living=True))
    assert decide("cache-1", living, FULL, named, 0).follows == "cache-3"


def test_from_rest_the_last_primary_goes_on() -> None:
    named = (Named("cache-2", 4, living=False), Named("cache-1", 3, living=False))
    living = {"cache-1": COLD_FOLLOWER}
    assert decide("cache-2", living, FULL, named, 0).start is Start.PRIMARY
    assert decide("cache-3", {}, FULL, named, 0).follows == "cache-2"


def test_from_rest_an_emptied_last_primary_follows_the_newest_data() -> None:
    named = (Named("cache-1", 4, living=False),)
    stored = FULL | {"cache-1": Stored(data=False)}
    assert decide("cache-1", {}, stored, named, 0).follows == "cache-3"
    assert decide("cache-3", {"cache-2": Living(primary=False)}, stored, named, 0).start is Start.PRIMARY


def test_without_sentinels_the_newest_data_goes_on() -> None:
    assert decide("cache-3", {}, FULL, (), 0).start is Start.PRIMARY
    assert decide("cache-1", {}, FULL, (), 0).follows == "cache-3"


@pytest.mark.parametrize("data", list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("named", [None, *NODES])
def test_from_rest_all_agree_on_one_and_never_on_an_empty_one(
    data: tuple[bool, ...], named: str | None
) -> None:
    stored = {node: Stored(has, float(n)) for n, (node, has) in enumerate(zip(NODES, data, strict=True))}
    said = (Named(named, 1, living=False),) if named else ()
    chosen = {decide(node, {}, stored, said, 0).follows or node for node in NODES}
    assert len(chosen) == 1
    assert stored[chosen.pop()].data or not any(data)


@pytest.mark.parametrize("data", list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("first", NODES)
def test_one_after_another_gives_one_primary(data: tuple[bool, ...], first: str) -> None:
    stored = {node: Stored(has, float(n)) for n, (node, has) in enumerate(zip(NODES, data, strict=True))}
    living: dict[str, Living] = {}
    for node in (first, *(n for n in NODES if n != first)):
        decision = decide(node, living, stored, (), 0)
        assert decision.start is not Start.WAIT
        living[node] = Living(decision.start is Start.PRIMARY, decision.follows)
    assert sum(one.primary for one in living.values()) == 1


NAMED = (Named("cache-1", 3, living=True), Named("cache-1", 2, living=True))


def follower(offset: int, *, synced: bool = True) -> Living:
    return Living(primary=False, follows="cache-1", synced=synced, offset=offset)


def test_the_replica_with_the_most_succeeds_a_dead_primary() -> None:
    living = {"cache-2": follower(7), "cache-3": follower(5)}
    assert choose_successor("cache-1", 2, living, NAMED, 0) == "cache-2"


def test_a_replica_that_was_never_in_step_does_not_succeed() -> None:
    living = {"cache-2": follower(7, synced=False), "cache-3": follower(5)}
    assert choose_successor("cache-1", 2, living, NAMED, 0) == "cache-3"
    assert choose_successor("cache-1", 2, {"cache-2": follower(7, synced=False)}, NAMED, 9) is None


def test_who_does_not_answer_may_have_more_and_is_waited_for_a_while() -> None:
    living = {"cache-3": follower(5)}
    assert choose_successor("cache-1", 2, living, NAMED, 0) is None
    assert choose_successor("cache-1", 2, living, NAMED, ALL_ANSWER_WITHIN) == "cache-3"


@pytest.mark.parametrize(
    ("living", "named"),
    [
        ({"cache-2": Living(primary=True), "cache-3": follower(5)}, NAMED),
        ({"cache-2": follower(7), "cache-3": follower(5)}, (*NAMED, Named("cache-2", 4, living=True))),
        ({"cache-2": follower(7), "cache-3": follower(5)}, (Named("cache-1", 3, living=False),)),
        ({"cache-2": follower(7), "cache-3": follower(5)}, ()),
    ],
    ids=["another is primary", "the sentinels chose", "no sentinel lives", "nobody says who it was"],
)
def test_nobody_is_promoted_unless_the_dead_one_was_the_primary(
    living: dict[str, Living], named: tuple[Named, ...]
) -> None:
    assert choose_successor("cache-1", 2, living, named, 9) is None
