"""Takes one base backup: pg_basebackup, compressed and sealed on the way to the store.

Invariants: a backup counts from the moment that its `backup.json` is stored, and that is the last thing; the
log that it needs is stored before. Killed anywhere, it leaves at most an object that pruning removes.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Final, cast

from asbuilt.exec.streams import Proven
from asbuilt.operations.backup.context import Backups, fail, hold
from asbuilt.operations.backup.notes import BASE, choose_own_id, note_stored, running, write_down
from asbuilt.operations.backup.receiver import render_connection
from asbuilt.operations.backup.state import read_state
from asbuilt.operations.backup.tarwatch import TarWatch
from asbuilt.operations.progress import Event, ticking
from asbuilt.plan.basebackup import BaseBackup, to_json
from asbuilt.plan.wal import Lsn

if TYPE_CHECKING:
    from asbuilt.record.catalogue import Watermark

SUBJECT: Final = "backup"
_MANIFEST: Final = "backup_manifest"
_PROGRESS: Final = re.compile(r"(\d+)/(\d+) kB")
_ARCHIVED_WITHIN: Final = 120.0
_LOOK: Final = 0.2
_MARKS: Final = (
    "CREATE SCHEMA IF NOT EXISTS asbuilt",
    """CREATE TABLE IF NOT EXISTS asbuilt.backup_marks
       (id text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())""",
    "DELETE FROM asbuilt.backup_marks WHERE at < now() - interval '400 days'",
)
"""A row for each backup, in the database `postgres`: who restores one must find it there."""


@dataclass
class _Copy:
    """The running pg_basebackup, and what it said."""

    child: subprocess.Popen[bytes]
    out: IO[bytes]
    err: IO[bytes]
    said: list[str] = field(default_factory=list)
    done: int = 0
    total: int = 0

    def listen(self) -> None:
        """Read what it says to its end: progress, and words."""
        for line in io.TextIOWrapper(self.err, errors="replace", newline=None):
            found = _PROGRESS.search(line)
            if found:
                self.done, self.total = int(found[1]) * 1024, int(found[2]) * 1024
            elif line.strip():
                self.said.append(line.strip())

    def render(self) -> str:
        """How far it is."""
        return f"{self.done / 1e6:,.0f} of {self.total / 1e6:,.0f} MB copied"

    def prove(self) -> None:
        """Raise AsbuiltError BACKUP-003 unless it ended well."""
        if self.child.wait() != 0:
            raise fail(
                "BACKUP-003",
                f"pg_basebackup failed with status {self.child.returncode}",
                evidence=tuple(self.said[-5:]),
                hint="asbuilt status shows whether there is a primary",
            )


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the primary says of itself after the copy."""

    version: str
    system_id: str
    mark: str
    next_xid: int


def take_base(backups: Backups, label: str = "", one: str = "") -> BaseBackup:
    """Take one. Raises AsbuiltError BACKUP-002 to -005, or what the store says.

    Args:
        backups: of the environment.
        label: what its owner calls it.
        one: its id, by default of this moment.
    """
    with hold(backups, "taking a backup"), running(backups, "base") as said:
        backup = _take(backups, label, one or choose_own_id(backups))
        said.update(id=backup.id, size=backup.size)
        return backup


def _take(backups: Backups, label: str, one: str) -> BaseBackup:
    _await_stream(backups)
    began = datetime.now(UTC)
    key = f"{BASE}/{one}/base.tar.zst.age"
    copy = _start(backups, one)
    listener = threading.Thread(target=copy.listen, daemon=True)
    listener.start()
    try:
        watch = TarWatch(copy.out, frozenset({_MANIFEST}))
        with (
            ticking(backups.tell, SUBJECT, copy.render),
            backups.sealer.seal(Proven(watch, copy.prove)) as sealed,
        ):
            put = backups.store.put(key, sealed, expected=copy.total)
            clear = sealed.clear.size
    finally:
        copy.child.kill()
        copy.child.wait()
        listener.join(5.0)
    timeline, start, stop = _read_manifest(watch.kept.get(_MANIFEST))
    facts = _leave_mark(backups, one)
    ended = datetime.now(UTC)
    backup = BaseBackup(
        id=one,
        label=label,
        timeline=timeline,
        start=start,
        stop=stop,
        began=began,
        ended=ended,
        size=put.size,
        clear_size=clear,
        sha256=put.sha256,
        version=facts.version,
        system_id=facts.system_id,
        mark=facts.mark,
        next_xid=facts.next_xid,
    )
    _await_archived(backups, timeline, max(stop, Lsn.parse(facts.mark.partition("@")[2])))
    note_stored(backups, key, put)
    remember_backup(backups, backup)
    return backup


