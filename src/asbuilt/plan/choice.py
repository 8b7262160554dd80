"""Which base backup a restore begins with, along which timeline, and where it stops. Pure.

Decided before anything is touched: a target that cannot be reached is refused here, with what can be
(`plan/refusals.py`).

What PostgreSQL does with a target (`xlogrecovery.c` of version 16), and what follows from it:

- A time: it stops before the first commit that is later. A transaction: after its commit. A position is asked
  for exclusively: it stops before the first record that begins there or later, so that the record of somebody
  else that begins at `pg_current_wal_lsn()` is not included.
- It knows that a target was reached only by what comes after it. Where the log ends before, it refuses to
  start ("recovery ended before configured recovery target was reached"). That is the ordinary case of an idle
  database, and nothing is wrong then: all that is there was to be replayed. So where nothing in the log can
  be later than the target, no target is set; else see `without_target`.
- It refuses targets before the end of the backup. So a backup is taken that ended by then.

Commits are ordered by position, their times only nearly so: after a failover by the clock of another server.

Invariants, property-tested: the backup ended before the target, and no usable one nearer to it did; the log
from its start to the target is stored without a hole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from asbuilt.plan import refusals
from asbuilt.plan.archive import Archive, follow
from asbuilt.plan.basebackup import BaseBackup
from asbuilt.plan.target import (
    BackupTarget,
    LatestTarget,
    LsnTarget,
    Target,
    TimeTarget,
    XidTarget,
    render_time,
)
from asbuilt.plan.wal import Lsn
from asbuilt.plan.windows import Window, find_windows, windows_along

if TYPE_CHECKING:
    from datetime import tzinfo

_XIDS: Final = 2**32
"""Transaction ids of an epoch: PostgreSQL compares targets without it."""


class Stop(StrEnum):
    """Where replay stops."""

    END = "end"
    """Where the log that is given to it ends."""
    CONSISTENT = "consistent"
    """At the end of the backup."""
    TIME = "time"
    LSN = "lsn"
    XID = "xid"


class Caution(StrEnum):
    """What the owner has to know of a choice before it is carried out."""

    UNVERIFIED = "unverified"
    """Nobody has tried the backup yet."""
    BEYOND_GAP = "beyond-gap"
    """There is later WAL, but a hole before it."""
    OTHER_TIMELINE = "other-timeline"
    """An abandoned timeline has other WAL of the same time or position."""
    UNCONNECTED = "unconnected"
    """There is a newer timeline that no backup leads to."""


class Note(NamedTuple):
    """A caution and the facts."""

    caution: Caution
    text: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A restore that can be done.

    Args:
        target: what was asked for.
        backup: what it begins with.
        timeline: which one is followed.
        stop: where replay stops.
        end: nothing after this position is needed; the end of what is stored where only the log can tell.
        complete: it is known that nothing by the target is missing in the log. Otherwise that shows when
            PostgreSQL stops at the target; where it finds the end instead, the last commits may be missing.
        notes: what the owner has to know.
    """

    target: Target
    backup: BaseBackup
    timeline: int
    stop: Stop
    end: Lsn
    complete: bool
    notes: tuple[Note, ...] = ()

    def without_target(self) -> Choice | None:
        """What to do when PostgreSQL found the end of the log before the target: replay all of it.

        For a time or a position that is right, see `complete`. None where it is not: a transaction that was
        not found is not there.
        """
        return replace(self, stop=Stop.END) if self.stop in {Stop.TIME, Stop.LSN} else None


def render_settings(choice: Choice) -> dict[str, str]:
    """The settings of PostgreSQL for this choice, beside `restore_command` and what to do at the target."""
    settings = {"recovery_target_timeline": str(choice.timeline)}
    match choice.stop, choice.target:
        case Stop.CONSISTENT, _:
            settings["recovery_target"] = "immediate"
        case Stop.TIME, TimeTarget(at=at):
            settings["recovery_target_time"] = at.astimezone(UTC).isoformat(sep=" ")
            settings["recovery_target_inclusive"] = "on"
        case Stop.LSN, LsnTarget(lsn=lsn):
            settings["recovery_target_lsn"] = str(lsn)
            settings["recovery_target_inclusive"] = "off"
        case Stop.XID, XidTarget(xid=xid):
            settings["recovery_target_xid"] = str(xid)
            settings["recovery_target_inclusive"] = "on"
        case _:
            pass
    return settings


def choose(target: Target, archive: Archive, *, timeline: int | None = None, zone: tzinfo = UTC) -> Choice:
    """How the target is reached.

    Args:
        target: up to where.
        archive: what is stored.
        timeline: along which timeline; None: the newest that can be reached, or that of a named backup.
        zone: of this machine, for the times in refusals.

    Raises:
        UsageError: RESTORE-007, there is no such backup; RESTORE-009, there is no such timeline.
        RefusedError: RESTORE-003, nothing can be restored; RESTORE-004, the target is before the end of the
            first backup; RESTORE-005, after the last WAL; RESTORE-006, in a gap; RESTORE-008, the backup
            cannot be used; RESTORE-010, only an abandoned timeline has it.
    """
    if timeline is not None and timeline not in archive.known:
        raise refusals.refuse_timeline(timeline, archive)
    if isinstance(target, BackupTarget):
        return _choose_backup(target, archive, timeline, zone)
    found = find_windows(archive)
    windows = (
        tuple(one for one in found if one.parting is None)
        if timeline is None
        else windows_along(archive, timeline)
    )
    if not windows:
        raise refusals.refuse_all(target, archive, timeline, found, zone)
    choice = _choose_in(target, windows)
    if choice is None:
        raise refusals.refuse_target(target, windows, found, zone, named=timeline is not None)
    others = found if timeline is None else ()
    return replace(choice, notes=(*_find_notes(choice, archive, others, zone),))


