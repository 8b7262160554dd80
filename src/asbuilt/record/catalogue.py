"""What is in the store of backups, as far as we know: one SQLite file below the environment's folder.

The archiver writes it; verbs look into it while the archiver works. Invariant: it says that an object is
stored only after the store confirmed it, so that it may know too little, never too much. It is no truth of
its own: a lost or damaged one is moved aside, and filled again from a listing of the store (`reconcile`).

Writes that belong together are made one transaction with `write`: `with catalogue.write(): ...`.
"""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from asbuilt.record.catalogue_schema import CATALOGUE
from asbuilt.record.store import look_into, open_store
from asbuilt.record.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

Kind = Literal["base", "cache", "objects", "files", "verify", "prune", "scrub", "restore"]
Result = Literal["done", "failed", "interrupted"]
KEPT_RUNS: Final = 1000
"""How many runs are remembered."""
_BATCH: Final = 5000
"""Objects of a listing that are taken in at a time."""
_WATERMARK: Final = "watermark"
_LISTED: Final = "listed"
_LAST: Final = "\U0010ffff"


class StoredObject(NamedTuple):
    """An object of the store. Times are seconds since 1970 UTC.

    Args:
        key: its name in the store.
        size: bytes, as stored.
        sha256: digest in hex of what was put; None where only a listing told of it.
        at: when it was stored.
        checked_at: when it was last read back and had this digest; None for never.
    """

    key: str
    size: int
    sha256: str | None
    at: float
    checked_at: float | None = None


class Listed(NamedTuple):
    """An object in a listing of the store. `at` is when it was stored, in seconds since 1970 UTC."""

    key: str
    size: int
    at: float


class Difference(NamedTuple):
    """What a listing told that the catalogue did not know.

    Args:
        missing: objects that are gone.
        changed: keys whose size is another one than what was put.
        unknown: how many objects it had not.
    """

    missing: tuple[StoredObject, ...]
    changed: tuple[str, ...]
    unknown: int


class Totals(NamedTuple):
    """How many objects, and how many bytes they take in the store."""

    objects: int
    size: int


class Watermark(NamedTuple):
    """Up to where the WAL is stored without a gap: timeline, LSN as PostgreSQL writes it, and since when."""

    timeline: int
    lsn: str
    at: float


class Run(NamedTuple):
    """Something the archiver did. `ended` and `result` are None while it runs, or when it was killed."""

    id: int
    kind: str
    began: float
    ended: float | None
    result: str | None
    said: Any
    """What came of it, as JSON values."""


