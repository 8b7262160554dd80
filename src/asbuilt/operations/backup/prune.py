"""Removes what the spec's retention does not ask for any more.

Invariant: what is to go is forgotten first, backups before log, so that nobody relies on what may be gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from asbuilt.operations.backup.archive import read_archive
from asbuilt.operations.backup.context import Backups, hold
from asbuilt.plan.retention import Policy, Prune, decide_prune

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went."""

    backups: tuple[str, ...]
    objects: int


def prune(backups: Backups, *, dry: bool = False) -> tuple[Pruned, Prune]:
    """Remove it; with `dry` only say what would go. Raises RefusedError BACKUP-002 beside another backup."""
    with hold(backups, "removing old backups"):  # so no backup is under way
        database = backups.prepared.architecture.spec.database
        backup = database.backup if database else None
        if backup is None:
            return Pruned((), 0), Prune((), (), {}, {})
        archive = read_archive(backups)
        policy = Policy(backup.retention, backup.long_term)
        decided = decide_prune(archive, policy, datetime.now(UTC))
        keys = [key for one in decided.backups for key in _keys(backups, one)]
        if not dry and (keys or decided.wal):
            run = backups.catalogue.begin_run("prune")
            for one in decided.backups:
                backups.catalogue.forget_base(one)
            _remove(backups, keys)
            _remove(backups, decided.wal)
            said = {"backups": list(decided.backups), "objects": len(keys) + len(decided.wal)}
            backups.catalogue.finish_run(run, "done", said)
        return Pruned(decided.backups, len(keys) + len(decided.wal)), decided


def _keys(backups: Backups, one: str) -> list[str]:
    """What belongs to a backup; what says that it counts goes first."""
    found = [stored.key for stored in backups.catalogue.stored(f"base/{one}/")]
    return sorted(found, key=lambda key: not key.endswith(".json"))


def _remove(backups: Backups, keys: Iterable[str]) -> None:
    listed = list(keys)
    if listed:
        backups.catalogue.forget(listed)
        backups.store.delete(listed)
