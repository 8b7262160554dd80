"""What is stored, as the pure functions of `plan` know it: read from the catalogue and the store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from asbuilt.exec.sealing import open_sealed
from asbuilt.operations.backup.notes import BASE
from asbuilt.operations.backup.state import read_state
from asbuilt.plan.archive import Archive, Watermark, build_archive
from asbuilt.plan.basebackup import BaseBackup, from_json
from asbuilt.plan.copies import PARTS, Copy
from asbuilt.plan.copies import from_json as copy_from_json
from asbuilt.plan.stored import HistoryName, Stored, parse_key
from asbuilt.plan.timelines import Fork, Timelines, parse_history
from asbuilt.plan.wal import Lsn

if TYPE_CHECKING:
    from asbuilt.operations.backup.context import Backups


def read_archive(backups: Backups) -> Archive:
    """The whole archive. Asks the store only for the histories of timelines, which are small."""
    catalogue = backups.catalogue
    stored = [
        Stored(one.key, one.size, one.sha256, datetime.fromtimestamp(one.at, UTC))
        for one in catalogue.stored("wal/")
    ]
    return build_archive(
        stored, read_backups(backups), _read_timelines(backups, stored), _read_watermark(backups)
    )


def read_backups(backups: Backups) -> tuple[BaseBackup, ...]:
    """The base backups, oldest first."""
    return tuple(from_json(text) for text in backups.catalogue.backups(BASE).values())


def read_copies(backups: Backups) -> tuple[Copy, ...]:
    """The copies of the cache, of objects and of files; of each part oldest first."""
    return tuple(copy_from_json(text) for part in PARTS for text in backups.catalogue.backups(part).values())


def _read_watermark(backups: Backups) -> Watermark | None:
    """The catalogue's; while nothing is written, the archiver alone knows that it is true until now."""
    mark, state = backups.catalogue.watermark(), read_state(backups.stage.root)
    if mark is None:
        return None
    at = mark.at
    if state is not None and (state.timeline, state.stored_to) == mark[:2]:
        at = max(at, state.stored_at)
    return Watermark(mark.timeline, Lsn.parse(mark.lsn), datetime.fromtimestamp(at, UTC))


def _read_timelines(backups: Backups, stored: list[Stored]) -> Timelines:
    histories: dict[int, tuple[Fork, ...]] = {}
    for one in stored:
        name = parse_key(one.key)
        if isinstance(name, HistoryName):
            with (
                backups.store.get(one.key) as sealed,
                open_sealed(sealed, backups.identities, name=one.key) as clear,
            ):
                histories[name.timeline] = parse_history(clear.read().decode(), name.timeline)
    return Timelines(histories)
