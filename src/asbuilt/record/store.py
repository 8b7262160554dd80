"""A file of ours: opening it, proving it sound, moving a damaged one aside, telling its errors.

Invariant: nothing is ever deleted, and no SQLite or system error leaves this folder untranslated.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from typing import TYPE_CHECKING, Final, NoReturn

from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from asbuilt.record.layout import Layout

PAGE: Final = 4096
"""Bytes of a page of a file."""

BUSY_TIMEOUT: Final = 10.0
"""Seconds a write waits for another process that writes."""


def open_store(path: Path, layout: Layout) -> tuple[sqlite3.Connection, bool, Path | None]:
    """The connection, whether the file was empty, and where a damaged one went."""
    with translated(path, layout):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(path.parent):
            try:
                return (*_connect(path, layout), None)
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if not _unreadable(error):
                    raise
                aside = _move_aside(path)
                return (*_connect(path, layout), aside)


def look_into(path: Path, layout: Layout) -> sqlite3.Connection | None:
    """A connection to the file as it is, None without one. A damaged one is an error, and stays where it is.

    For who only reads what another process writes: that one would go on writing to a file that was moved.
    """
    with translated(path, layout):
        if not path.exists() or path.stat().st_size == 0:
            return None
        try:
            return _connect(path, layout)[0]
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not _unreadable(error):
                raise
            raise _damaged(path, layout, str(error)) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one process at a time looks at the file and moves it aside: a second would move the new one."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _connect(path: Path, layout: Layout) -> tuple[sqlite3.Connection, bool]:
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
        _check_version(_pragma(db, "user_version"), path, layout)
        empty = not db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        if not empty and _pragma(db, "application_id") != layout.application:
            _malformed("it is a database of another program")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        if empty:
            db.execute("BEGIN IMMEDIATE")
            for statement in layout.schema:
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {layout.application}")
            db.execute(f"PRAGMA user_version = {layout.version}")
            db.execute("COMMIT")
        _prove(db, layout)
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


def _check_version(version: int, path: Path, layout: Layout) -> None:
    if version > layout.version:
        raise AsbuiltError(
            f"{layout.code}-003",
            f"the {layout.name} was written by a newer asbuilt"
            f" (schema {version}, this one knows {layout.version})",
            where=str(path),
            hint="run the newer version, which made it; nothing was changed",
        )


def _prove(connection: sqlite3.Connection, layout: Layout) -> None:
    """Raise DatabaseError unless every page is sound and every table is what this version expects."""
    found = [str(row[0]) for row in connection.execute(f"PRAGMA {layout.proof}(1)")]
    if found != ["ok"]:
        _malformed(found[0])
    for table, columns in layout.columns.items():
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
def translated(path: Path, layout: Layout) -> Iterator[None]:
    """Translate what SQLite and the file system say into errors for people."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, path, layout) from error
    except OSError as error:
        if error.errno is None or isinstance(error, TimeoutError):
            raise
        raise _translate_os(error, path, layout) from error


def _translate_os(error: OSError, path: Path, layout: Layout) -> AsbuiltError:
    full = error.errno in {ENOSPC, EDQUOT}
    return _no_space(path, layout) if full else _not_writable(path, layout, error.strerror or str(error))


def _translate(error: sqlite3.Error, path: Path, layout: Layout) -> AsbuiltError:
    code = _code(error)
    if code == sqlite3.SQLITE_FULL:
        return _no_space(path, layout)
    if code == sqlite3.SQLITE_IOERR:
        return AsbuiltError(
            f"{layout.code}-002",
            f"the {layout.name} could not be written: {error}",
            where=str(path),
            hint="see whether the disk is full or failing (df, dmesg), then run the command again",
        )
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return AsbuiltError(
            f"{layout.code}-004",
            f"another process kept the {layout.name} locked for {BUSY_TIMEOUT:.0f} s",
            where=str(path),
            hint="see which asbuilt commands run; then run this one again",
        )
    if code in _UNREADABLE:
        return _damaged(path, layout, str(error))
    return _not_writable(path, layout, str(error))


def _damaged(path: Path, layout: Layout, why: str) -> AsbuiltError:
    return AsbuiltError(
        f"{layout.code}-005",
        f"the {layout.name} is damaged: {why}",
        where=str(path),
        hint=layout.remedy,
    )


def _no_space(path: Path, layout: Layout) -> AsbuiltError:
    return AsbuiltError(
        f"{layout.code}-002",
        f"no space left for the {layout.name}",
        where=str(path),
        hint=f"free some space on the disk of {path.parent}, then run the command again",
    )


def _not_writable(path: Path, layout: Layout, why: str) -> AsbuiltError:
    return AsbuiltError(
        f"{layout.code}-001",
        f"the {layout.name} cannot be used: {why}",
        where=str(path),
        hint=f"make {path.parent} and the files in it writable for you",
    )
