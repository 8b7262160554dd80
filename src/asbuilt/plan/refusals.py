"""Why a target cannot be reached, and what can be instead: for every case its own words. Pure.

Invariant, property-tested: every time in a refusal can be reached, and is understood when it is given.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from asbuilt.plan.target import BackupTarget, LsnTarget, Target, TimeTarget, render_time
from asbuilt.values.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from datetime import tzinfo

    from asbuilt.plan.archive import Archive
    from asbuilt.plan.basebackup import BaseBackup
    from asbuilt.plan.windows import Window

_SHOWN: Final = 5
"""Backups that are named where there are many."""


def find_bounds(window: Window) -> tuple[datetime, datetime]:
    """The times to show of a window: whole seconds that are in it, where there are two."""
    began, ended = window.began, window.ended
    if window.parting is not None:
        began = min(max(began, window.parting.time), ended)
    first = began.replace(microsecond=0) + timedelta(seconds=began.microsecond > 0)
    last = ended.replace(microsecond=0)
    return (first, last) if first <= last else (began, ended)


def render_window(window: Window, zone: tzinfo) -> str:
    """A window in one line, with times in UTC and on the clocks of a zone."""
    first, last = find_bounds(window)
    start = window.start if window.parting is None else max(window.start, window.parting.at)
    count = len(window.backups)
    lines = (
        f"{render_time(first, zone)} to {render_time(last, zone)}, WAL {start} to {window.end}",
        f"timeline {window.timeline}",
        f"{count} backup{'' if count == 1 else 's'}"
        if window.parting is None
        else "abandoned: only when it is named",
    )
    return ", ".join(lines)


def refuse_timeline(timeline: int, archive: Archive) -> UsageError:
    """A timeline that nobody has heard of."""
    known = ", ".join(map(str, archive.known)) or "none"
    return UsageError(
        "RESTORE-009", f"there is no timeline {timeline}", where=str(timeline), hint=f"there are {known}"
    )


def refuse_name(target: BackupTarget, archive: Archive) -> UsageError:
    """A backup that is not there."""
    ids = [one.id for one in reversed(archive.backups)][:_SHOWN]
    return UsageError(
        "RESTORE-007",
        f"there is no backup {target.name!r}",
        where=target.name,
        hint=f"the newest are {', '.join(ids)}" if ids else "there is none at all",
    )


def refuse_backup(backup: BaseBackup, archive: Archive, timeline: int, zone: tzinfo) -> RefusedError:
    """A backup that is there, but of no use; names the last good one."""
    if backup.verified is not None and not backup.verified.good:
        why = f"could not be restored at {render_time(backup.verified.at, zone)}: {backup.verified.why}"
    elif backup not in archive.usable:
        why = "is of another database, that was there before"
    elif not archive.timelines.path(timeline).has(backup.timeline, backup.stop):
        why = f"is on timeline {backup.timeline}, which timeline {timeline} left before its end"
    else:
        why = f"cannot be restored: some of the WAL from {backup.start} to {backup.stop} is not stored"
    good = next((one for one in reversed(archive.usable) if one.good and one is not backup), None)
    hint = "no other one is known to be good" if good is None else f"the last good one is {good.id}"
    return RefusedError("RESTORE-008", f"backup {backup.id} {why}", where=backup.id, hint=hint)


def refuse_all(
    target: Target, archive: Archive, timeline: int | None, found: tuple[Window, ...], zone: tzinfo
) -> RefusedError:
    """Nothing can be restored, or nothing along this timeline."""
    if found:
        what = f"no backup leads to timeline {timeline}"
        if timeline is not None and not archive.is_connected(timeline):
            what += ", and its history is not stored"
        hint = "these can be reached"
    elif not archive.backups:
        what, hint = "there is no base backup yet", "take one"
    elif not archive.usable:
        what, hint = "every backup is bad", "take a new one; what is wrong is shown with each of them"
    else:
        newest = archive.usable[-1]
        what = f"no backup has its own WAL: {newest.id} needs all from {newest.start} to {newest.stop}"
        hint = "where one has just ended, its WAL may still be on its way; else take a new one"
    return RefusedError(
        "RESTORE-003", what, where=str(target), evidence=_render_windows(found, zone), hint=hint
    )


def refuse_target(
    target: Target,
    windows: tuple[Window, ...],
    found: tuple[Window, ...],
    zone: tzinfo,
    *,
    named: bool,
) -> RefusedError:
    """A time or position outside of the windows of its timeline, which are there.

    Args:
        target: it.
        windows: of the timeline that counts, by position.
        found: all that there are.
        zone: for the times.
        named: the timeline was named.
    """
    shown = windows if named else found
    elsewhere = [one for one in found if not named and one.has_alone(target)]
    code, what, hint = _explain(target, windows, zone)
    if elsewhere:
        other = elsewhere[-1]
        code = "RESTORE-010"
        what = f"{_say(target, zone)} is on timeline {other.timeline} only, which was abandoned"
        hint = f"name timeline {other.timeline} to go there"
    return RefusedError(code, what, where=str(target), evidence=_render_windows(shown, zone), hint=hint)


def _explain(target: Target, windows: tuple[Window, ...], zone: tzinfo) -> tuple[str, str, str]:
    """Code, what, and hint for where the target is as seen from the windows."""
    said = _say(target, zone)
    first, last = windows[0], windows[-1]
    ends = f"the last that can be reached is {_render_last(target, last, zone)}"
    if _is_before(target, first):
        return (
            "RESTORE-004",
            f"{said} is before the end of the first backup, {first.backups[0].id}",
            f"the first that can be reached is {_render_first(target, first, zone)}",
        )
    if not _is_before(target, last):
        return (
            "RESTORE-005",
            f"{said} is after the last WAL that is stored",
            f"{ends}; `latest` takes all there is, and is the same where nothing was written since",
        )
    after = next(one for one in windows if _is_before(target, one))
    before = windows[windows.index(after) - 1]
    ends, begins = _render_last(target, before, zone), _render_first(target, after, zone)
    return (
        "RESTORE-006",
        f"{said} is in a gap: WAL after {before.end} is missing, the next backup is {after.backups[0].id}",
        f"the last before it is {ends}, the first after it {begins}",
    )


def _say(target: Target, zone: tzinfo) -> str:
    return render_time(target.at, zone) if isinstance(target, TimeTarget) else str(target)


def _is_before(target: Target, window: Window) -> bool:
    if isinstance(target, TimeTarget):
        return target.at < window.began
    return isinstance(target, LsnTarget) and target.lsn < window.start


def _render_first(target: Target, window: Window, zone: tzinfo) -> str:
    return render_time(find_bounds(window)[0], zone) if isinstance(target, TimeTarget) else str(window.start)


def _render_last(target: Target, window: Window, zone: tzinfo) -> str:
    return render_time(find_bounds(window)[1], zone) if isinstance(target, TimeTarget) else str(window.end)


def _render_windows(windows: tuple[Window, ...], zone: tzinfo) -> tuple[str, ...]:
    return tuple(f"reachable: {render_window(one, zone)}" for one in windows)
