"""A backup is taken and tried, then a row is deleted, and found again in a copy that is restored beside."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import psycopg

from asbuilt.graph.model import Kind
from asbuilt.operations.backup.base import take_base
from asbuilt.operations.backup.context import open_backups
from asbuilt.operations.backup.verify import verify
from asbuilt.operations.drill.contract import CORRUPTION, Drill
from asbuilt.operations.drill.database import SCHEMA, connect, drop_schema, make_schema
from asbuilt.operations.drill.restoring import (
    find_position,
    push_log,
    refuse_copy,
    restored_copy,
    wait_archived,
)

if TYPE_CHECKING:
    from asbuilt.operations.drill.ground import Ground
    from asbuilt.operations.drill.track import Track
    from asbuilt.values.secret import Secret

_TABLE: Final = f"{SCHEMA}.marks"


def blast(_: Ground, __: str) -> tuple[str, ...]:
    """No node: only a row of the drill's own."""
    return ()


def run(track: Track, _: str) -> None:
    """Take, try, delete, restore, find."""
    ground = track.ground
    refuse_copy(track)
    began = time.monotonic()
    track.judges.append(lambda: _clean(track))
    make_schema(ground)
    with open_backups(ground.stage, track.tell) as backups:
        base = take_base(backups, "drill")
        track.figures["seconds to take the backup"] = round(time.monotonic() - began, 3)
        wait_archived(track, backups, push_log(backups))  # what it is tried with, whole
        tried = verify(backups, base)
        if tried.verified is not None:
            track.figures["seconds to verify it"] = tried.verified.seconds
            track.evidence.append(f"the backup {base.id} is good: {tried.verified.why}")
        with connect(ground.database_url) as connection:
            connection.execute(f"CREATE TABLE {_TABLE} (id text PRIMARY KEY)")
            connection.execute(f"INSERT INTO {_TABLE} VALUES (%s)", (track.drill,))  # noqa: S608 - ours
        before = find_position(backups)
        with connect(ground.database_url) as connection:
            connection.execute(f"DELETE FROM {_TABLE}")  # noqa: S608 - ours
        track.moment = time.monotonic()
        track.proven = not has_mark(ground.database_url, track.drill)
        track.evidence.append(f"the mark was deleted after {before}, and is in the database no more")
        wait_archived(track, backups, push_log(backups))
        track.leg("archived")
        with restored_copy(track, backups, before) as copy:
            track.leg("restored")
            found = has_mark(ground.database_at(copy.address), track.drill)
            track.rto = track.leg("found")
            track.rpo = 0.0 if found else None
            track.check("the mark is in the restored copy", found, "it is not there")
            track.evidence.append(f"restored to {copy.end} from {copy.backup}")
    missing = ground.missing()
    track.whole = not missing


def has_mark(url: Secret, mark: str) -> bool:
    """Whether the row is there."""
    with connect(url) as connection:
        row = connection.execute(f"SELECT 1 FROM {_TABLE} WHERE id = %s", (mark,)).fetchone()  # noqa: S608
    return row is not None


def _clean(track: Track) -> None:
    try:
        drop_schema(track.ground)
    except psycopg.Error as error:
        track.note(f"the drill's schema stays: {error}")


BACKUP_RESTORE: Final = Drill(
    name="backup-restore",
    title="a backup is taken, tried and restored beside; a deleted row is found in it",
    promise=CORRUPTION,
    needs=(Kind.DATABASE,),
    replicated=False,
    blast=blast,
    run=run,
    about=60.0,
    locks=False,
    not_tested=("a restore in place", "the loss of the store of backups"),
    backups=True,
)