class Catalogue(Tables):
    """The open catalogue. Times come from the clock given to `open`, in seconds since 1970 UTC."""

    @staticmethod
    def open(path: Path, *, clock: Callable[[], float]) -> Catalogue:
        """Open or make the catalogue at `path`, for the one process that writes it.

        Raises AsbuiltError: CATALOGUE-001 cannot be written or read here, CATALOGUE-002 no space,
        CATALOGUE-003 made by a newer version.
        """
        connection, fresh, aside = open_store(path, CATALOGUE)
        return Catalogue(path, CATALOGUE, connection, clock, rebuilt=fresh, moved_aside=aside)

    @staticmethod
    def look(path: Path, *, clock: Callable[[], float]) -> Catalogue | None:
        """Open the catalogue to read it while another process writes; None when there is none yet.

        Raises AsbuiltError CATALOGUE-005 when it is damaged: only who writes it moves it aside.
        """
        connection = look_into(path, CATALOGUE)
        return None if connection is None else Catalogue(path, CATALOGUE, connection, clock)

    # stored objects

    @property
    def incomplete(self) -> bool:
        """True until a whole listing of the store was taken in: the file is new, or the old one was lost."""
        return self.fact(_LISTED) is None

    def remember(self, objects: Iterable[StoredObject]) -> None:
        """Record objects that the store confirmed, in the place of what was known of their keys."""
        with self.write() as db:
            db.executemany("INSERT OR REPLACE INTO stored VALUES (?, ?, ?, ?, ?)", objects)

    def forget(self, keys: Iterable[str]) -> None:
        """Record that objects are no longer to be relied on: before they are removed from the store."""
        with self.write() as db:
            db.executemany("DELETE FROM stored WHERE key = ?", ((key,) for key in keys))

    def find(self, key: str) -> StoredObject | None:
        """What is known of one object."""
        found = self.rows("SELECT * FROM stored WHERE key = ?", key)
        return StoredObject(*found[0]) if found else None

    def stored(self, prefix: str = "", *, after: str = "") -> list[StoredObject]:
        """The objects whose keys start with `prefix` and sort after `after`, in the order of their keys."""
        found = self.rows(
            "SELECT * FROM stored WHERE key >= ? AND key < ? AND key > ? ORDER BY key",
            prefix,
            prefix + _LAST,
            after,
        )
        return list(map(StoredObject._make, found))

    def totals(self, prefix: str = "") -> Totals:
        """How many objects have keys that start with `prefix`, and how large they are together."""
        found = self.rows(
            "SELECT count(*), coalesce(sum(size), 0) FROM stored WHERE key >= ? AND key < ?",
            prefix,
            prefix + _LAST,
        )
        return Totals(*found[0])

    def due(self, before: float, *, limit: int = 1000) -> list[StoredObject]:
        """The objects that nobody has put or read back since `before`, those that wait longest first."""
        found = self.rows(
            "SELECT * FROM stored WHERE coalesce(checked_at, at) < ?"
            " ORDER BY coalesce(checked_at, at), key LIMIT ?",
            before,
            limit,
        )
        return list(map(StoredObject._make, found))

    def remember_checks(self, checks: Iterable[tuple[str, str]]) -> None:
        """Record that objects were read back now: key, and the digest they have, which is the right one."""
        now = self.clock()
        with self.write() as db:
            db.executemany(
                "UPDATE stored SET checked_at = ?, sha256 = ? WHERE key = ?",
                ((now, digest, key) for key, digest in checks),
            )

    def reconcile(self, listing: Iterable[Listed], prefix: str = "") -> Difference:
        """Take in a whole listing of the store: afterwards the catalogue has what the store has.

        With a `prefix` the same for what is below a folder of it.
        What was stored while it was read stays. Nothing may be removed from the store meanwhile. The listing
        is read outside of any transaction, and memory stays constant.
        """
        begun = self.clock()
        with self._lock:
            self.rows("DROP TABLE IF EXISTS temp.listed")
            self.rows("CREATE TEMP TABLE listed(key TEXT PRIMARY KEY, size INTEGER, at REAL) WITHOUT ROWID")
            rows = iter(listing)
            while batch := list(islice(rows, _BATCH)):
                with self.write() as db:
                    db.executemany("INSERT OR REPLACE INTO temp.listed VALUES (?, ?, ?)", batch)
            with self.write() as db:
                difference = self._differ(begun, prefix)
                db.execute(
                    "DELETE FROM stored WHERE at < ? AND key >= ? AND key < ?"
                    " AND key NOT IN (SELECT key FROM listed)",
                    (begun, prefix, prefix + _LAST),
                )
                db.execute(
                    "UPDATE stored SET size = listed.size, sha256 = NULL, checked_at = NULL FROM listed"
                    " WHERE stored.key = listed.key AND stored.size != listed.size AND stored.at < ?",
                    (begun,),
                )
                db.execute(
                    "INSERT INTO stored SELECT key, size, NULL, at, NULL FROM listed"
                    " WHERE key NOT IN (SELECT key FROM stored)"
                )
                if not prefix:
                    self.remember_facts({_LISTED: repr(begun)})
            self.rows("DROP TABLE temp.listed")
        return difference

    def _differ(self, begun: float, prefix: str) -> Difference:
        missing = self.rows(
            "SELECT * FROM stored WHERE at < ? AND key >= ? AND key < ?"
            " AND key NOT IN (SELECT key FROM listed) ORDER BY key",
            begun,
            prefix,
            prefix + _LAST,
        )
        changed = self.rows(
            "SELECT key FROM stored JOIN listed USING (key)"
            " WHERE stored.size != listed.size AND stored.at < ? ORDER BY key",
            begun,
        )
        unknown = self.rows("SELECT count(*) FROM listed WHERE key NOT IN (SELECT key FROM stored)")
        return Difference(
            tuple(map(StoredObject._make, missing)), tuple(key for (key,) in changed), unknown[0][0]
        )

    def unneeded(self, prefix: str, needed: Iterable[str]) -> list[StoredObject]:
        """Of the objects whose keys start with `prefix`, those that are not needed.

        `needed` are keys, in any order and as often as they come; they take no memory.
        """
        with self._lock:
            self.rows("DROP TABLE IF EXISTS temp.needed")
            self.rows("CREATE TEMP TABLE needed(key TEXT PRIMARY KEY) WITHOUT ROWID")
            rows = iter(needed)
            while batch := list(islice(rows, _BATCH)):
                with self.write() as db:
                    db.executemany("INSERT OR IGNORE INTO temp.needed VALUES (?)", ((key,) for key in batch))
            found = self.rows(
                "SELECT * FROM stored WHERE key >= ? AND key < ?"
                " AND key NOT IN (SELECT key FROM needed) ORDER BY key",
                prefix,
                prefix + _LAST,
            )
            self.rows("DROP TABLE temp.needed")
        return list(map(StoredObject._make, found))

    # backups

    def backups(self, folder: str) -> dict[str, str]:
        """The backups in a folder of the store as JSON texts, by id; oldest first."""
        found = self.rows("SELECT id, json FROM backups WHERE folder = ? ORDER BY id", folder)
        return {str(one): str(text) for one, text in found}

    def remember_backup(self, folder: str, one: str, text: str) -> None:
        """Record a backup, or what is new about it."""
        with self.write() as db:
            db.execute("INSERT OR REPLACE INTO backups VALUES (?, ?, ?)", (folder, one, text))

    def forget_backup(self, folder: str, one: str) -> None:
        """Forget a backup."""
        with self.write() as db:
            db.execute("DELETE FROM backups WHERE folder = ? AND id = ?", (folder, one))

    # runs

    def begin_run(self, kind: Kind) -> int:
        """Record that something starts; the answer is its id."""
        with self.write() as db:
            db.execute("DELETE FROM runs WHERE id <= (SELECT max(id) FROM runs) - ?", (KEPT_RUNS,))
            cursor = db.execute("INSERT INTO runs(kind, began) VALUES (?, ?)", (kind, self.clock()))
            return int(cursor.lastrowid or 0)

    def finish_run(self, run: int, result: Result, said: object = None) -> None:
        """Record how it ended. `said` is JSON values for people, without a secret."""
        with self.write() as db:
            db.execute(
                "UPDATE runs SET ended = ?, result = ?, said = ? WHERE id = ?",
                (self.clock(), result, json.dumps(said, sort_keys=True), run),
            )

    def interrupt_runs(self) -> tuple[Run, ...]:
        """Record that whatever runs according to the catalogue was interrupted: its process is gone."""
        with self.write() as db:
            found = self._runs("WHERE ended IS NULL ORDER BY id")
            db.execute(
                "UPDATE runs SET ended = ?, result = 'interrupted' WHERE ended IS NULL", (self.clock(),)
            )
        return found

    def runs(self, limit: int = 20, *, kind: Kind | None = None) -> tuple[Run, ...]:
        """The newest runs, of one kind or of all, newest first."""
        return self._runs("WHERE kind = coalesce(?, kind) ORDER BY id DESC LIMIT ?", kind, limit)

    def _runs(self, which: str, *values: object) -> tuple[Run, ...]:
        columns = "id, kind, began, ended, result, said"
        found = self.rows(f"SELECT {columns} FROM runs {which}", *values)  # noqa: S608 - constants
        return tuple(
            Run(one, kind, began, ended, result, _load(said))
            for one, kind, began, ended, result, said in found
        )

    # the watermark

    def watermark(self) -> Watermark | None:
        """Up to where the WAL is stored, or None."""
        found = _load(self.fact(_WATERMARK) or "null")
        with suppress(TypeError, ValueError):
            timeline, lsn, at = found
            return Watermark(int(timeline), str(lsn), float(at))
        return None

    def remember_watermark(self, mark: Watermark) -> None:
        """Record up to where the WAL is stored: in one transaction with the objects it is in."""
        self.remember_facts({_WATERMARK: json.dumps(list(mark))})


def _load(text: str) -> Any:  # noqa: ANN401 - JSON values
    """The JSON values; None where a flipped bit made them unreadable."""
    with suppress(ValueError):
        return json.loads(text)
    return None
