"""The journal's file: opening it, proving it sound, moving a damaged one aside, telling its errors.

Invariant: nothing is ever deleted, and no SQLite or system error leaves this folder untranslated.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from typing import TYPE_CHECKING, Final, NoReturn

from asbuilt.record.schema import APPLICATION, COLUMNS, PAGE, SCHEMA, VERSION
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY_TIMEOUT: Final = 10.0
"""Seconds a write waits for another process that writes."""


def open_store(path: Path) -> tuple[sqlite3.Connection, bool, Path | None]:
    """The connection, whether the file was empty, and where a damaged one went."""
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(path.parent):
            try:
                return (*_connect(path), None)
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if not _unreadable(error):
                    raise
                aside = _move_aside(path)
                return (*_connect(path), aside)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one process at a time looks at the file and moves it aside: a second would move the new one."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _connect(path: Path) -> tuple[sqlite3.Connection, bool]:
    """Open, prove sound, bring to the current schema; True when it was empty. Raises as SQLite does.

    A file that is up to date is only read: `status` waits for nobody.
    """
    # Made with its mode before SQLite sees it: the -wal and -shm files beside it take the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    # A flipped bit in a text must not make every answer that holds it fail.
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        db.execute(f"PRAGMA page_size = {PAGE}")
        if _cut(path):
            _malformed("its last page is cut off")
        _check_version(_pragma(db, "user_version"), path)
        empty = not db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        if not empty and _pragma(db, "application_id") != APPLICATION:
            _malformed("it is a database of another program")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        if empty:
            db.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA:
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION}")
            db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")
        _prove(db)
    except BaseException:
        db.close()
        raise
    return db, empty


def _cut(path: Path) -> bool:
    """True when the file ends within a page: SQLite would read zeros there and find nothing wrong.

    With a write-ahead log beside it a page may be half written, and is complete in the log.
    """
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        return False
    return path.stat().st_size % PAGE != 0


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _malformed(why: str) -> NoReturn:
    raise sqlite3.DatabaseError(f"malformed: {why}")


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
        _malformed(found[0])
    for table, columns in COLUMNS.items():
        there = tuple(str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})"))
        if there != columns:
            _malformed(f"table {table} has columns {there}")


_UNREADABLE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def _code(error: sqlite3.Error) -> int | None:
    extended: int | None = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF


def _unreadable(error: Exception) -> bool:
    """True when the file is damaged or is no journal; a full disk or a locked file is not that."""
    if not isinstance(error, sqlite3.DatabaseError):
        return True  # SQLite's own message quotes bytes that are no text
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
def translated(path: Path) -> Iterator[None]:
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
    full = error.errno in {ENOSPC, EDQUOT}
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
