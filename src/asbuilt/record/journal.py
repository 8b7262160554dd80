"""The memory that survives a crash: one SQLite file for each environment, outside every database it manages.

Intent is written before a step acts and completion after it, both on the disk before the call returns
(synchronous FULL). Invariant: the journal is never the only truth. A file that cannot be read is moved aside,
never deleted, and the caller rebuilds what it needs from reality (`rebuilt`).

One connection behind one lock serves all threads: a plan has at most dozens of steps at a time, a commit
costs one fsync whichever connection makes it, and with a single connection no thread ever meets SQLITE_BUSY
of another. Other processes (`status`, a second `up`) are served by WAL mode and a busy timeout.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from asbuilt.record.schema import COLUMNS, SCHEMA, VERSION
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

Outcome = Literal["done", "failed", "interrupted"]
BUSY_TIMEOUT: Final = 10.0
"""Seconds a write waits for another process that writes."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One run of a verb.

    Args:
        id: counts up.
        epoch: the lock's epoch it ran under.
        verb: like `up`.
        owner: `user@host pid`.
        started: seconds since 1970 UTC.
        ended: the same; None while it runs, or when its client died.
        outcome: `done`, `failed`, `interrupted`; None while it runs, or when its client died.
        plan: the plan as JSON values.
        error: the error as JSON values, or None.
    """

    id: int
    epoch: int
    verb: str
    owner: str
    started: float
    ended: float | None
    outcome: str | None
    plan: Any
    error: Any


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of an operation: meant to be done at `intent_at`, finished at `done_at` or not known to be."""

    operation: int
    step: str
    intent_at: float
    done_at: float | None
    outcome: str | None
    detail: str


class Journal:
    """The open journal. Every method is safe in any thread; times come from the clock given to `open`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self.path = path
        self.rebuilt = False
        """True when the file was new or unreadable: ask reality, not the journal."""
        self.moved_aside: Path | None = None
        """Where the unreadable file went."""
        self.clock = clock
        self._connection = connection
        self._lock = threading.RLock()

    @staticmethod
    def open(path: Path, *, clock: Callable[[], float]) -> Journal:
        """Open or make the journal at `path`. `clock` gives seconds since 1970.

        Raises AsbuiltError: JOURNAL-001 cannot be written or read here, JOURNAL-002 no space,
        JOURNAL-003 made by a newer version.
        """
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = not path.exists() or path.stat().st_size == 0
            try:
                journal = Journal(path, _connect(path), clock)
                journal.rebuilt = fresh
            except sqlite3.DatabaseError as error:
                if not _unreadable(error):
                    raise
                aside = _move_aside(path)
                journal = Journal(path, _connect(path), clock)
                journal.rebuilt, journal.moved_aside = True, aside
        return journal

    def close(self) -> None:
        """Close the file. Calling it twice is fine."""
        with self._lock, suppress(sqlite3.Error):
            self._connection.close()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, alone among all processes: on the disk when the block ends, undone if it raises."""
        with self._lock, _told(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The answer to one question."""
        with self._lock, _told(self.path):
            return self._connection.execute(query, values).fetchall()

    def begin_operation(self, verb: str, *, epoch: int, owner: str, plan: object) -> int:
        """Record that an operation starts; the answer is its id. `plan` is JSON values."""
        with self.write() as db:
            cursor = db.execute(
                "INSERT INTO operations(epoch, verb, owner, started, plan) VALUES (?, ?, ?, ?, ?)",
                (epoch, verb, owner, self.clock(), _dump(plan)),
            )
            return int(cursor.lastrowid or 0)

    def finish_operation(self, operation: int, outcome: Outcome, *, error: object = None) -> None:
        """Record how an operation ended. `error` is JSON values, without a secret."""
        with self.write() as db:
            db.execute(
                "UPDATE operations SET ended = ?, outcome = ?, error = ? WHERE id = ?",
                (self.clock(), outcome, None if error is None else _dump(error), operation),
            )

    def intend_step(self, operation: int, step: str) -> None:
        """Record that a step is about to act. Again after a crash: the intent is renewed."""
        with self.write() as db:
            db.execute(
                "INSERT INTO steps(operation, step, intent_at) VALUES (?, ?, ?) ON CONFLICT(operation, step)"
                " DO UPDATE SET intent_at = excluded.intent_at, done_at = NULL, outcome = NULL, detail = ''",
                (operation, step, self.clock()),
            )

    def complete_step(self, operation: int, step: str, outcome: Outcome, detail: str = "") -> None:
        """Record how a step ended. `detail` is one line for people, without a secret."""
        with self.write() as db:
            db.execute(
                "UPDATE steps SET done_at = ?, outcome = ?, detail = ? WHERE operation = ? AND step = ?",
                (self.clock(), outcome, detail, operation, step),
            )

    def last_operations(self, limit: int = 20) -> tuple[Operation, ...]:
        """The newest operations, newest first."""
        found = self.rows(
            "SELECT id, epoch, verb, owner, started, ended, outcome, plan, error"
            " FROM operations ORDER BY id DESC LIMIT ?",
            limit,
        )
        return tuple(Operation(*head, _load(plan), _load(error)) for *head, plan, error in found)

    def steps(self, operation: int) -> tuple[StepRecord, ...]:
        """The steps of an operation, in the order in which they began."""
        found = self.rows(
            "SELECT operation, step, intent_at, done_at, outcome, detail"
            " FROM steps WHERE operation = ? ORDER BY intent_at, step",
            operation,
        )
        return tuple(StepRecord(*row) for row in found)

    def setups(self) -> dict[str, str]:
        """The key under which each setup was done, by id: what `Snapshot.setups` holds."""
        return {str(one): str(key) for one, key in self.rows("SELECT id, key FROM setups ORDER BY id")}

    def remember_setup(self, one: str, key: str) -> None:
        """Record that a setup is done."""
        with self.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO setups(id, key, done_at) VALUES (?, ?, ?)", (one, key, self.clock())
            )

    def forget_setup(self, one: str) -> None:
        """Forget that a setup was done, so that it is done again."""
        with self.write() as db:
            db.execute("DELETE FROM setups WHERE id = ?", (one,))

    def fact(self, key: str) -> str | None:
        """A remembered value, or None."""
        found = self.rows("SELECT value FROM facts WHERE key = ?", key)
        return str(found[0][0]) if found else None

    def facts(self) -> dict[str, str]:
        """Every remembered value."""
        return {str(key): str(value) for key, value in self.rows("SELECT key, value FROM facts ORDER BY key")}

    def remember_facts(self, facts: Mapping[str, str]) -> None:
        """Remember values, all or none of them. Never secrets."""
        with self.write() as db:
            db.executemany("INSERT OR REPLACE INTO facts(key, value) VALUES (?, ?)", sorted(facts.items()))

    def forget_fact(self, key: str) -> None:
        """Forget one value."""
        with self.write() as db:
            db.execute("DELETE FROM facts WHERE key = ?", (key,))


def _dump(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _load(text: str | None) -> Any:  # noqa: ANN401 - JSON values
    return None if text is None else json.loads(text)


def _connect(path: Path) -> sqlite3.Connection:
    """Open, prove readable, bring to the current schema. Raises sqlite3 errors and JOURNAL-003."""
    # Made with its mode before SQLite sees it: the -wal and -shm files beside it take the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        _check_version(version, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
        _prove(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_version(version: int, path: Path) -> None:
    if version > VERSION:
        raise AsbuiltError(
            "JOURNAL-003",
            f"the journal was written by a newer asbuilt (schema {version}, this one knows {VERSION})",
            where=str(path),
            hint="run the newer version, which made it; nothing was changed",
        )


def _prove(connection: sqlite3.Connection) -> None:
    """Raise DatabaseError unless every page is sound and every table is what this version expects."""
    found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
    if found != ["ok"]:
        raise sqlite3.DatabaseError(f"malformed: {found[0]}")
    for table, columns in COLUMNS.items():
        there = tuple(str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})"))
        if there != columns:
            raise sqlite3.DatabaseError(f"malformed: table {table} has columns {there}")


_UNREADABLE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def _code(error: sqlite3.Error) -> int | None:
    extended: int | None = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF


def _unreadable(error: sqlite3.DatabaseError) -> bool:
    """True when the file is damaged or is no journal; a full disk or a locked file is not that."""
    code = _code(error)
    if code in _UNREADABLE:
        return True
    if str(error).startswith("malformed"):
        return True
    # SQLITE_ERROR with a file in hand: a schema that is not ours (a view named like a table, no such column).
    return code == sqlite3.SQLITE_ERROR


def _move_aside(path: Path) -> Path:
    """Rename the file and what belongs to it to the first free `NAME.corrupt-<n>`."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    path.rename(aside)
    for suffix in ("-wal", "-shm", "-journal"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + suffix))
    return aside


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Translate what SQLite and the file system say into errors for people."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, path) from error
    except OSError as error:
        if error.errno is None or isinstance(error, TimeoutError):
            raise
        raise _translate_os(error, path) from error


