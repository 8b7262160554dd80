"""The releases of an environment, as the journal keeps them.

Invariant: a number is never used twice, not even after its release was removed, and at most one is active.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from asbuilt.record.journal import Journal

_HIGHEST: Final = "releases.highest"


class ReleaseState(StrEnum):
    """Where a release is in its life."""

    BUILT = "built"
    ACTIVE = "active"
    RETIRED = "retired"
    FAILED = "failed"
    """It did not get through."""
    ROLLED_BACK = "rolled-back"
    """It served, and was taken back."""


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """One release.

    Args:
        id: `r1`, `r2`, ...
        number: the number in it.
        artifact: content address of the build.
        created: seconds since 1970 UTC.
        created_by: `user@host`.
        git_commit: commit of the folder, empty when it is not known.
        config_digest: digest of the configuration it was made with.
        detail: more about it, JSON values, without a secret.
        state: where it is in its life.
    """

    id: str
    number: int
    artifact: str
    created: float
    created_by: str
    git_commit: str
    config_digest: str
    detail: Mapping[str, Any]
    state: ReleaseState


class Releases:
    """The typed view. Takes the open journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def create(
        self,
        artifact: str,
        *,
        created_by: str,
        config_digest: str,
        git_commit: str = "",
        detail: Mapping[str, Any] | None = None,
        at_least: int = 1,
    ) -> ReleaseRecord:
        """Record a new release under the next number.

        `at_least` lifts the number above what reality shows (release folders, processes) after the journal
        was rebuilt or rolled back.
        """
        with self._journal.write() as db:
            found = db.execute("SELECT value FROM facts WHERE key = ?", (_HIGHEST,)).fetchone()
            there = db.execute("SELECT max(number) FROM releases").fetchone()[0]
            number = max(int(found[0]) + 1 if found else 1, int(there or 0) + 1, at_least)
            record = ReleaseRecord(
                f"r{number}",
                number,
                artifact,
                self._journal.clock(),
                created_by,
                git_commit,
                config_digest,
                dict(detail or {}),
                ReleaseState.BUILT,
            )
            db.execute(
                "INSERT INTO releases(id, number, artifact, created, created_by, git_commit, config_digest,"
                " detail, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    record.id,
                    number,
                    artifact,
                    record.created,
                    created_by,
                    git_commit,
                    config_digest,
                    json.dumps(record.detail, sort_keys=True),
                    str(record.state),
                ),
            )
            db.execute("INSERT OR REPLACE INTO facts(key, value) VALUES (?, ?)", (_HIGHEST, str(number)))
        return record

    def all(self) -> tuple[ReleaseRecord, ...]:
        """Every release, newest first."""
        return self._read("ORDER BY number DESC")

    def get(self, release: str) -> ReleaseRecord | None:
        """One release by id."""
        found = self._read("WHERE id = ?", release)
        return found[0] if found else None

    def current(self) -> ReleaseRecord | None:
        """The active release."""
        found = self._read("WHERE state = ?", str(ReleaseState.ACTIVE))
        return found[0] if found else None

    def find(self, artifact: str, config_digest: str) -> ReleaseRecord | None:
        """The newest release of the same build and configuration."""
        found = self._read(
            "WHERE artifact = ? AND config_digest = ? ORDER BY number DESC LIMIT 1",
            artifact,
            config_digest,
        )
        return found[0] if found else None

    def mark_active(self, release: str) -> None:
        """Make `release` the active one and retire the one before. Twice is once."""
        with self._journal.write() as db:
            known = db.execute("SELECT 1 FROM releases WHERE id = ?", (release,)).fetchone()
            if known is None:
                raise AsbuiltError(
                    "RELEASE-001",
                    f"there is no release {release}",
                    hint="`asbuilt releases` lists those there are",
                )
            db.execute(
                "UPDATE releases SET state = ? WHERE state = ? AND id != ?",
                (str(ReleaseState.RETIRED), str(ReleaseState.ACTIVE), release),
            )
            db.execute("UPDATE releases SET state = ? WHERE id = ?", (str(ReleaseState.ACTIVE), release))

    def mark(self, release: str, state: ReleaseState) -> None:
        """Set the state of a release; for `ACTIVE` use `mark_active`."""
        if state is ReleaseState.ACTIVE:
            self.mark_active(release)
            return
        with self._journal.write() as db:
            db.execute("UPDATE releases SET state = ? WHERE id = ?", (str(state), release))

    def remove(self, release: str) -> None:
        """Forget a release whose folder is gone."""
        with self._journal.write() as db:
            db.execute("DELETE FROM releases WHERE id = ?", (release,))

    def _read(self, where: str, *values: object) -> tuple[ReleaseRecord, ...]:
        found = self._journal.rows(
            "SELECT id, number, artifact, created, created_by, git_commit, config_digest, detail, state"  # noqa: S608
            f" FROM releases {where}",
            *values,
        )
        return tuple(
            ReleaseRecord(*(*head, json.loads(detail), ReleaseState(state))) for *head, detail, state in found
        )
