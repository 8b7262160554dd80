"""Tries a backup: it counts when it was restored and what had to be in it was found.

Of a copy of files or objects every piece that its manifest names has to be there, and what was read back of
them (all, or a part that is chosen at random) to be what its name says.
"""

from __future__ import annotations

import random
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from asbuilt.operations.backup.archive import read_archive, read_backups, read_copies
from asbuilt.operations.backup.base import remember_backup
from asbuilt.operations.backup.blobs import open_blobs
from asbuilt.operations.backup.cache import try_cache
from asbuilt.operations.backup.context import Backups, fail, hold
from asbuilt.operations.backup.manifests import open_manifest
from asbuilt.operations.backup.notes import running
from asbuilt.operations.backup.parts import run_ahead
from asbuilt.operations.backup.sidecar import SideCar
from asbuilt.operations.backup.snapshot import remember_copy
from asbuilt.operations.backup.taking_in import list_store
from asbuilt.operations.progress import ticking
from asbuilt.plan.basebackup import BaseBackup, Verification
from asbuilt.plan.choice import choose
from asbuilt.plan.copies import Copy, name_part
from asbuilt.plan.manifest import BLOBS, render_blob_key
from asbuilt.plan.target import LsnTarget
from asbuilt.plan.wal import Lsn
from asbuilt.values.errors import AsbuiltError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from asbuilt.plan.archive import Archive
    from asbuilt.plan.manifest import Entry, Header

UNTRIED: Final = frozenset({"STORE-001", "BACKUP-002", "EXEC-001"})
"""Errors that say nothing about the backup."""
SAMPLE: Final = 10**9
"""Bytes of content that the check after each backup reads back."""
B = TypeVar("B", BaseBackup, Copy)


def verify_each(backups: Backups, name: str = "", parts: Sequence[str] = ()) -> Iterator[BaseBackup | Copy]:
    """Try those of an id or a label, by default the newest of each part; or of some parts alone.

    When one is no good the others are tried, and its error is raised at the end. Raises UsageError
    RESTORE-007 when there is none, AsbuiltError BACKUP-006.
    """
    failed: list[AsbuiltError] = []
    for one in _find(backups, name, parts):
        try:
            yield verify_one(backups, one)
        except AsbuiltError as error:
            if error.code in UNTRIED:
                raise
            failed.append(error)
    if failed:
        evidence = tuple(f"{one.code} {one.what}" for one in failed[1:])
        first = failed[0]
        raise AsbuiltError(first.code, first.what, evidence=(*first.evidence, *evidence), hint=first.hint)


def _find(backups: Backups, name: str, parts: Sequence[str]) -> list[BaseBackup | Copy]:
    known: list[BaseBackup | Copy] = [*read_backups(backups), *read_copies(backups)]
    newest = {name_part(one): one for one in known if not name or name in {one.id, one.label}}
    found = [one for part, one in newest.items() if not parts or part in parts]
    if not found:
        raise UsageError("RESTORE-007", f"there is no backup {name}".rstrip(), hint="asbuilt backup list")
    return found


def verify_one(backups: Backups, one: BaseBackup | Copy, sample: int = 0) -> BaseBackup | Copy:
    """Try one of any part. `sample`: bytes of the content of a copy to read back; 0 for all."""
    return verify_copy(backups, one, sample) if isinstance(one, Copy) else verify(backups, one)


def verify(backups: Backups, backup: BaseBackup) -> BaseBackup:
    """Restore one and check it; the result is written down, whatever it is.

    Raises AsbuiltError BACKUP-006 when it is no good.
    """
    return _judge(
        backups,
        backup,
        partial(_try, backups, backup),
        partial(remember_backup, backups),
        lambda: read_backups(backups),
    )


def verify_copy(backups: Backups, copy: Copy, sample: int = 0) -> Copy:
    """The same for a copy. `sample`: bytes of content to read back; 0 for all."""
    attempt = (
        partial(try_cache, backups, copy)
        if copy.part == "cache"
        else partial(_try_pieces, backups, copy, sample)
    )
    return _judge(
        backups,
        copy,
        attempt,
        partial(remember_copy, backups),
        lambda: tuple(one for one in read_copies(backups) if one.part == copy.part),
    )


