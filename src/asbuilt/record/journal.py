"""The memory that survives a crash: one SQLite file for each environment, outside every database it manages.

Intent is written before a step acts and completion after it, both on the disk before the call returns
(synchronous FULL). Invariant: the journal is never the only truth. A file that cannot be read is moved aside,
never deleted, and the caller rebuilds what it needs from reality (`rebuilt`).
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from asbuilt.record.schema import JOURNAL
from asbuilt.record.store import open_store
from asbuilt.record.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Outcome = Literal["done", "failed", "interrupted"]
KEPT_OPERATIONS: Final = 200
"""How many operations are remembered: the file stays small, and proving it sound at each opening quick."""


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


class Journal(Tables):
    """The open journal. Times come from the clock given to `open`."""

    @staticmethod
    def open(path: Path, *, clock: Callable[[], float]) -> Journal:
        """Open or make the journal at `path`. `clock` gives seconds since 1970.

        Raises AsbuiltError: JOURNAL-001 cannot be written or read here, JOURNAL-002 no space,
        JOURNAL-003 made by a newer version.
        """
        connection, fresh, aside = open_store(path, JOURNAL)
        return Journal(path, JOURNAL, connection, clock, rebuilt=fresh, moved_aside=aside)

    def begin_operation(self, verb: str, *, epoch: int, owner: str, plan: object) -> int:
        """Record that an operation starts; the answer is its id. `plan` is JSON values."""
        with self.write() as db:
            for table, column in (("steps", "operation"), ("operations", "id")):
                db.execute(
                    f"DELETE FROM {table} WHERE {column} <= (SELECT max(id) FROM operations) - ?",  # noqa: S608 - two constants
                    (KEPT_OPERATIONS,),
                )
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
        return tuple(Operation(*(*head, _load(plan), _load(error))) for *head, plan, error in found)

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


def _dump(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _load(text: str | None) -> Any:  # noqa: ANN401 - JSON values
    """The JSON values; None where there are none, or where a flipped bit made them unreadable."""
    if text is None:
        return None
    with suppress(ValueError):
        return json.loads(text)
    return None
