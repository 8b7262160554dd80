from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asbuilt.plan.timelines import Fork, Leg, Timelines, parse_history, render_history
from asbuilt.plan.wal import SEGMENT_SIZE, Lsn, Segment, first_number, last_number
from asbuilt.values.errors import AsbuiltError

positions = st.integers(0, 2**64 - 1).map(Lsn)
sizes = st.integers(20, 30).map(lambda power: 2**power)


def test_a_position_reads_as_postgresql_writes_it() -> None:
    assert Lsn.parse("0/2000028") == 0x2000028
    assert Lsn.parse("16/B374D848") == 0x16B374D848
    assert str(Lsn(0x16B374D848)) == f"{Lsn(0x16B374D848)}" == "16/B374D848"
    assert repr(Lsn(0)) == "Lsn('0/0')"
    assert Lsn.parse("1/0") > Lsn.parse("0/FFFFFFFF")
    assert Lsn.parse("1/0") - Lsn.parse("0/FFFFFFFF") == 1
    assert str(Lsn.parse("0/FFFFFFFF").plus(1)) == "1/0"


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/123456789", "x/0", "0/2000028/0", "-1/0"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="0/2000028"):
        Lsn.parse(text)


def test_a_segment_has_the_name_that_postgresql_gives_it() -> None:
    position = Lsn.parse("16/B374D848")
    segment = Segment.at(3, position)
    assert str(segment) == "0000000300000016000000B3"
    assert (str(segment.start), str(segment.end)) == ("16/B3000000", "16/B4000000")
    assert str(Segment.at(1, Lsn.parse("0/FFFFFFFF")).next) == "000000010000000100000000"
    assert str(Segment.at(1, Lsn.parse("1/40000000"), 2**30)) == "000000010000000100000001"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 24,
        "0" * 23,
        "000000010000000000000100",
        "00000001000000000000000g",
        "0000000100000000000000fe",
    ],
)
def test_what_is_no_segment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="WAL segment"):
        Segment.parse(text)


@given(positions)
def test_a_position_survives_being_written(position: Lsn) -> None:
    assert Lsn.parse(str(position)) == position


@given(positions, st.integers(1, 2**32 - 1), sizes)
def test_a_segment_survives_being_written_and_holds_its_position(
    position: Lsn, timeline: int, size: int
) -> None:
    segment = Segment.at(timeline, position, size)
    assert Segment.parse(str(segment), size) == segment
    assert segment.start <= position < segment.end
    assert segment.end - segment.start == size
    assert segment.next.start == segment.end


@given(positions, sizes)
def test_what_ends_at_a_position_is_in_the_segment_of_the_byte_before(position: Lsn, size: int) -> None:
    assert first_number(position, size) == position // size
    if position:
        assert last_number(position, size) == first_number(Lsn(position - 1), size)


HISTORY = """1\t0/3000110\tno recovery target specified

# by hand
2\t0/5000000\tbefore 2026-11-26 10:00:00+00
"""


def test_a_history_names_the_ancestors() -> None:
    assert parse_history(HISTORY, 3) == (Fork(1, Lsn(0x3000110)), Fork(2, Lsn(0x5000000)))


@pytest.mark.parametrize(
    ("text", "timeline", "why"),
    [
        ("", 2, "no ancestor"),
        ("# nothing\n", 2, "no ancestor"),
        ("1\n", 2, "line 1"),
        ("1\t0/3000110 x\nx", 3, "line 2"),
        ("2\t0/3000110\n1\t0/4000000\n", 3, "line 2 names timeline 1 out of order"),
        ("2\t0/3000110\n", 2, "out of order"),
        ("0\t0/3000110\n", 2, "out of order"),
        ("1\t0/0\n", 2, "no position"),
        ("1\t0/30", 2, None),
    ],
)
def test_a_damaged_history_is_told(text: str, timeline: int, why: str | None) -> None:
    if why is None:
        assert parse_history(text, timeline) == (Fork(1, Lsn(0x30)),)
        return
    with pytest.raises(AsbuiltError, match=why) as raised:
        parse_history(text, timeline)
    assert raised.value.code == "RESTORE-011"
    assert raised.value.where == f"{timeline:08X}.history"


def test_a_path_goes_through_the_ancestors() -> None:
    timelines = Timelines({3: parse_history(HISTORY, 3)})
    assert timelines.path(3).legs == (
        Leg(1, Lsn(0), Lsn(0x3000110)),
        Leg(2, Lsn(0x3000110), Lsn(0x5000000)),
        Leg(3, Lsn(0x5000000), None),
    )
    assert timelines.known == (1, 2, 3)


def test_a_lost_history_is_known_from_a_later_one() -> None:
    timelines = Timelines({3: parse_history(HISTORY, 3)})
    found = timelines.find_history(2)
    assert found == (Fork(1, Lsn(0x3000110)),)
    assert parse_history(render_history(found), 2) == found
    assert timelines.find_history(1) == ()
    assert timelines.find_history(4) is None
    assert timelines.path(4).legs == (Leg(4, Lsn(0), None),)


def test_the_file_of_a_segment_with_forks_in_it_is_the_newest() -> None:
    timelines = Timelines({4: (Fork(1, Lsn(0x3000110)), Fork(2, Lsn(0x3000200)), Fork(3, Lsn(0x5000000)))})
    path = timelines.path(4)
    assert [leg.timeline for leg in path.find_files(2, SEGMENT_SIZE)] == [1]
    assert [leg.timeline for leg in path.find_files(3, SEGMENT_SIZE)] == [3, 2, 1]
    assert [leg.timeline for leg in path.find_files(4, SEGMENT_SIZE)] == [3]
    assert [leg.timeline for leg in path.find_files(5, SEGMENT_SIZE)] == [4], "a fork at the first byte"
    assert path.find_parting(timelines.path(2)) == Lsn(0x3000200)
    assert path.find_parting(timelines.path(9)) == Lsn(0)
    assert path.timeline == 4


@st.composite
def histories(draw: st.DrawFn) -> tuple[Fork, ...]:
    """Any that PostgreSQL could write: the positions may go back."""
    parents = sorted(draw(st.sets(st.integers(1, 20), max_size=8)))
    return tuple(Fork(parent, Lsn(draw(st.integers(1, 400)))) for parent in parents)


@given(histories())
def test_a_path_has_no_hole_and_names_who_owns_each_byte(forks: tuple[Fork, ...]) -> None:
    path = Timelines({21: forks}).path(21)
    assert path.legs[0].start == 0
    assert path.legs[-1].end is None
    for before, after in zip(path.legs, path.legs[1:], strict=False):
        assert before.end == after.start
        assert before.timeline < after.timeline
        assert before.start < after.start
    begins = [0, *(int(fork.at) for fork in forks)]
    ends = [*(int(fork.at) for fork in forks), 2**64]
    names = [*(fork.timeline for fork in forks), 21]
    for position in range(401):
        # as PostgreSQL looks it up: the newest entry that has the position
        owner = next(
            name
            for begin, end, name in reversed(list(zip(begins, ends, names, strict=True)))
            if begin <= position < end
        )
        leg = next(leg for leg in path.legs if leg.end is None or position < leg.end)
        assert leg.timeline == owner
        assert path.has(owner, Lsn(position))
        assert owner in {leg.timeline for leg in path.find_files(position // 16, 16)}


@given(histories())
def test_a_history_survives_being_written(forks: tuple[Fork, ...]) -> None:
    if forks:
        assert parse_history(render_history(forks), 21) == forks
