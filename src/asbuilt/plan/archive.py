"""What the archive holds of the log, and where it has holes, along every timeline. Pure.

Invariants, property-tested: what is called contiguous is so byte for byte along the timeline's history; the
order in which objects are listed does not matter; time and memory grow with their number, apart from sorting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from asbuilt.plan.basebackup import BaseBackup
from asbuilt.plan.stored import Held, Holdings, Stored, gather
from asbuilt.plan.timelines import Leg, Path, Timelines
from asbuilt.plan.wal import ORIGIN, SEGMENT_SIZE, Lsn, Segment, first_number, last_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Watermark:
    """What is known of a database that writes nothing: the log does not grow, but time goes on.

    At the time `at` its log ended at `lsn` on `timeline`, and it is stored up to there. `at` is a moment
    before its end was asked for. So whatever was committed by then is stored.
    """

    timeline: int
    lsn: Lsn
    at: datetime


@dataclass(frozen=True, slots=True)
class Stretch:
    """Contiguous WAL that is stored.

    Args:
        timeline: whose files it is in, or to which the path leads that it is on.
        start: the position of its first byte.
        end: the position after its last one.
        began: when its first object was stored.
        ended: when its last one was stored: nothing later is in it. That is all that its objects tell of
            time: how long before they were stored something was written, they do not say.
    """

    timeline: int
    start: Lsn
    end: Lsn
    began: datetime
    ended: datetime


@dataclass(frozen=True, slots=True)
class Gap:
    """WAL that is missing between two stretches: a new base backup makes what follows reachable.

    Args:
        timeline: on the path to it.
        start: the position of the first missing byte.
        end: the position after the last one.
        segment: name of the first segment that has a hole.
    """

    timeline: int
    start: Lsn
    end: Lsn
    segment: str


@dataclass(frozen=True, slots=True)
class Archive:
    """Everything that is stored of one environment's database.

    Args:
        backups: base backups, oldest first.
        timelines: their histories.
        wal: what is held of each segment.
        histories: the stored history files by timeline, ascending.
        stretches: contiguous files by timeline, ascending.
        watermark: up to when an idle database is known to be stored; None where nothing is known.
        size: bytes of a full segment.
    """

    backups: tuple[BaseBackup, ...]
    timelines: Timelines
    wal: Holdings
    histories: tuple[tuple[int, Stored], ...]
    stretches: Mapping[int, tuple[Stretch, ...]]
    watermark: Watermark | None = None
    size: int = SEGMENT_SIZE

    @property
    def known(self) -> tuple[int, ...]:
        """Every timeline that anything is known of, ascending."""
        backed_up = {backup.timeline for backup in self.backups}
        return tuple(sorted({*self.timelines.known, *self.wal, *backed_up}))

    def is_connected(self, timeline: int) -> bool:
        """Whether it is known what the timeline came from."""
        return self.timelines.find_history(timeline) is not None

    @property
    def usable(self) -> tuple[BaseBackup, ...]:
        """Those one would restore from, oldest first: not bad, and of the database of the newest.

        A database that was made anew writes another log under the same names.
        """
        return tuple(
            one for one in self.backups if not one.bad and one.system_id == self.backups[-1].system_id
        )


def build_archive(
    stored: Iterable[Stored],
    backups: Iterable[BaseBackup],
    timelines: Timelines,
    watermark: Watermark | None = None,
    size: int = SEGMENT_SIZE,
) -> Archive:
    """The archive that these objects and backups make. Objects with another kind of key are left out."""
    wal, histories = gather(stored, size)
    ordered = tuple(sorted(backups, key=lambda backup: (backup.ended, backup.id)))
    stretches = {timeline: tuple(_join(timeline, numbers, size)) for timeline, numbers in wal.items()}
    return Archive(ordered, timelines, wal, histories, stretches, watermark, size)


def find_stretches(stored: Iterable[Stored], size: int = SEGMENT_SIZE) -> tuple[Stretch, ...]:
    """The contiguous files of each timeline, by timeline and position; a hole makes two of one."""
    wal = gather(stored, size)[0]
    return tuple(stretch for timeline, numbers in wal.items() for stretch in _join(timeline, numbers, size))


def _join(timeline: int, numbers: Mapping[int, Held], size: int) -> Iterator[Stretch]:
    first: Held | None = None
    start = end = ORIGIN
    last = first
    for number, held in numbers.items():
        if not held.end:
            continue
        if first is None or last is None or end != number * size:
            if first is not None and last is not None:
                yield Stretch(timeline, start, end, first.at, last.at)
            first, start = held, Lsn(number * size)
        last, end = held, Lsn(number * size + held.end)
    if first is not None and last is not None:
        yield Stretch(timeline, start, end, first.at, last.at)


def follow(archive: Archive, path: Path) -> tuple[Stretch, ...]:
    """The contiguous stretches on a path, ascending; they bear the name of the timeline that it leads to.

    Each leg counts from the beginning of its first segment, which holds a copy of what was there before.
    """
    parts = [
        part
        for leg in path.legs
        for stretch in archive.stretches.get(leg.timeline, ())
        if (part := _clip(archive, stretch, leg)) is not None
    ]
    joined: list[Stretch] = []
    for part in sorted(parts, key=lambda part: (part.start, part.end)):
        if not joined or part.start > joined[-1].end:
            joined.append(replace(part, timeline=path.timeline))
        elif part.end > joined[-1].end:
            joined[-1] = replace(joined[-1], end=part.end, ended=part.ended)
    return tuple(joined)


def _clip(archive: Archive, stretch: Stretch, leg: Leg) -> Stretch | None:
    """What of a stretch is on a leg; None for nothing."""
    start = max(stretch.start, Lsn(first_number(leg.start, archive.size) * archive.size))
    end = stretch.end if leg.end is None else min(stretch.end, leg.end)
    if start >= end:
        return None
    held = archive.wal[leg.timeline]
    began, ended = stretch.began, stretch.ended
    if start > stretch.start:
        began = held[first_number(start, archive.size)].at
    if end < stretch.end:
        ended = held[last_number(end, archive.size)].at
    return Stretch(leg.timeline, start, end, began, ended)


def find_gaps(archive: Archive, timeline: int) -> tuple[Gap, ...]:
    """The holes on the path to a timeline, after the start of the first backup that is on it; ascending."""
    path = archive.timelines.path(timeline)
    starts = [one.start for one in archive.usable if path.has(one.timeline, one.stop)]
    if not starts:
        return ()
    first = min(starts)
    return tuple(
        Gap(timeline, before.end, after.start, _name_file(path, before.end, archive.size))
        for before, after in pairwise(follow(archive, path))
        if after.start > first
    )


def _name_file(path: Path, position: Lsn, size: int) -> str:
    """The name under which PostgreSQL asks for the segment of a position."""
    number = first_number(position, size)
    return str(Segment(path.find_files(number, size)[0].timeline, number, size))
