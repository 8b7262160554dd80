"""What drills that restore have in common: the log is archived, a copy is restored beside and dropped.

Invariant: a copy that a drill restored is marked as its own before it is made, so that it can be taken away.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from asbuilt.operations.backup.restore import Restored, drop_sidecar, plan_restore, restore_beside
from asbuilt.operations.drill.record import folder_of
from asbuilt.operations.reading import SIDECAR, read_facts
from asbuilt.plan.target import LsnTarget
from asbuilt.plan.wal import Lsn
from asbuilt.values.errors import RefusedError
from asbuilt.values.zone import find_zone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from asbuilt.operations.backup.context import Backups
    from asbuilt.operations.drill.track import Track

_ARCHIVED_WITHIN: Final = 150.0
_POSITION: Final = "SELECT pg_current_wal_insert_lsn()::text"


def copy_marker(root: Path) -> Path:
    """The file that says that the restored copy is a drill's."""
    return folder_of(root) / "copy"


def find_position(backups: Backups) -> Lsn:
    """Where the log of the primary is."""
    with backups.admin.connect_primary() as connection:
        return _position(connection)


def _position(connection: Any) -> Lsn:  # noqa: ANN401 - a psycopg connection
    row = connection.execute(_POSITION).fetchone()
    return Lsn.parse(str(row[0]))


def push_log(backups: Backups) -> Lsn:
    """Have the primary begin another segment; everything before the answer will be archived."""
    with backups.admin.connect_primary() as connection:
        position = _position(connection)
        connection.execute("SELECT pg_switch_wal()")
    return position


def wait_archived(track: Track, backups: Backups, position: Lsn) -> None:
    """Until the log before a position is in the store."""

    def stored() -> bool:
        mark = backups.catalogue.watermark()
        return mark is not None and Lsn.parse(mark.lsn) >= position

    track.until(f"the log up to {position} to be archived", stored, _ARCHIVED_WITHIN, every=0.2)


@contextmanager
def restored_copy(track: Track, backups: Backups, position: Lsn) -> Iterator[Restored]:
    """A copy of the database as it was at a position, beside it, for the time of the block.

    Raises RefusedError DRILL-013 where somebody else's copy is there.
    """
    root, stage = track.ground.root, track.ground.stage
    refuse_copy(track)
    choice = plan_restore(backups, LsnTarget(position), None, find_zone())
    marker = copy_marker(root)
    marker.touch()
    try:
        yield restore_beside(backups, choice)
    finally:
        drop_sidecar(stage, track.tell)
        marker.unlink(missing_ok=True)


def refuse_copy(track: Track) -> None:
    """Raise RefusedError DRILL-013 where a restored copy is there already: it would be replaced."""
    stage = track.ground.stage
    if read_facts(stage, None).get(SIDECAR):
        raise RefusedError(
            "DRILL-013",
            "a restored copy runs beside the database, and this drill would replace it",
            hint=f"asbuilt restore {stage.environment} --drop deletes it",
        )
