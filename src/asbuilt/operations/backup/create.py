"""Takes a backup of everything that an environment stores, or of parts of it, under one id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asbuilt.operations.backup.base import take_base
from asbuilt.operations.backup.cache import take_cache
from asbuilt.operations.backup.notes import choose_own_id
from asbuilt.operations.backup.snapshot import take_snapshot
from asbuilt.operations.progress import Event
from asbuilt.plan.copies import DATABASE
from asbuilt.values.errors import AsbuiltError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from asbuilt.operations.backup.context import Backups
    from asbuilt.plan.basebackup import BaseBackup
    from asbuilt.plan.copies import Copy

_ALL: Final = frozenset({"STORE-001", "STORE-002", "BACKUP-002"})
"""Errors that the next part would have as well."""


def choose_parts(backups: Backups, wanted: Sequence[str]) -> tuple[str, ...]:
    """The parts that are meant, by default all. Raises UsageError BACKUP-013 for one that is not here."""
    there = backups.settings.parts
    for one in wanted:
        if one not in there:
            raise UsageError(
                "BACKUP-013", f"{one} is nothing that is backed up here", hint=f"there are {', '.join(there)}"
            )
    return tuple(one for one in there if not wanted or one in wanted)


def create(backups: Backups, parts: Sequence[str], label: str = "") -> Iterator[BaseBackup | Copy]:
    """Take a backup of each of these parts, and give it as soon as it is taken.

    When one fails the others are taken, and its error is raised at the end.
    """
    one = choose_own_id(backups)
    failed: list[AsbuiltError] = []
    for part in parts:
        try:
            yield _TAKE[part](backups, label, one)
        except AsbuiltError as error:
            if error.code in _ALL:
                raise
            failed.append(error)
            backups.tell(Event("failed", part, f"{error.code} {error.what}"))
    if failed:
        raise failed[0]


_TAKE: Final[dict[str, Callable[[Backups, str, str], BaseBackup | Copy]]] = {
    DATABASE: take_base,
    "cache": take_cache,
    "objects": lambda backups, label, one: take_snapshot(backups, "objects", label, one),
    "files": lambda backups, label, one: take_snapshot(backups, "files", label, one),
}