def _judge(
    backups: Backups,
    backup: B,
    attempt: Callable[[], str],
    remember: Callable[[B], None],
    others: Callable[[], tuple[B, ...]],
) -> B:
    with hold(backups, f"verifying the backup {backup.id}"), running(backups, "verify") as said:
        said.update(id=backup.id, part=name_part(backup))
        began = time.monotonic()

        def note(*, good: bool, why: str) -> B:
            seconds = round(time.monotonic() - began, 3)
            tried = replace(backup, verified=Verification(datetime.now(UTC), good, seconds, why))
            remember(tried)
            return tried

        try:
            why = attempt()
        except AsbuiltError as error:
            if error.code in UNTRIED:
                raise
            note(good=False, why=f"{error.code} {error.what}")
            raise fail(
                "BACKUP-006",
                f"the backup {backup.id} is no good: {error.what}",
                evidence=error.evidence,
                hint=_name_last_good(others()),
            ) from None
        said.update(why=why)
        return note(good=True, why=why)


def _name_last_good(backups: tuple[B, ...]) -> str:
    good = [one for one in backups if one.good]
    return f"the last good one is {good[-1].id}" if good else "no other backup is known to be good: take one"


def _try(backups: Backups, backup: BaseBackup) -> str:
    site = backups.prepared.site
    folder = site.root / "verify"
    sidecar = SideCar(backups, folder, site.addresses["backup-1"], durable=False)
    try:
        sidecar.fetch(backup)
        sidecar.verify_files()
        one, _, lsn = backup.mark.partition("@")
        archive = _only(read_archive(backups), backup)
        end = sidecar.replay(choose(LsnTarget(Lsn.parse(lsn)), archive), archive)
        with sidecar.running(), sidecar.connect("postgres") as connection:
            row = connection.execute("SELECT at FROM asbuilt.backup_marks WHERE id = %s", (one,)).fetchone()
            databases = connection.execute("SELECT count(*) FROM pg_database WHERE datallowconn").fetchone()
        if row is None:
            raise fail(
                "BACKUP-007", f"the row {one}, committed after the backup, is not in what was restored"
            )
        sidecar.verify_pages()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    legs = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in sidecar.legs.items())
    return (
        f"restored to {end} with its last transaction, {databases[0] if databases else 0} databases: {legs}"
    )


def _only(archive: Archive, backup: BaseBackup) -> Archive:
    """The archive as if there were no other backup."""
    return replace(archive, backups=(replace(backup, verified=None),))


def _try_pieces(backups: Backups, copy: Copy, sample: int) -> str:
    """Whether every piece is there, by a listing of the store, and some or all are what their names say."""
    backups.catalogue.reconcile(list_store(backups.store, BLOBS), BLOBS)
    share = min(1.0, sample / max(copy.clear_size, 1)) if sample else 1.0
    pieces = read = 0

    def words() -> str:
        return f"{pieces:,} pieces are there, {read / 1e6:,.0f} MB read back"

    wrong: list[str] = []
    with ticking(backups.tell, copy.part, words), open_manifest(backups, copy) as (header, entries):
        for entry, problem, size in run_ahead(_find_trials(backups, header, entries, share)):
            pieces, read = pieces + len(entry.blobs), read + size
            if problem:
                wrong.append(f"{entry.path}: {problem}")
    if wrong:
        raise fail("BACKUP-007", f"{len(wrong)} of its {copy.part} are not whole", evidence=tuple(wrong[:20]))
    return words()


def _find_trials(
    backups: Backups, header: Header, entries: Iterator[Entry], share: float
) -> Iterator[Callable[[], tuple[Entry, str, int]]]:
    for entry in entries:
        chosen = share >= 1.0 or random.random() < share  # noqa: S311 - no secret
        yield partial(_try_entry, backups, header, entry, chosen=chosen)


def _try_entry(backups: Backups, header: Header, entry: Entry, *, chosen: bool) -> tuple[Entry, str, int]:
    """The entry, what is wrong with it, and the bytes that were read back."""
    gone = [one for one in entry.blobs if backups.catalogue.find(render_blob_key(one)) is None]
    if gone:
        return entry, f"{len(gone)} of its pieces are not in the store", 0
    if not chosen or not entry.blobs:
        return entry, "", 0
    try:
        key = bytes.fromhex(header.key)
        size = sum(map(len, open_blobs(backups.store, entry.blobs, key, backups.identities)))
    except AsbuiltError as error:
        if error.code in UNTRIED:
            raise
        return entry, f"{error.code} {error.what}", 0
    return entry, "" if size == entry.size else f"{size} bytes instead of {entry.size}", size
