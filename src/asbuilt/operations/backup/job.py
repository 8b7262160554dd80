"""What is due of an environment's backups, in a process of its own: its memory is given back when it ends.

`python -m asbuilt.operations.backup.job ACTION FILE NAME ENVIRONMENT HOME [PART ...]`; ACTION is `backup`
(take one of each part, try it, remove old ones) or `scrub` (read back some of what is stored).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.operations.backup.context import open_backups
from asbuilt.operations.backup.create import choose_parts, create
from asbuilt.operations.backup.prune import prune
from asbuilt.operations.backup.scrub import scrub
from asbuilt.operations.backup.verify import SAMPLE, verify_one
from asbuilt.operations.progress import log_line
from asbuilt.plan.copies import name_part
from asbuilt.values.errors import EXIT_DONE, EXIT_FAILED, AsbuiltError
from asbuilt.values.stage import Stage

if TYPE_CHECKING:
    from asbuilt.operations.backup.context import Backups
    from asbuilt.operations.progress import Event
    from asbuilt.plan.basebackup import BaseBackup
    from asbuilt.plan.copies import Copy


def main(words: list[str]) -> int:
    """Do it; the log says what came of it."""
    action, file, name, environment, home, *parts = words
    try:
        with open_backups(Stage(Path(file), name, environment, Path(home)), _tell) as backups:
            return _backup(backups, parts) if action == "backup" else _scrub(backups)
    except (AsbuiltError, OSError) as error:
        log_line(f"{action} failed: {_render(error)}")
        return error.exit_status if isinstance(error, AsbuiltError) else EXIT_FAILED


def _backup(backups: Backups, parts: list[str]) -> int:
    """What is wrong with one part keeps no other from being taken, and no old one from being removed."""
    database = backups.prepared.architecture.spec.database
    tries = database is not None and database.backup is not None and database.backup.verify
    failed: list[AsbuiltError] = []
    try:
        for backup in create(backups, choose_parts(backups, parts)):
            log_line(
                f"took the backup {backup.id} of {name_part(backup)}: {backup.size / 1e6:,.1f} MB stored"
            )
            if tries:
                failed += _try(backups, backup)
    except AsbuiltError as error:
        failed.append(error)
    pruned = prune(backups)
    if pruned.objects:
        log_line(f"removed {len(pruned.backups)} old backups, {pruned.objects} objects in all")
    if pruned.locked:
        log_line(f"the store keeps {pruned.locked} objects that may go: they are locked")
    for one in failed[1:]:
        log_line(f"failed: {_render(one)}")
    if failed:
        raise failed[0]
    return EXIT_DONE


def _try(backups: Backups, backup: BaseBackup | Copy) -> list[AsbuiltError]:
    try:
        tried = verify_one(backups, backup, SAMPLE)
    except AsbuiltError as error:
        return [error]
    if tried.verified is not None:
        log_line(f"tried the backup {tried.id} of {name_part(tried)}: {tried.verified.why}")
    return []


def _scrub(backups: Backups) -> int:
    found = scrub(backups)
    log_line(f"read back {found.objects} objects, {found.size / 1e6:,.1f} MB")
    for key in found.damaged:
        log_line(f"DAMAGED: {key} is not what was stored")
    return EXIT_FAILED if found.damaged else EXIT_DONE


def _render(error: AsbuiltError | OSError) -> str:
    return (
        f"{error.code} {'; '.join((error.what, *error.evidence))}"
        if isinstance(error, AsbuiltError)
        else str(error)
    )


def _tell(event: Event) -> None:
    if event.kind in {"note", "failed"}:
        log_line(f"{event.subject}: {event.text}".removeprefix(": "))


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
