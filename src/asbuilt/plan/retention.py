"""What may be removed from the archive, and why everything else stays. Pure.

Retention is a promise about time: whatever could be reached within it stays reachable, so the last backup
from before it stays, too. It is a floor, never a reason to be left without a backup:

- The newest backup that is known to be good stays whatever its age, and so do the newest that is not bad and
  the newest at all: of those that lead to where the database is, of those that are whole, and of any.
- Nothing ages while nothing new is stored. An archiver that was away for long, or a clock that was set to
  next year, removes nothing.
- WAL that nothing leads to stays as long as a backup: the history of its timeline may be on its way.
- While a backup is made, WAL from its start on stays on every timeline.
- Without any usable backup nothing goes.

Backups are to be removed before WAL, so that none is left without what it needs. Invariants, property-tested:
what a backup is kept for stays reachable from it; deciding again after all was removed gives nothing, after a
part of it the rest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from asbuilt.plan.basebackup import BaseBackup
from asbuilt.plan.keeping import Policy, before, find_long_term, find_newest_usable, name_usable
from asbuilt.plan.wal import Lsn, first_number, last_number
from asbuilt.plan.windows import Window, windows_along

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.plan.archive import Archive

SUPERSEDED: Final = timedelta(hours=1)
"""Pieces stay this long beside their whole segment: a restore that has begun to read them ends by then."""


@dataclass(frozen=True, slots=True)
class Prune:
    """What may be removed, backups first.

    Args:
        backups: ids, oldest first.
        wal: keys, by timeline and position.
        why: by id or key, why it may go.
        kept: by id, why a backup stays.
    """

    backups: tuple[str, ...]
    wal: tuple[str, ...]
    why: Mapping[str, str]
    kept: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Kept:
    """Backups that stay, with all WAL that follows or alone; why; and along which timeline each is whole."""

    followed: tuple[BaseBackup, ...]
    alone: tuple[BaseBackup, ...]
    why: Mapping[str, str]
    homes: Mapping[str, int]


def decide_prune(archive: Archive, policy: Policy, now: datetime, under_way: Lsn | None = None) -> Prune:
    """What the policy does not need any more.

    Args:
        archive: all that is stored.
        policy: what is promised.
        now: with a zone.
        under_way: the start of the first backup that is being made; `0/0` while it is not known yet, and no
            segment goes; None for none.
    """
    if not archive.usable:
        return Prune((), (), {}, {one.id: "there is no usable backup" for one in archive.backups})
    now = min(now, _find_newest(archive))
    edge = before(now, policy.retention)
    kept = _choose_kept(archive, policy, now, edge)
    gone = tuple(one.id for one in archive.backups if one.id not in kept.why)
    why = dict.fromkeys(gone, f"older than {policy.retention}, and nothing in that time needs it")
    needs = _find_needs(archive, kept, under_way)
    wal = dict(_find_wal(archive, needs, now, edge))
    return Prune(gone, tuple(wal), {**why, **wal}, kept.why)


def _find_newest(archive: Archive) -> datetime:
    """When the newest thing was stored."""
    wal = max((held.at for numbers in archive.wal.values() for held in numbers.values()), default=None)
    backup = archive.backups[-1].ended
    return backup if wal is None else max(wal, backup)


def _choose_kept(archive: Archive, policy: Policy, now: datetime, edge: datetime) -> _Kept:
    """The backups that stay."""
    why = {archive.backups[-1].id: "the newest"}
    windows = tuple(one for timeline in archive.known for one in windows_along(archive, timeline))
    for one in _find_newest_usable(archive, windows):
        why[one.id] = name_usable(one)
    for window in windows:
        older = [one for one in window.backups if one.ended <= edge]
        if older and window.ended >= edge:
            why.setdefault(older[-1].id, f"the last {policy.retention} begin with it")
    for one in archive.backups:
        if one.ended > edge:
            why[one.id] = f"younger than {policy.retention}"
    followed = tuple(one for one in archive.backups if one.id in why)
    whole = {one.id for window in windows for one in window.backups}
    able = [one for one in archive.usable if one.id in whole]
    alone = tuple(one for one in find_long_term(archive.backups, able, policy, now) if one.id not in why)
    why |= {one.id: "marked for the long term" if one.long_term else "the one of its month" for one in alone}
    return _Kept(followed, alone, why, _find_homes(windows))


def _find_homes(windows: tuple[Window, ...]) -> Mapping[str, int]:
    """By id of each backup that is whole the timeline along which it is: its own, else the newest."""
    homes: dict[str, int] = {}
    for window in windows:
        for one in window.backups:
            if homes.get(one.id) != one.timeline:
                homes[one.id] = window.timeline
    return homes


def _find_newest_usable(archive: Archive, windows: tuple[Window, ...]) -> Iterator[BaseBackup]:
    """The newest that was tried, and the newest: on the main timeline, with all of its WAL, of any."""
    newest = max((window.timeline for window in windows), default=None)
    main = {one.id for window in windows if window.timeline == newest for one in window.backups}
    whole = {one.id for window in windows for one in window.backups}
    for ids in (main, whole, {one.id for one in archive.usable}):
        yield from find_newest_usable([one for one in archive.usable if one.id in ids])


@dataclass(frozen=True, slots=True)
class _Needs:
    """Numbers of the segments of one timeline that are needed: from `floor` on, and in each range."""

    floor: int | None
    ranges: tuple[tuple[int, int], ...]

    def has(self, number: int) -> bool:
        """Whether the segment is needed. Ranges are ascending and do not overlap."""
        if self.floor is not None and number >= self.floor:
            return True
        index = bisect_right(self.ranges, (number, number)) - 1
        return any(low <= number <= high for low, high in self.ranges[max(index, 0) : index + 2])


def _find_needs(archive: Archive, kept: _Kept, under_way: Lsn | None) -> Mapping[int, _Needs]:
    """What is needed of every timeline that WAL is stored of."""
    ranges: dict[int, list[tuple[int, int]]] = {}
    for backup in (*kept.followed, *kept.alone):
        for one, low, high in _find_own(archive, backup, kept.homes.get(backup.id, backup.timeline)):
            ranges.setdefault(one, []).append((low, high))
    return {
        timeline: _Needs(_find_floor(archive, timeline, kept, under_way), _merge(ranges.get(timeline, [])))
        for timeline in archive.wal
    }


def _find_own(archive: Archive, backup: BaseBackup, timeline: int) -> Iterator[tuple[int, int, int]]:
    """Timeline, first and last number of the segments from a backup's start to its end, along a timeline."""
    size = archive.size
    for leg in archive.timelines.path(timeline).legs:
        # by whole segments: one that begins in the last of them holds a copy of the backup's end
        low = max(first_number(leg.start, size), first_number(backup.start, size))
        high = last_number(backup.stop if leg.end is None else min(leg.end, backup.stop), size)
        if low <= high:
            yield leg.timeline, low, high


def _find_floor(archive: Archive, timeline: int, kept: _Kept, under_way: Lsn | None) -> int | None:
    """From which segment on all of a timeline is needed, as it leads on from a backup; None for nothing."""
    path = archive.timelines.path(timeline)
    own = path.legs[-1].start
    starts = [max(own, one.start) for one in kept.followed if path.has(one.timeline, one.stop)]
    if under_way is not None:
        starts.append(under_way)
    return min((first_number(start, archive.size) for start in starts), default=None)


def _merge(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The same numbers, ascending and without overlap."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _find_wal(
    archive: Archive, needs: Mapping[int, _Needs], now: datetime, edge: datetime
) -> Iterator[tuple[str, str]]:
    """Key and reason of every object that may go."""
    for timeline, numbers in archive.wal.items():
        for number, held in numbers.items():
            superseded = held.spare if held.whole and held.at <= now - SUPERSEDED else ()
            for one in superseded:
                yield one.key, "the whole segment is stored"
            if not needs[timeline].has(number):
                for one in held.objects if superseded else (*held.objects, *held.spare):
                    if one.at <= edge:
                        yield one.key, "no backup that is kept needs it"
