"""What is due of an environment's backups, in a process of its own: its memory is given back when it ends.

`python -m asbuilt.operations.backup.job ACTION FILE NAME ENVIRONMENT HOME`; ACTION is `backup` (take one, try
it, remove old ones) or `scrub` (read back a part of what is stored).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.operations.backup.base import take_base
from asbuilt.operations.backup.context import open_backups
from asbuilt.operations.backup.prune import prune
from asbuilt.operations.backup.scrub import scrub
from asbuilt.operations.backup.verify import verify
from asbuilt.operations.progress import log_line
from asbuilt.values.errors import EXIT_DONE, EXIT_FAILED, AsbuiltError
from asbuilt.values.stage import Stage

if TYPE_CHECKING:
    from asbuilt.operations.backup.context import Backups
    from asbuilt.operations.progress import Event


def main(words: list[str]) -> int:
    """Do it; the log says what came of it."""
    action, file, name, environment, home = words
    try:
        with open_backups(Stage(Path(file), name, environment, Path(home)), _tell) as backups:
            return _backup(backups) if action == "backup" else _scrub(backups)
    except AsbuiltError as error:
        log_line(f"{action} failed: {error.code} {'; '.join((error.what, *error.evidence))}")
        return error.exit_status


def _backup(backups: Backups) -> int:
    backup = take_base(backups)
    log_line(f"took the backup {backup.id}: {backup.size / 1e6:,.1f} MB stored")
    database = backups.prepared.architecture.spec.database
    if database is not None and database.backup is not None and database.backup.verify:
        tried = verify(backups, backup.id)
        if tried.verified is not None:
            log_line(f"tried the backup {backup.id}: {tried.verified.why}")
    pruned, _ = prune(backups)
    if pruned.objects:
        log_line(f"removed {len(pruned.backups)} old backups, {pruned.objects} objects in all")
    return EXIT_DONE


def _scrub(backups: Backups) -> int:
    found = scrub(backups)
    log_line(f"read back {found.objects} objects, {found.size / 1e6:,.1f} MB")
    for key in found.damaged:
        log_line(f"DAMAGED: {key} is not what was stored")
    return EXIT_FAILED if found.damaged else EXIT_DONE


def _tell(event: Event) -> None:
    if event.kind in {"note", "failed"}:
        log_line(event.text)


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
