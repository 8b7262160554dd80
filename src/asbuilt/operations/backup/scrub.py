"""Reads back what is stored, a part at a time, so that within a week every byte was seen to be what was put.

A store can lose or change an object and never say so. Invariant: what is found damaged is said at once, and
a backup that needs it is no longer called good.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from asbuilt.exec.store import DIFFERENT, MISSING
from asbuilt.operations.backup.archive import read_backups, read_copies
from asbuilt.operations.backup.base import remember_backup
from asbuilt.operations.backup.manifests import open_manifest
from asbuilt.operations.backup.notes import BASE
from asbuilt.operations.backup.snapshot import remember_copy
from asbuilt.operations.backup.state import WITHIN
from asbuilt.plan.basebackup import Verification
from asbuilt.plan.manifest import BLOBS, render_blob_key
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from asbuilt.operations.backup.context import Backups
    from asbuilt.plan.copies import Copy
    from asbuilt.record.catalogue import StoredObject

_BATCH: Final = 20_000


class Scrubbed(NamedTuple):
    """How much was read back, and the keys of what is damaged or gone."""

    objects: int
    size: int
    damaged: tuple[str, ...]


def scrub(backups: Backups, *, seconds: float = 300.0) -> Scrubbed:
    """Read back what is due, the oldest first, for at most so many seconds."""
    due = backups.catalogue.due(time.time() - WITHIN, limit=_BATCH)
    if not due:
        return Scrubbed(0, 0, ())
    run = backups.catalogue.begin_run("scrub")
    until = time.monotonic() + seconds
    damaged: list[str] = []
    objects = size = 0
    for one in due:
        if time.monotonic() > until:
            break
        try:
            digest = _read(backups, one)
        except AsbuiltError as error:
            if error.code not in {DIFFERENT, MISSING}:
                backups.catalogue.finish_run(run, "failed", {"why": error.what})
                raise
            damaged.append(one.key)
            continue
        backups.catalogue.remember_checks([(one.key, digest)])
        objects, size = objects + 1, size + one.size
    _tell_backups(backups, damaged)
    said = {"objects": objects, "bytes": size, "damaged": damaged}
    backups.catalogue.finish_run(run, "failed" if damaged else "done", said)
    return Scrubbed(objects, size, tuple(damaged))


def _read(backups: Backups, one: StoredObject) -> str:
    found = backups.store.digest(one.key)
    if found.size != one.size or (one.sha256 is not None and found.sha256 != one.sha256):
        raise AsbuiltError(DIFFERENT, f"{one.key} is not what was stored", where=backups.store.where)
    return found.sha256


def _tell_backups(backups: Backups, damaged: list[str]) -> None:
    """A backup that needs one of these is no longer good. A piece is stored again by the next that has it."""
    if not damaged:
        return
    ids = {tuple(key.split("/")[:2]) for key in damaged}
    pieces = {key for key in damaged if key.startswith(BLOBS)}
    backups.catalogue.forget(pieces)
    for backup in read_backups(backups):
        if (BASE, backup.id) in ids:
            remember_backup(backups, replace(backup, verified=_judge("its object is damaged")))
    for copy in read_copies(backups):
        if (copy.part, copy.id) in ids:
            remember_copy(backups, replace(copy, verified=_judge("its object is damaged")))
        elif copy.part != "cache" and pieces and not copy.bad and _needs(backups, copy, pieces):
            remember_copy(backups, replace(copy, verified=_judge("pieces of it are damaged")))


def _judge(why: str) -> Verification:
    return Verification(datetime.now(UTC), good=False, seconds=0.0, why=why)


def _needs(backups: Backups, copy: Copy, pieces: set[str]) -> bool:
    with suppress(AsbuiltError), open_manifest(backups, copy) as (_, entries):
        return any(render_blob_key(name) in pieces for entry in entries for name in entry.blobs)
    return False
