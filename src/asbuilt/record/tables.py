"""An open file of ours: questions, transactions, and the values that are remembered by name.

One connection behind one lock serves all threads: a commit costs one fsync whichever connection makes it, and
with a single connection no thread meets SQLITE_BUSY of another. Other processes (`status`, a second `up`) are
served by WAL mode and a busy timeout.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from asbuilt.record.store import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from asbuilt.record.layout import Layout


class Tables:
    """The open file. Every method is safe in any thread."""

    def __init__(
        self,
        path: Path,
        layout: Layout,
        connection: sqlite3.Connection,
        clock: Callable[[], float],
        *,
        rebuilt: bool = False,
        moved_aside: Path | None = None,
    ) -> None:
        self.path = path
        self.clock = clock
        self.rebuilt = rebuilt
        """True when the file was new or unreadable: ask reality, not this file."""
        self.moved_aside = moved_aside
        """Where the unreadable file went."""
        self._layout = layout
        self._connection = connection
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the file. Calling it twice is fine."""
        with self._lock, suppress(sqlite3.Error):
            self._connection.close()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, alone among all processes: on disk when the block ends, undone if it raises.

        Within another one it is a part of that.
        """
        with self._lock, translated(self.path, self._layout):
            if self._connection.in_transaction:
                yield self._connection
                return
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
        with self._lock, translated(self.path, self._layout):
            return self._connection.execute(query, values).fetchall()

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
