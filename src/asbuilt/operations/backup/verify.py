"""Tries a backup: a backup counts when it was restored and what had to be in it was found."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from asbuilt.operations.backup.archive import read_archive, read_backups
from asbuilt.operations.backup.base import remember_backup
from asbuilt.operations.backup.context import Backups, fail, hold
from asbuilt.operations.backup.sidecar import SideCar
from asbuilt.plan.basebackup import BaseBackup, Verification
from asbuilt.plan.choice import choose
from asbuilt.plan.target import LsnTarget
from asbuilt.plan.wal import Lsn
from asbuilt.values.errors import AsbuiltError, UsageError

if TYPE_CHECKING:
    from asbuilt.plan.archive import Archive

UNTRIED: Final = frozenset({"STORE-001", "BACKUP-002", "EXEC-001"})
"""Errors that say nothing about the backup."""


def verify(backups: Backups, name: str = "") -> BaseBackup:
    """Restore one (by default the newest) and check it; the result is written down, whatever it is.

    Raises AsbuiltError BACKUP-006 when it is no good, RESTORE-007 when there is no such backup.
    """
    found = [one for one in read_backups(backups) if not name or name in {one.id, one.label}]
    if not found:
        raise UsageError("RESTORE-007", f"there is no backup {name}".rstrip(), hint="asbuilt backup list")
    backup = found[-1]
    with hold(backups, f"verifying the backup {backup.id}"):
        run = backups.catalogue.begin_run("verify")
        began = time.monotonic()
        try:
            why = _try(backups, backup)
        except AsbuiltError as error:
            backups.catalogue.finish_run(run, "failed", {"id": backup.id, "why": error.what})
            if error.code in UNTRIED:
                raise
            _note(backups, backup, began, good=False, why=f"{error.code} {error.what}")
            raise fail(
                "BACKUP-006",
                f"the backup {backup.id} is no good: {error.what}",
                evidence=error.evidence,
                hint=_name_last_good(backups),
            ) from None
        except BaseException:
            backups.catalogue.finish_run(run, "interrupted", {"id": backup.id})
            raise
        backups.catalogue.finish_run(run, "done", {"id": backup.id, "why": why})
        return _note(backups, backup, began, good=True, why=why)


def _note(backups: Backups, backup: BaseBackup, began: float, *, good: bool, why: str) -> BaseBackup:
    seconds = round(time.monotonic() - began, 3)
    tried = replace(backup, verified=Verification(datetime.now(UTC), good, seconds, why))
    remember_backup(backups, tried)
    return tried


def _name_last_good(backups: Backups) -> str:
    good = [one for one in read_backups(backups) if one.good]
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