def _choose_in(target: Target, windows: tuple[Window, ...]) -> Choice | None:
    """The choice along windows of one timeline, oldest first; None where the target is in none of them."""
    match target:
        case TimeTarget():
            return _choose_time(target, windows)
        case LsnTarget():
            return _choose_lsn(target, windows)
        case XidTarget():
            return _choose_xid(target, windows)
        case _:
            return _take(target, windows[-1], windows[-1].backups[-1], Stop.END, complete=True)


def _take(target: Target, window: Window, backup: BaseBackup, stop: Stop, *, complete: bool) -> Choice:
    return Choice(target, backup, window.timeline, stop, window.end, complete)


def _choose_time(target: TimeTarget, windows: tuple[Window, ...]) -> Choice | None:
    for window in reversed(windows):
        if window.began <= target.at <= window.ended:
            backup = next(one for one in reversed(window.backups) if one.ended <= target.at)
            stop = Stop.TIME if target.at < window.last else Stop.END
            return _take(target, window, backup, stop, complete=target.at <= window.complete)
    return None


def _choose_lsn(target: LsnTarget, windows: tuple[Window, ...]) -> Choice | None:
    for window in reversed(windows):
        if window.start <= target.lsn <= window.end:
            backup = next(one for one in reversed(window.backups) if one.stop <= target.lsn)
            stop = Stop.LSN if target.lsn < window.end else Stop.END
            return _take(target, window, backup, stop, complete=True)
    return None


def _choose_xid(target: XidTarget, windows: tuple[Window, ...]) -> Choice:
    """From a backup that had not given out the transaction yet; where nobody knows, from the oldest."""
    members = [(window, backup) for window in windows for backup in window.backups]
    bounds = [backup.next_xid for _, backup in members if backup.next_xid is not None]
    xid = _extend(target.xid, max(bounds, default=0))
    window, backup = members[0] if len(bounds) == len(members) else (windows[-1], windows[-1].backups[0])
    for one, other in members:
        if other.next_xid is not None and other.next_xid <= xid:
            window, backup = one, other
    return _take(target, window, backup, Stop.XID, complete=False)


def _extend(xid: int, newest: int) -> int:
    """An id with its epoch, where it came without: that within half of all ids of the newest known."""
    if xid >= _XIDS or newest < _XIDS:
        return xid
    full = newest - newest % _XIDS + xid
    return full - _XIDS if full > newest + _XIDS // 2 else full


def _choose_backup(target: BackupTarget, archive: Archive, timeline: int | None, zone: tzinfo) -> Choice:
    named = [one for one in archive.backups if target.name in {one.id, one.label}]
    if not named:
        raise refusals.refuse_name(target, archive)
    backup = next((one for one in reversed(named) if not one.bad), named[-1])
    # its own first; but the copy in the first segment of a later one may be all that is left of its end
    asked = (backup.timeline, *reversed(archive.known)) if timeline is None else (timeline,)
    along = next((one for one in asked if _is_whole(backup, archive, one)), None)
    if along is None:
        raise refusals.refuse_backup(backup, archive, asked[0], zone)
    choice = Choice(target, backup, along, Stop.CONSISTENT, backup.stop, complete=True)
    return replace(choice, notes=_find_notes(choice, archive, (), zone))


def _is_whole(backup: BaseBackup, archive: Archive, timeline: int) -> bool:
    """Whether a backup and its own WAL are there along a timeline."""
    return any(backup in window.backups for window in windows_along(archive, timeline))


def _find_notes(
    choice: Choice, archive: Archive, windows: tuple[Window, ...], zone: tzinfo
) -> tuple[Note, ...]:
    """What the owner has to know. `windows`: of all timelines, where none was named."""
    notes = []
    backup, target = choice.backup, choice.target
    if backup.verified is None:
        notes.append(Note(Caution.UNVERIFIED, f"backup {backup.id} was never tried"))
    if isinstance(target, LatestTarget):
        last = follow(archive, archive.timelines.path(choice.timeline))[-1]
        if last.end > choice.end:
            stored = f"WAL is stored up to {last.end}, {render_time(last.ended, zone)}"
            notes.append(Note(Caution.BEYOND_GAP, f"{stored}, but after {choice.end} some is missing"))
    notes += [
        Note(
            Caution.OTHER_TIMELINE,
            f"timeline {one.timeline}, abandoned at {one.parting.at}, has other WAL of it",
        )
        for one in windows
        if one.parting is not None and one.has_alone(target)
    ]
    newest = archive.known[-1]
    if windows and newest > choice.timeline:
        notes.append(Note(Caution.UNCONNECTED, f"no backup leads to timeline {newest}"))
    return tuple(notes)
