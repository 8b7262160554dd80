from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asbuilt.plan.stored import (
    Held,
    HistoryName,
    SegmentName,
    Stored,
    gather,
    parse_key,
    render_history_key,
    render_piece_key,
    render_segment_key,
)
from asbuilt.plan.wal import Segment

BEGIN = datetime(2026, 11, 26, 6, tzinfo=UTC)
SIZE = 16
SEGMENT = Segment(1, 5, SIZE)


def stored(key: str, minute: int = 0) -> Stored:
    return Stored(key, 100, None, BEGIN + timedelta(minutes=minute))


def piece(offset: int, end: int, minute: int = 0) -> Stored:
    return stored(render_piece_key(SEGMENT, offset, end), minute)


def held(*objects: Stored) -> Held:
    (numbers,) = gather(objects, SIZE)[0].values()
    return numbers[5]


def test_keys_are_those_of_the_design() -> None:
    segment = Segment.parse("0000000300000016000000B3")
    assert render_segment_key(segment) == "wal/00000003/0000000300000016000000B3.zst.age"
    assert (
        render_piece_key(segment, 0, 0x1000)
        == "wal/00000003/0000000300000016000000B3.00000000-00001000.zst.age"
    )
    assert render_history_key(3) == "wal/00000003.history.zst.age"


@given(st.integers(1, 2**32 - 1), st.integers(0, 2**40 - 1), st.integers(0, 2**24 - 1), st.integers(1, 2**24))
def test_a_key_survives_being_written(timeline: int, number: int, offset: int, end: int) -> None:
    segment = Segment(timeline, number)
    assert parse_key(render_segment_key(segment)) == SegmentName(timeline, number, 0, 2**24, whole=True)
    assert parse_key(render_history_key(timeline)) == HistoryName(timeline)
    name = SegmentName(timeline, number, offset, end, whole=False)
    assert parse_key(render_piece_key(segment, offset, end)) == (name if offset < end else None)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "README.txt",
        "base/20261126T063100Z/base.tar.zst.age",
        "wal/00000002/000000010000000000000002.zst.age",
        "wal/00000000/000000000000000000000002.zst.age",
        "wal/00000001/000000010000000000000100.zst.age",
        "wal/00000001/000000010000000000000002.zst",
        "wal/00000001/000000010000000000000002.partial.zst.age",
        "wal/00000001/000000010000000000000002.00000000-01000001.zst.age",
        "wal/00000001/000000010000000000000002.00000001-00000001.zst.age",
        "x/wal/00000001/000000010000000000000002.zst.age",
    ],
)
def test_other_keys_say_nothing(key: str) -> None:
    assert parse_key(key) is None
    assert gather([stored(key)]) == ({}, ())


def test_pieces_make_a_segment_usable_up_to_the_first_missing_byte() -> None:
    one, two, three = piece(0, 4), piece(4, 9, 1), piece(10, 16, 2)
    assert held(one, two, three) == Held(9, two.at, (one, two), (three,), whole=False)


def test_pieces_that_do_not_begin_at_the_front_are_of_no_use() -> None:
    one = piece(4, 9)
    assert held(one) == Held(0, one.at, (), (one,), whole=False)


def test_of_overlapping_pieces_those_that_lead_furthest_are_taken() -> None:
    one, two, three, four = piece(0, 4), piece(0, 6, 1), piece(3, 5, 2), piece(5, 8, 3)
    assert held(one, two, three, four) == Held(8, four.at, (two, four), (one, three), whole=False)


def test_a_whole_segment_supersedes_its_pieces() -> None:
    one, whole, two = piece(0, 4), stored(render_segment_key(SEGMENT), 1), piece(4, 16, 2)
    assert held(one, whole, two) == Held(SIZE, whole.at, (whole,), (one, two), whole=True)


def test_the_same_key_counts_once() -> None:
    whole = stored(render_segment_key(SEGMENT))
    assert held(whole, whole) == Held(SIZE, whole.at, (whole,), (), whole=True)


@given(
    st.lists(
        st.tuples(st.integers(0, 15), st.integers(1, 16)).filter(lambda one: one[0] < one[1]), min_size=1
    )
)
def test_what_is_usable_is_what_the_bytes_say(ranges: list[tuple[int, int]]) -> None:
    objects = [piece(low, high) for low, high in dict.fromkeys(ranges)]
    found = held(*objects)
    there = {byte for low, high in ranges for byte in range(low, high)}
    assert found.end == next(byte for byte in range(SIZE + 1) if byte not in there)
    assert sorted(one.key for one in (*found.objects, *found.spare)) == sorted(one.key for one in objects)
    names = [name for one in found.objects if isinstance(name := parse_key(one.key, SIZE), SegmentName)]
    assert list(accumulate((name.end for name in names), max)) == [name.end for name in names]
    assert all(after.offset <= before.end < after.end for before, after in pairwise(names))
    assert (names[0].offset, names[-1].end) == (0, found.end) if names else found.end == 0
    assert held(*reversed(objects)) == found
