"""`asbuilt restore --cache`, `--objects`, `--files`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.cli.confirm import confirm
from asbuilt.cli.output import print_json, say
from asbuilt.values.errors import EXIT_DONE, EXIT_FAILED, UsageError
from asbuilt.values.zone import find_zone

if TYPE_CHECKING:
    from argparse import Namespace

    from asbuilt.cli.talk import Talk
    from asbuilt.operations.backup.context import Backups
    from asbuilt.operations.backup.putting import Brought
    from asbuilt.plan.copies import Copy
    from asbuilt.values.stage import Stage

_ONLY_DATABASE = ("timeline", "table", "suffix", "resume")


def restore_part(arguments: Namespace, stage: Stage, talk: Talk) -> int:
    """Restore one part; by default its newest backup, into a folder of the environment."""
    from asbuilt.operations.backup.archive import read_copies
    from asbuilt.operations.backup.context import open_backups
    from asbuilt.plan.copies import choose_copy
    from asbuilt.plan.target import parse_target, render_time

    for name in _ONLY_DATABASE:
        if getattr(arguments, name):
            raise UsageError("CLI-011", f"--{name} is for the database, not for --{arguments.part}")
    if arguments.path and arguments.part == "cache":
        raise UsageError("CLI-011", "--path is for --objects and --files: a dump of the cache is one file")
    if arguments.into and arguments.in_place:
        raise UsageError("CLI-011", "--into a folder, or --in-place: not both")
    zone = find_zone()
    target = parse_target(arguments.to or "latest", datetime.now(UTC), zone)
    with open_backups(stage, talk, arguments.system) as backups:
        copy = choose_copy(read_copies(backups), arguments.part, target, zone)
        say(f"the {copy.part} as of {render_time(copy.began, zone)}, from the backup {copy.id}")
        if copy.bad and copy.verified is not None:
            say(f"this backup is damaged ({copy.verified.why}): what of it is whole is restored")
        if arguments.dry_run:
            return EXIT_DONE
        if arguments.in_place:
            what = (
                f"this takes the {copy.part} of {stage.environment} back to {render_time(copy.began, zone)}"
            )
            confirm(stage, arguments.confirm, what)
        return _show(arguments, _restore(arguments, backups, copy))


def _restore(arguments: Namespace, backups: Backups, copy: Copy) -> Brought:
    from asbuilt.operations.backup import bring_back, cache_back, restore

    pattern = arguments.path or ""
    if arguments.in_place:
        if copy.part == "cache":
            return cache_back.bring_cache_in_place(backups, copy)
        return bring_back.bring_in_place(backups, copy, pattern)
    if arguments.into:
        folder = Path(arguments.into).absolute()
    else:
        folder = restore.claim_own_folder(backups.stage, copy)
    if copy.part == "cache":
        return cache_back.bring_dump(backups, copy, folder)
    return bring_back.bring_beside(backups, copy, folder, pattern)


def _show(arguments: Namespace, done: Brought) -> int:
    if arguments.json:
        print_json(
            {
                "part": done.copy.part,
                "backup": done.copy.id,
                "where": done.where,
                "written": done.count,
                "bytes": done.size,
                "same": done.same,
                "removed": done.removed,
                "problems": done.problems,
                "before": done.point or None,
                "seconds": round(done.seconds, 3),
            }
        )
        return EXIT_FAILED if done.problems else EXIT_DONE
    rest = f", {done.same:,} were the same, {done.removed:,} removed" if arguments.in_place else ""
    noun = "keys" if done.copy.part == "cache" else done.copy.part
    say(f"{done.count:,} {noun}, {done.size / 1e6:,.1f} MB in {done.seconds:.1f} s{rest}")
    if done.point:
        say(f"what was there is the backup {done.point}")
    print(done.where)
    done.check()
    return EXIT_DONE
