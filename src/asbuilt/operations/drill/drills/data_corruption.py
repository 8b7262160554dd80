"""Data is destroyed: a table is dropped and copied back from a backup; bytes of a replica's page are flipped.

Only tables of the drill's own are touched. Flipped bytes must be found by the page's checksum, and the
replica is built anew from the primary.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psycopg

from asbuilt.engines.postgresql.config import APP, SUPERUSER
from asbuilt.graph.model import Kind
from asbuilt.operations.backup.archive import read_backups
from asbuilt.operations.backup.base import take_base
from asbuilt.operations.backup.context import open_backups
from asbuilt.operations.backup.tables import copy_tables
from asbuilt.operations.drill.contract import CORRUPTION, Drill
from asbuilt.operations.drill.damage import clear_damage, flip_bytes, note_damage
from asbuilt.operations.drill.database import SCHEMA, connect, drop_schema, make_schema
from asbuilt.operations.drill.restoring import (
    find_position,
    push_log,
    refuse_copy,
    restored_copy,
    wait_archived,
)
from asbuilt.plan.fault import Fault, How

if TYPE_CHECKING:
    from asbuilt.operations.drill.ground import Ground
    from asbuilt.operations.drill.track import Track
    from asbuilt.values.secret import Secret

_TABLE: Final = f"{SCHEMA}.orders"
_ROWS: Final = 5000
_FILL: Final = (
    f"CREATE TABLE {_TABLE} (id bigint PRIMARY KEY, what text NOT NULL)",
    f"INSERT INTO {_TABLE} SELECT n, md5(n::text) FROM generate_series(1, {_ROWS}) AS n",  # noqa: S608 - ours
)
_SUM: Final = f"SELECT count(*), md5(string_agg(id || what, ',' ORDER BY id)) FROM {_TABLE}"  # noqa: S608 - ours
_PATH: Final = "SELECT pg_relation_filepath(%s)"


def blast(ground: Ground, _: str) -> tuple[str, ...]:
    """A replica that nobody waits for, where there are replicas."""
    return tuple(one for one in (_find_replica(ground),) if one)


def run(track: Track, _: str) -> None:
    """Drop and copy back; flip and rebuild."""
    refuse_copy(track)
    track.judges.append(lambda: _clean(track))
    make_schema(track.ground)
    with connect(track.ground.database_url) as connection:
        for statement in _FILL:
            connection.execute(statement)
    before = _sum(track.ground.database_url)
    _drop_and_copy_back(track, before)
    if track.blast:
        _flip_and_rebuild(track, track.blast[0], before)
    track.wait_whole()


def _drop_and_copy_back(track: Track, before: str) -> None:
    ground = track.ground
    with open_backups(ground.stage, track.tell) as backups:
        if not read_backups(backups):
            take_base(backups, "drill")
        position = find_position(backups)
        with connect(ground.database_url) as connection:
            connection.execute(f"DROP TABLE {_TABLE}")
        track.moment = time.monotonic()
        track.note(f"now: {_TABLE} is dropped")
        track.proven = not _sum(ground.database_url)
        track.evidence.append(f"{_TABLE} with {_ROWS} rows was dropped after {position}")
        wait_archived(track, backups, push_log(backups))
        track.leg("archived")
        with restored_copy(track, backups, position):
            track.leg("restored")
            copy_tables(backups, (_TABLE,))
        track.rto = track.leg("copied back")
    same = _sum(ground.database_url) == before
    track.rpo = 0.0 if same else None
    track.check("the table is back as it was", same, "it differs")


def _flip_and_rebuild(track: Track, node: str, before: str) -> None:
    ground, began = track.ground, time.monotonic()
    with ground.admin.connect_primary(SUPERUSER, APP) as primary:
        # no hint bits are left to be set: the page is not written again
        primary.execute("SET statement_timeout = 0")
        primary.execute(f"VACUUM FREEZE {_TABLE}")
        primary.execute("CHECKPOINT")
        row = primary.execute(_PATH, (_TABLE,)).fetchone()
    file = ground.prepared.site.node_dir(node) / "data" / str(row[0] if row else "")
    track.until(f"{node} to have the table", lambda: _sum(ground.node_url(node)) == before, 60.0)
    with ground.admin.connect_node(node, SUPERUSER, APP) as replica:
        replica.execute("SET statement_timeout = 0")
        replica.execute("CHECKPOINT")
    note_damage(ground.root, node)
    with track.fault(Fault(How.HOLD, (node,), 60.0), main=False):
        flip_bytes(file)
    track.note(f"now: bytes of a page of {node} are flipped")
    found = ""

    def complained() -> bool:
        nonlocal found
        found = _complaint(ground.node_url(node))
        return "invalid page" in found

    track.until("the page's checksum to tell", complained, 90.0)
    track.evidence.append(f"{node} said: {found}")
    track.figures["seconds to find the flipped page"] = round(time.monotonic() - began, 3)
    began = time.monotonic()
    ground.admin.rebuild(node)
    track.until(f"{node} to be built anew", lambda: _sum(ground.node_url(node)) == before, 180.0)
    track.figures["seconds to rebuild the replica"] = round(time.monotonic() - began, 3)
    track.check("the replica was built anew", _sum(ground.node_url(node)) == before, "it differs")
    clear_damage(ground.root)


def _find_replica(ground: Ground) -> str:
    if not ground.admin.replicated:
        return ""
    members = {one.node: one.role for one in ground.admin.members()}
    replicas = sorted((role != "replica", node) for node, role in members.items() if role != "leader")
    return replicas[0][1] if replicas else ""


def _sum(url: Secret) -> str:
    """Number and digest of the rows; empty when they cannot be read."""
    with suppress(psycopg.Error, OSError), connect(url) as connection:
        return json.dumps(connection.execute(_SUM).fetchone())
    return ""


def _complaint(url: Secret) -> str:
    try:
        with connect(url) as connection:
            connection.execute(_SUM).fetchone()
    except psycopg.Error as error:
        return str(error).strip().partition("\n")[0]
    return ""


def _clean(track: Track) -> None:
    drop_schema(track.ground)


DATA_CORRUPTION: Final = Drill(
    name="data-corruption",
    title="a table is dropped and copied back from a backup; a flipped page is found, its replica rebuilt",
    promise=CORRUPTION,
    needs=(Kind.DATABASE,),
    replicated=False,
    blast=blast,
    run=run,
    about=60.0,
    locks=False,
    not_tested=("a flipped page of the primary", "a restore in place"),
    backups=True,
)