def remember_backup(backups: Backups, backup: BaseBackup) -> None:
    """Write down what is known of a backup."""
    write_down(backups, BASE, backup.id, to_json(backup))


def _start(backups: Backups, one: str) -> _Copy:
    settings = backups.settings
    words = [
        dict(settings.programs)["pg_basebackup"],
        "-d",
        render_connection(settings),
        "-w",
        "-D",
        "-",
        "-F",
        "t",
        "-X",
        "none",  # the log is archived all the time
        "-c",
        "fast",
        # a digest of each file would take four times as long as the copy; age proves the whole
        "--manifest-checksums=CRC32C",
        "-P",
        "-l",
        f"asbuilt {one}",
    ]
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        **dict(settings.env),
        "PGPASSWORD": backups.secret("database.replicator").reveal(),
    }
    backups.tell(Event("started", SUBJECT, f"take the base backup {one}"))
    child = subprocess.Popen(
        words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    return _Copy(child, cast("IO[bytes]", child.stdout), cast("IO[bytes]", child.stderr))


def _read_manifest(text: bytes | None) -> tuple[int, Lsn, Lsn]:
    """Timeline at the end, start and stop, from PostgreSQL's own manifest."""
    try:
        raw: dict[str, Any] = json.loads(text or b"")
        ranges = sorted(raw["WAL-Ranges"], key=lambda one: int(one["Timeline"]))
        return (
            int(ranges[-1]["Timeline"]),
            Lsn.parse(ranges[0]["Start-LSN"]),
            Lsn.parse(ranges[-1]["End-LSN"]),
        )
    except (ValueError, KeyError, IndexError, TypeError):
        raise fail("BACKUP-004", "the base backup has no manifest that can be read") from None


def _leave_mark(backups: Backups, one: str) -> _Facts:
    """Commit the row that proves a restore, and learn where in the log it is."""
    with backups.admin.connect_primary() as connection:
        for statement in _MARKS:
            connection.execute(statement)
        connection.execute("INSERT INTO asbuilt.backup_marks(id) VALUES (%s) ON CONFLICT DO NOTHING", (one,))
        row = connection.execute(
            "SELECT current_setting('server_version'), system_identifier::text,"
            " pg_current_wal_insert_lsn()::text, pg_snapshot_xmax(pg_current_snapshot())::text"
            " FROM pg_control_system()"
        ).fetchone()
    if row is None:
        raise fail("BACKUP-004", "the primary does not say what it is")
    version, system, lsn, xid = map(str, row)
    return _Facts(version.split(" ")[0], system, f"{one}@{lsn}", int(xid))


def _await_stream(backups: Backups) -> None:
    """What is written from now on is archived: a backup without the log of its own time is none."""
    with backups.admin.connect_primary() as connection:
        row = connection.execute(
            "SELECT substr(pg_walfile_name(lsn), 1, 8), lsn::text FROM pg_current_wal_flush_lsn() AS lsn"
        ).fetchone()
    if row is not None:
        _await_archived(backups, int(row[0], 16), Lsn.parse(row[1]))


def _await_archived(backups: Backups, timeline: int, position: Lsn) -> None:
    began = time.monotonic()
    while not _reaches(backups.catalogue.watermark(), timeline, position):
        waited = time.monotonic() - began
        if waited > _ARCHIVED_WITHIN:
            raise fail(
                "BACKUP-005",
                f"the log up to {position} was not archived within {_ARCHIVED_WITHIN:g} s",
                evidence=_tell_archive(backups),
                hint="asbuilt status shows whether backup-1 runs; asbuilt logs --node backup-1 says more",
            )
        backups.tell(Event("waiting", SUBJECT, f"the log up to {position} to be archived", waited))
        time.sleep(_LOOK)


def _tell_archive(backups: Backups) -> tuple[str, ...]:
    state = read_state(backups.stage.root)
    if state is None:
        return ("nothing is archived yet",)
    stored = f"stored up to {state.stored_to or 'nothing'} of timeline {state.timeline}"
    return (stored, *((state.problem,) if state.problem else ()))


def _reaches(mark: Watermark | None, timeline: int, position: Lsn) -> bool:
    if mark is None:
        return False
    return mark.timeline > timeline or (mark.timeline == timeline and Lsn.parse(mark.lsn) >= position)
