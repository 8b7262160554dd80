"""What is stored of the log: the names of the objects, and how much of each segment they make usable. Pure.

Keys are relative to the prefix of the environment:

    wal/TTTTTTTT/SEGMENT.zst.age              a whole segment; TTTTTTTT: its timeline
    wal/TTTTTTTT/SEGMENT.OFFSET-END.zst.age   a piece of one that is not full: bytes of it, 8 hex digits each
    wal/TTTTTTTT.history.zst.age              the history of a timeline

A whole segment supersedes its pieces. Pieces may overlap; they make their segment usable up to the first byte
that none of them has, because a log is read from the front.

Invariants, property-tested: writing a key and parsing it are inverse; the order of the objects does not
matter; no key is counted twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from asbuilt.plan.wal import SEGMENT_SIZE, Segment, number_of

if TYPE_CHECKING:
    from collections.abc import Iterable

SUFFIX: Final = ".zst.age"
_SEGMENT: Final = re.compile(
    r"wal/([0-9A-F]{8})/\1([0-9A-F]{8})([0-9A-F]{8})(?:\.([0-9A-Fa-f]{8})-([0-9A-Fa-f]{8}))?\.zst\.age"
)
_HISTORY: Final = re.compile(r"wal/([0-9A-F]{8})\.history\.zst\.age")


@dataclass(frozen=True, slots=True)
class Stored:
    """One object of the store.

    Args:
        key: its key below the environment's prefix.
        size: bytes as stored.
        sha256: digest of those bytes, hex; None where it is not known.
        at: when it was stored. So whatever is in it was written by then; how long before is not known.
    """

    key: str
    size: int
    sha256: str | None
    at: datetime


class SegmentName(NamedTuple):
    """What the key of a segment or of a piece of one says.

    Args:
        timeline: of the segment.
        number: of the segment.
        offset: the first byte of it that is there.
        end: the byte after the last one.
        whole: it is not a piece. A piece may have all bytes, too.
    """

    timeline: int
    number: int
    offset: int
    end: int
    whole: bool


class HistoryName(NamedTuple):
    """What the key of a history file says."""

    timeline: int


def render_segment_key(segment: Segment) -> str:
    """The key of a whole segment."""
    return f"wal/{segment.timeline:08X}/{segment}{SUFFIX}"


def render_piece_key(segment: Segment, offset: int, end: int) -> str:
    """The key of the bytes from `offset` up to `end`, not included, of a segment."""
    return f"wal/{segment.timeline:08X}/{segment}.{offset:08X}-{end:08X}{SUFFIX}"


def render_history_key(timeline: int) -> str:
    """The key of a timeline's history file."""
    return f"wal/{timeline:08X}.history{SUFFIX}"


def parse_key(key: str, size: int = SEGMENT_SIZE) -> SegmentName | HistoryName | None:
    """What a key says; None for one of anything else. `size`: bytes of a full segment."""
    match = _SEGMENT.fullmatch(key)
    if match is None:
        history = _HISTORY.fullmatch(key)
        return HistoryName(int(history[1], 16)) if history is not None else None
    timeline, number = int(match[1], 16), number_of(match[2], match[3], size)
    if not timeline or number is None:
        return None
    if match[4] is None:
        return SegmentName(timeline, number, 0, size, whole=True)
    offset, end = int(match[4], 16), int(match[5], 16)
    return SegmentName(timeline, number, offset, end, whole=False) if offset < end <= size else None


class Held(NamedTuple):
    """What is held of one segment.

    Args:
        end: so many bytes of it can be used; 0 for none.
        at: when the last of them were stored.
        objects: what they are in: the whole segment, or pieces, each continuing the one before.
        spare: everything else that is stored of it.
        whole: the whole segment is stored.
    """

    end: int
    at: datetime
    objects: tuple[Stored, ...]
    spare: tuple[Stored, ...]
    whole: bool


Holdings = Mapping[int, Mapping[int, Held]]
"""What is held by timeline and number of the segment, both ascending."""


def gather(
    stored: Iterable[Stored], size: int = SEGMENT_SIZE
) -> tuple[Holdings, tuple[tuple[int, Stored], ...]]:
    """What is held of every segment, and the history files with their timelines, ascending.

    Takes the time of sorting: n log n of the number of objects.
    """
    segments: dict[int, dict[int, list[tuple[SegmentName, Stored]]]] = {}
    histories: dict[int, Stored] = {}
    for one in {one.key: one for one in stored}.values():
        name = parse_key(one.key, size)
        if isinstance(name, SegmentName):
            segments.setdefault(name.timeline, {}).setdefault(name.number, []).append((name, one))
        elif name is not None:
            histories[name.timeline] = one
    holdings = {
        timeline: {number: _hold(numbers[number]) for number in sorted(numbers)}
        for timeline, numbers in sorted(segments.items())
    }
    return holdings, tuple(sorted(histories.items()))


def _hold(found: list[tuple[SegmentName, Stored]]) -> Held:
    """What the objects of one segment give together."""
    for name, one in found:
        if name.whole:
            spare = tuple(sorted((other for _, other in found if other is not one), key=_by_key))
            return Held(name.end, one.at, (one,), spare, whole=True)
    # of the pieces that continue what is there always the one that leads furthest: the fewest that do
    ordered = sorted(found, key=lambda pair: (pair[0].offset, -pair[0].end, pair[1].key))
    chosen: list[Stored] = []
    reach, index = 0, 0
    while index < len(ordered):
        best = None
        while index < len(ordered) and ordered[index][0].offset <= reach:
            if best is None or ordered[index][0].end > best[0].end:
                best = ordered[index]
            index += 1
        if best is None:
            break
        if best[0].end > reach:
            reach = best[0].end
            chosen.append(best[1])
    keys = {one.key for one in chosen}
    spare = tuple(one for _, one in ordered if one.key not in keys)
    return Held(reach, (chosen[-1] if chosen else ordered[0][1]).at, tuple(chosen), spare, whole=False)


def _by_key(one: Stored) -> str:
    return one.key
