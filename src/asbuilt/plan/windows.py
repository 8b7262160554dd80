"""What can be reached from what is stored, as windows of positions and of time. Pure.

A window leads from the end of a base backup to the end of the log that follows it without a hole. One belongs
to each timeline: to the main one, the newest that can be reached, and to each that was abandoned while it had
WAL that is on no newer one. Such WAL is reached only by naming its timeline.

Invariants, property-tested: whatever is in a window can be replayed from one of its backups, byte for byte,
and nothing outside can; every position that can be reached at all is in one.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from asbuilt.plan.archive import Archive, Stretch, Watermark, follow
from asbuilt.plan.basebackup import BaseBackup
from asbuilt.plan.target import LsnTarget, Target, TimeTarget
from asbuilt.plan.wal import ORIGIN, Lsn, first_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from asbuilt.plan.timelines import Path


@dataclass(frozen=True, slots=True)
class Parting:
    """Where an abandoned timeline leaves all newer ones.

    Args:
        at: only what is after this position is not on a newer one.
        time: what is after it was written later than this, or little earlier: when what is before the
            segment of `at` was stored.
    """

    at: Lsn
    time: datetime


@dataclass(frozen=True, slots=True)
class Window:
    """What can be reached along one timeline without a hole.

    Two moments are known of its end, because objects tell only when they were stored:

    - nothing later than `ended` is in it;
    - whatever was committed by `complete` is in it. That is known from the next base backup, which asks the
      database where its log is, and from the archive's watermark. Later commits may be missing, those of the
      seconds before the last object was stored, or before the hole.

    Args:
        timeline: to which the path leads.
        start: the first position that can be reached, the end of the oldest backup.
        end: the last one, the end of the log that is stored without a hole.
        began: when the oldest backup ended: no earlier time can be reached.
        ended: when the last WAL was stored, or until when it is known that there was no more.
        last: when the last WAL was stored.
        complete: up to here no commit is missing.
        backups: those it can be reached from, by the position of their end; one at least.
        parting: where it leaves all newer timelines; None for the main one.
    """

    timeline: int
    start: Lsn
    end: Lsn
    began: datetime
    ended: datetime
    last: datetime
    complete: datetime
    backups: tuple[BaseBackup, ...]
    parting: Parting | None = None

    def has_alone(self, target: Target) -> bool:
        """Whether an abandoned timeline has a time or position in what is on no newer one."""
        match target, self.parting:
            case TimeTarget(at=at), Parting(time=time):
                return max(self.began, time) <= at <= self.ended
            case LsnTarget(lsn=lsn), Parting(at=parting):
                return self.start <= lsn <= self.end and lsn > parting
            case _:
                return False


def find_windows(archive: Archive) -> tuple[Window, ...]:
    """All windows: abandoned timelines first, then the main one; along each by position, the newest last."""
    found: list[Window] = []
    paths: dict[int, Path] = {}
    left: dict[int, Lsn | None] = {}
    for timeline in reversed(archive.known):
        windows = windows_along(archive, timeline)
        if not windows:
            continue
        path = archive.timelines.path(timeline)
        if paths:
            parting = _part(archive, path, left)
            windows = tuple(
                replace(one, parting=parting if one.end > parting.at else Parting(one.start, one.began))
                for one in windows
                if one.end > parting.at or not _is_within(one, path, found, paths)
            )
        found += windows
        paths[timeline] = path
        for leg in path.legs:
            left[leg.timeline] = _later(left.get(leg.timeline, ORIGIN), leg.end)
    return tuple(sorted(found, key=lambda one: (one.timeline, one.start)))


def _is_within(one: Window, path: Path, found: Iterable[Window], paths: Mapping[int, Path]) -> bool:
    """Whether a window of a newer timeline has all of it.

    Nearly always so for what ends before the paths part. But the copy in the first segment of a timeline may
    be all that is left of what was before it.
    """
    return any(
        other.start <= one.start
        and one.end <= other.end
        and one.end <= paths[other.timeline].find_parting(path)
        for other in found
    )


def _later(one: Lsn | None, other: Lsn | None) -> Lsn | None:
    """The later of two ends; None is the open one."""
    return None if one is None or other is None else max(one, other)


def _part(archive: Archive, path: Path, left: Mapping[int, Lsn | None]) -> Parting:
    """Where a path leaves all those before, which followed each of their timelines up to `left`."""
    at = ORIGIN
    for leg in reversed(path.legs):
        if leg.timeline in left:
            at = min(end for end in (left[leg.timeline], leg.end) if end is not None)
            break
    before = first_number(at, archive.size) - 1
    if before >= 0:
        for leg in path.find_files(before, archive.size):
            held = archive.wal.get(leg.timeline, {}).get(before)
            if held is not None:
                return Parting(at, held.at)
    return Parting(at, min(one.began for one in archive.usable))


def windows_along(archive: Archive, timeline: int) -> tuple[Window, ...]:
    """The windows of one timeline by position, whether or not a newer one has the same."""
    path = archive.timelines.path(timeline)
    backups = [one for one in archive.usable if path.has(one.timeline, one.stop)]
    if not backups:
        return ()
    stretches = follow(archive, path)
    starts = [stretch.start for stretch in stretches]
    members: dict[int, list[BaseBackup]] = {}
    for backup in backups:
        index = bisect_right(starts, backup.start) - 1
        if index >= 0 and backup.stop <= stretches[index].end:
            members.setdefault(index, []).append(backup)
    return tuple(_open(archive, path, stretches[index], members[index]) for index in sorted(members))


def _open(archive: Archive, path: Path, stretch: Stretch, backups: Iterable[BaseBackup]) -> Window:
    """The window that a stretch and the backups in it make."""
    ordered = tuple(sorted(backups, key=lambda one: (one.stop, one.ended, one.id)))
    began = min(one.ended for one in ordered)
    complete = max(one.began for one in ordered)
    mark = archive.watermark
    if mark is not None and mark.lsn <= stretch.end and _comes_from(archive, path, mark):
        complete = max(complete, mark.at)
    return Window(
        stretch.timeline,
        ordered[0].stop,
        stretch.end,
        began,
        max(began, stretch.ended, complete),
        stretch.ended,
        complete,
        ordered,
    )


def _comes_from(archive: Archive, path: Path, mark: Watermark) -> bool:
    """Whether a watermark is of the path's own timeline, or of an ancestor before it was left."""
    if mark.timeline == path.timeline:
        return True
    history = archive.timelines.find_history(path.timeline) or ()
    older = archive.timelines.path(mark.timeline)
    return any(fork.timeline == mark.timeline for fork in history) and mark.lsn <= older.find_parting(path)