def _translate_os(error: OSError, path: Path) -> AsbuiltError:
    full = error.errno in {28, 122}  # ENOSPC, EDQUOT
    return _no_space(path) if full else _not_writable(path, error.strerror or str(error))


def _translate(error: sqlite3.Error, path: Path) -> AsbuiltError:
    code = _code(error)
    if code == sqlite3.SQLITE_FULL:
        return _no_space(path)
    if code == sqlite3.SQLITE_IOERR:
        return AsbuiltError(
            "JOURNAL-002",
            f"the journal could not be written: {error}",
            where=str(path),
            hint="see whether the disk is full or failing (df, dmesg), then run the command again",
        )
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return AsbuiltError(
            "JOURNAL-004",
            f"another process kept the journal locked for {BUSY_TIMEOUT:.0f} s",
            where=str(path),
            hint="see which asbuilt commands run; then run this one again",
        )
    if code in _UNREADABLE:
        return AsbuiltError(
            "JOURNAL-005",
            f"the journal was damaged while it was open: {error}",
            where=str(path),
            hint="run the command again: the damaged file is moved aside and rebuilt from what really runs",
        )
    return _not_writable(path, str(error))


def _no_space(path: Path) -> AsbuiltError:
    return AsbuiltError(
        "JOURNAL-002",
        "no space left for the journal",
        where=str(path),
        hint=f"free some space on the disk of {path.parent}, then run the command again",
    )


def _not_writable(path: Path, why: str) -> AsbuiltError:
    return AsbuiltError(
        "JOURNAL-001",
        f"the journal cannot be used: {why}",
        where=str(path),
        hint=f"make {path.parent} and the files in it writable for you",
    )
