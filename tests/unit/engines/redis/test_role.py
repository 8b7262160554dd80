from __future__ import annotations

import itertools

import pytest

from asbuilt.engines.redis.role import PATIENCE, Living, Named, Start, Stored, decide

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
