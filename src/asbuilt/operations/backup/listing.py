"""What there is to restore from, as values for people and programs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from asbuilt.operations.backup.archive import read_archive, read_copies
from asbuilt.operations.backup.lineage import find_system, list_systems
from asbuilt.operations.backup.state import read_state
from asbuilt.plan.copies import PARTS, Copy, name_part
from asbuilt.plan.refusals import find_bounds
from asbuilt.plan.windows import find_windows
from asbuilt.values.clock import render_utc

if TYPE_CHECKING:
    from asbuilt.operations.backup.context import Backups
    from asbuilt.plan.basebackup import BaseBackup
    from asbuilt.plan.windows import Window


def read_listing(backups: Backups) -> dict[str, Any]:
    """Backups, newest first; the windows that can be restored; how far the archive is; where it is."""
    archive = read_archive(backups)
    windows = find_windows(archive)
    state = read_state(backups.stage.root)
    own = find_system(backups.settings)
    return {
        "store": backups.store.where,
        "system": own,
        "other_systems": [one for one in list_systems(backups.settings, backups.secret) if one != own],
        "backups": [describe(one) for one in reversed(archive.backups)],
        "copies": [describe(one) for one in sorted(read_copies(backups), key=_newest_first)],
        "windows": [_window(one) for one in windows],
        "archive": None
        if state is None
        else {
            "stored_to": state.stored_to,
            "timeline": state.timeline,
            "seconds_behind": round(max(0.0, time.time() - state.stored_at), 1) if state.stored_at else None,
            "bytes_behind": state.lag,
            "waiting": state.spool,
            "receiving": state.receiving,
            "problem": state.problem,
        },
    }


def _newest_first(one: Copy) -> tuple[float, int]:
    return -one.ended.timestamp(), PARTS.index(one.part)


def describe(one: BaseBackup | Copy) -> dict[str, Any]:
    """A backup as JSON values."""
    common = {
        "id": one.id,
        "part": name_part(one),
        "label": one.label,
        "began": render_utc(one.began),
        "ended": render_utc(one.ended),
        "size": one.size,
        "clear_size": one.clear_size,
        "version": one.version,
        "verified": None
        if one.verified is None
        else {
            "at": render_utc(one.verified.at),
            "good": one.verified.good,
            "seconds": one.verified.seconds,
            "why": one.verified.why,
        },
    }
    if isinstance(one, Copy):
        return {**common, "count": one.count, "problems": one.problems}
    return {**common, "timeline": one.timeline, "start": str(one.start), "stop": str(one.stop)}


def _window(one: Window) -> dict[str, Any]:
    first, last = find_bounds(one)
    return {
        "from": render_utc(first),
        "to": render_utc(last),
        "timeline": one.timeline,
        "start": str(one.start),
        "end": str(one.end),
        "backups": [backup.id for backup in one.backups],
        "abandoned": one.parting is not None,
    }
