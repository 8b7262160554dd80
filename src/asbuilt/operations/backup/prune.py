"""Removes what the spec's retention does not ask for any more.

Invariants: what is to go is forgotten first, backups before what they need, so that nobody relies on what may
be gone. What the store does not let go (it is locked, or our key may not) stays known, and is no error.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from asbuilt.exec.store import REFUSED
from asbuilt.operations.backup.archive import read_archive, read_copies
from asbuilt.operations.backup.context import Backups, fail, hold
from asbuilt.operations.backup.manifests import open_manifest
from asbuilt.operations.backup.notes import BASE, DESCRIPTION, FOLDERS, UNSWEPT, running
from asbuilt.operations.progress import Event
from asbuilt.plan.copies import DATABASE, PARTS
from asbuilt.plan.keeping import Policy, decide_copies
from asbuilt.plan.manifest import BLOBS, render_blob_key
from asbuilt.plan.retention import Prune, decide_prune
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from asbuilt.plan.copies import Copy, Part
    from asbuilt.record.catalogue import StoredObject


@dataclass(frozen=True, slots=True)
class Pruned:
    """What goes.

    Args:
        backups: what and when, as `database 20261126T063100Z`.
        objects: how many objects of the store.
        locked: how many of them the store keeps.
        why: by backup, why it may go.
        kept: by backup, why it stays.
    """

    backups: tuple[str, ...]
    objects: int
    locked: int
    why: Mapping[str, str]
    kept: Mapping[str, str]


def prune(backups: Backups, *, dry: bool = False) -> Pruned:
    """Remove it; with `dry` only say what would go. Raises RefusedError BACKUP-002 beside another backup."""
    with hold(backups, "removing old backups"):  # so no backup is under way
        database = backups.prepared.architecture.spec.database
        backup = database.backup if database else None
        if backup is None:
            return Pruned((), 0, 0, {}, {})
        if backups.catalogue.incomplete:
            raise fail("BACKUP-012", "it is not known yet what is in the store", hint="try again in a minute")
        policy, now = Policy(backup.retention, backup.long_term), datetime.now(UTC)
        decided = decide_prune(read_archive(backups), policy, now)
        copies = read_copies(backups)
        kept = {
            part: decide_copies((one for one in copies if one.part == part), policy, now) for part in PARTS
        }
        gone = [one for one in copies if one.id not in kept[one.part]]
        remover = _Remover(backups, dry=dry)
        with ExitStack() as stack:
            said = {} if dry else stack.enter_context(running(backups, "prune"))
            for one in decided.backups:
                remover.remove_backup(BASE, one)
            for copy in gone:
                remover.remove_backup(copy.part, copy.id)
            remover.remove(_find_leftovers(backups))
            remover.remove(found for key in decided.wal if (found := backups.catalogue.find(key)))
            _sweep(backups, remover, [one for one in copies if one.id in kept[one.part]], swept=not gone)
            pruned = _describe(decided, kept, gone, remover)
            said.update(backups=list(pruned.backups), objects=pruned.objects, locked=pruned.locked)
    return pruned


def _describe(
    decided: Prune, kept: Mapping[Part, Mapping[str, str]], gone: list[Copy], remover: _Remover
) -> Pruned:
    old = "nothing that is promised needs it"
    why = {f"{DATABASE} {one}": decided.why[one] for one in decided.backups}
    why |= {f"{one.part} {one.id}": old for one in gone}
    stays = {f"{DATABASE} {one}": text for one, text in decided.kept.items()}
    stays |= {f"{part} {one}": text for part, found in kept.items() for one, text in found.items()}
    return Pruned(tuple(why), remover.objects, remover.locked, why, stays)


@dataclass
class _Remover:
    """Removes objects, and counts them. `dry`: only counts."""

    backups: Backups
    dry: bool
    objects: int = 0
    locked: int = 0

    def remove_backup(self, folder: str, one: str) -> None:
        """What belongs to a backup; what says that it counts goes first, and while that stays, all does."""
        catalogue = self.backups.catalogue
        text = catalogue.backups(folder)[one]
        found = catalogue.stored(f"{folder}/{one}/")
        if not self.dry:
            catalogue.forget_backup(folder, one)
        if self.remove(stored for stored in found if stored.key.endswith(DESCRIPTION)):
            catalogue.remember_backup(folder, one, text)
        else:
            self.remove(stored for stored in found if not stored.key.endswith(DESCRIPTION))

    def remove(self, found: Iterable[StoredObject]) -> int:
        """Objects of the store. How many of them it does not let go."""
        objects = list(found)
        self.objects += len(objects)
        if self.dry or not objects:
            return 0
        catalogue, store = self.backups.catalogue, self.backups.store
        catalogue.forget(one.key for one in objects)
        try:
            store.delete(one.key for one in objects)
        except AsbuiltError as error:
            if error.code != REFUSED:
                raise
        else:
            return 0
        locked = [one for one in objects if self._stays(one.key)]
        catalogue.remember(locked)
        self.locked += len(locked)
        return len(locked)

    def _stays(self, key: str) -> bool:
        try:
            self.backups.store.delete([key])
        except AsbuiltError as error:
            if error.code != REFUSED:
                raise
            return True
        return False


def _find_leftovers(backups: Backups) -> Iterator[StoredObject]:
    """What belongs to no backup, because one was interrupted, or its removal."""
    for folder in FOLDERS:
        found = backups.catalogue.stored(f"{folder}/")
        whole = backups.catalogue.backups(folder)
        yield from (one for one in found if one.key.split("/")[1] not in whole)


def _sweep(backups: Backups, remover: _Remover, kept: list[Copy], *, swept: bool) -> None:
    """The pieces that no copy needs any more. One that was stored since the last copy may be for the next.

    `swept`: no copy went, so that there is nothing to do unless something was left to be done.
    """
    catalogue = backups.catalogue
    if swept and catalogue.fact(UNSWEPT) is None:
        return
    if not remover.dry:
        catalogue.remember_facts({UNSWEPT: "yes"})
        kept = list(read_copies(backups))  # also those whose descriptions the store does not let go
    copies = [one for one in kept if one.part != "cache"]
    if not copies:
        return
    newest = {one.part: one.began.timestamp() for one in sorted(copies, key=lambda one: one.began)}
    # of a part that is left out by now there is no next one
    edge = min((at for part, at in newest.items() if part in backups.settings.parts), default=time.time())
    try:
        found = catalogue.unneeded(BLOBS, _find_needed(backups, copies))
    except AsbuiltError as error:
        backups.tell(Event("note", "", f"old pieces stay, for a manifest cannot be read: {error.what}"))
        return
    old = [one for one in found if one.at < edge]
    locked = remover.remove(old)
    if not remover.dry and not locked and len(old) == len(found):
        catalogue.forget_fact(UNSWEPT)


def _find_needed(backups: Backups, copies: Iterable[Copy]) -> Iterator[str]:
    for copy in copies:
        with open_manifest(backups, copy) as (_, entries):
            for entry in entries:
                yield from map(render_blob_key, entry.blobs)
