"""`asbuilt backup` and `restore`: taking, listing and trying backups; the database as it was."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from asbuilt.cli.confirm import confirm
from asbuilt.cli.output import print_json, render_table, say
from asbuilt.cli.talk import Talk
from asbuilt.context import choose_stage, find_spec, split_environment
from asbuilt.values.errors import EXIT_DONE, UsageError
from asbuilt.values.zone import find_zone

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator
    from datetime import tzinfo

    from asbuilt.operations.backup.context import Backups
    from asbuilt.operations.backup.restore import Restored
    from asbuilt.plan.basebackup import BaseBackup
    from asbuilt.plan.copies import Copy
    from asbuilt.values.stage import Stage

ACTIONS: Final = ("create", "list", "verify", "prune", "key")
COUNTED: Final = {"cache": "keys", "objects": "objects", "files": "files"}
"""What a backup of each part counts."""


def run(arguments: Namespace) -> int:
    """Dispatch the verbs."""
    return _restore(arguments) if arguments.verb == "restore" else _backup(arguments)


def _backup(arguments: Namespace) -> int:
    file = find_spec(arguments.file)
    environment, words = split_environment(file, arguments.words)
    action, *names = words or ["list"]
    if action not in ACTIONS or len(names) > (action == "verify"):
        raise UsageError(
            "CLI-008",
            f"backup does not understand {' '.join(words)}",
            hint=f"asbuilt backup [ENV] {'|'.join(ACTIONS)}; verify takes the id of a backup",
        )
    stage = choose_stage(file, environment)
    from asbuilt.operations.backup.context import open_backups

    with open_backups(stage, Talk(quiet=arguments.json), arguments.system) as backups:
        if action == "create":
            return _create(arguments, backups)
        if action == "verify":
            return _verify(arguments, backups, names[0] if names else "")
        if action == "prune":
            return _prune(arguments, backups)
        if action == "key":
            return _key(arguments, backups)
        return _list(arguments, backups)


def _create(arguments: Namespace, backups: Backups) -> int:
    from asbuilt.operations.backup.create import choose_parts, create

    parts = choose_parts(backups, arguments.only or ())
    return _show_each(arguments, create(backups, parts, arguments.label or ""), _render_taken)


def _verify(arguments: Namespace, backups: Backups, name: str) -> int:
    from asbuilt.operations.backup.verify import verify_each

    return _show_each(arguments, verify_each(backups, name, arguments.only or ()), _render_tried)


def _show_each(
    arguments: Namespace,
    found: Iterator[BaseBackup | Copy],
    render: Callable[[dict[str, Any]], str],
) -> int:
    """Each as soon as it is there. `backup` of the JSON is that of the database, where there is one."""
    from asbuilt.operations.backup.listing import describe

    rows = []
    for row in map(describe, found):
        rows.append(row)
        if not arguments.json:
            print(render(row), flush=True)
    if arguments.json:
        print_json({"backup": rows[0] if rows else None, "backups": rows})
    return EXIT_DONE


def _render_taken(row: dict[str, Any]) -> str:
    holds = f", {row['count']:,} {COUNTED[row['part']]}" if "count" in row else ""
    missing = f", INCOMPLETE: {row['problems']} are missing or not whole" if row.get("problems") else ""
    size = f"{_bytes(row['size'])} stored of {_bytes(row['clear_size'])}"
    return f"{row['id']}  {row['part']}: {size}{holds}{missing}"


def _render_tried(row: dict[str, Any]) -> str:
    return f"{row['id']}  {row['part']}: good: {row['verified']['why']}"


def _prune(arguments: Namespace, backups: Backups) -> int:
    from asbuilt.operations.backup.prune import prune

    pruned = prune(backups, dry=arguments.dry_run)
    if arguments.json:
        print_json(
            {
                "backups": list(pruned.backups),
                "objects": pruned.objects,
                "locked": pruned.locked,
                "why": dict(pruned.why),
                "kept": dict(pruned.kept),
                "dry_run": arguments.dry_run,
            }
        )
        return EXIT_DONE
    for one in pruned.backups:
        print(f"{one}  {pruned.why[one]}")
    for one, why in pruned.kept.items():
        say(f"{one} stays: {why}")
    words = "would go" if arguments.dry_run else "are gone"
    say(f"{len(pruned.backups)} backups and {pruned.objects - pruned.locked} objects {words}")
    if pruned.locked:
        say(f"{pruned.locked} objects stay: the store does not let them go (locked, or no right to delete)")
    return EXIT_DONE


def _key(arguments: Namespace, backups: Backups) -> int:
    (identity,) = backups.identities
    if arguments.json:
        print_json({"identity": identity.reveal(), "recipients": list(backups.sealer.recipients)})
        return EXIT_DONE
    say("keep this line where this machine's loss cannot reach it: it opens every backup of this environment")
    print(identity.reveal())
    return EXIT_DONE


def _list(arguments: Namespace, backups: Backups) -> int:
    from asbuilt.operations.backup.listing import read_listing

    found = read_listing(backups)
    if arguments.json:
        print_json(found)
        return EXIT_DONE
    rows = [*found["backups"], *found["copies"]]
    if rows:
        print(render_list(sorted(rows, key=lambda row: str(row["id"]), reverse=True)))
    else:
        say(f"no backup yet; asbuilt backup {backups.stage.environment} create takes one")
    for line in render_reach(found, find_zone()):
        say(line)
    return EXIT_DONE


def render_list(rows: list[dict[str, Any]]) -> str:
    """One line for each backup."""
    head = ("BACKUP", "PART", "TAKEN", "STORED", "OF", "HOLDS", "VERIFIED", "LABEL")
    lines = []
    for row in rows:
        tried = row["verified"]
        holds = f"{row['count']:,} {COUNTED[row['part']]}" if "count" in row else "-"
        if row.get("problems"):
            holds += f", {row['problems']} missing"
        verdict = "not yet" if tried is None else f"{'good' if tried['good'] else 'BAD'} {tried['at']}"
        lines.append(
            (
                row["id"],
                row["part"],
                row["ended"],
                _bytes(row["size"]),
                _bytes(row["clear_size"]),
                holds,
                verdict,
                row["label"] or "-",
            )
        )
    return render_table(head, lines)


def render_reach(found: dict[str, Any], zone: tzinfo) -> list[str]:
    """What can be restored, and how far the archive is; times in UTC and in the zone of this machine."""
    lines = []
    for window in found["windows"]:
        if window["abandoned"]:
            lines.append(
                f"only with --timeline {window['timeline']}: {_both(window['from'], zone)} to "
                f"{_both(window['to'], zone)}"
            )
        else:
            lines.append(f"any moment from {_both(window['from'], zone)} to {_both(window['to'], zone)}")
    archive = found["archive"]
    if archive is None:
        lines.append("nothing is archived yet")
    else:
        behind = archive["seconds_behind"]
        lines.append(
            f"archived up to {archive['stored_to'] or 'nothing'}"
            + (f", {behind:g} s ago" if behind is not None else "")
            + (f"; PROBLEM: {archive['problem']}" if archive["problem"] else "")
        )
    others = ", ".join(found["other_systems"])
    if others:
        lines.append(f"the store has backups of other databases of this environment, too: --system {others}")
    return [*lines, f"in {found['store']}"]


def _both(text: str, zone: tzinfo) -> str:
    from asbuilt.plan.target import render_time

    return render_time(datetime.fromisoformat(text), zone)


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.{1 + (unit == 'GB')}f} {unit}"
    return f"{count / 1e3:,.1f} kB"


def _restore(arguments: Namespace) -> int:
    stage = choose_stage(find_spec(arguments.file), arguments.environment)
    talk = Talk(quiet=arguments.json)
    if arguments.drop:
        return _drop(arguments, stage, talk)
    if arguments.part:
        from asbuilt.cli.restore_parts import restore_part

        return restore_part(arguments, stage, talk)
    if arguments.into or arguments.path:
        raise UsageError("CLI-011", "--into and --path are for --cache, --objects and --files")
    return _restore_database(arguments, stage, talk)


def _restore_database(arguments: Namespace, stage: Stage, talk: Talk) -> int:
    from asbuilt.operations.backup import in_place, restore, tables
    from asbuilt.operations.backup.context import open_backups
    from asbuilt.plan.target import parse_target

    zone = find_zone()
    with open_backups(stage, talk, arguments.system) as backups:
        if arguments.resume:
            return _print(arguments, stage, in_place.resume(backups))
        if arguments.to is None:
            return _list(arguments, backups)
        target = parse_target(arguments.to, datetime.now(UTC), zone)
        choice = restore.plan_restore(backups, target, arguments.timeline, zone)
        if arguments.dry_run:
            return EXIT_DONE
        if arguments.in_place:
            what = f"this takes the database of {stage.environment} back to {choice.target}"
            confirm(stage, arguments.confirm, what)
            return _print(arguments, stage, in_place.restore_in_place(backups, choice))
        done = restore.restore_beside(backups, choice)
        copied: tuple[str, ...] = ()
        if arguments.table:
            copied = tables.copy_tables(backups, tuple(arguments.table), arguments.suffix or "")
        return _print(arguments, stage, done, copied)


def _drop(arguments: Namespace, stage: Stage, talk: Talk) -> int:
    from asbuilt.operations.backup.restore import drop_sidecar

    dropped = drop_sidecar(stage, talk)
    if arguments.json:
        print_json({"dropped": dropped})
    else:
        say("the restored copy is gone" if dropped else "there is no restored copy")
    return EXIT_DONE


def _print(arguments: Namespace, stage: Stage, done: Restored, copied: tuple[str, ...] = ()) -> int:
    if arguments.json:
        print_json(
            {
                "target": done.target,
                "backup": done.backup,
                "end": done.end,
                "last_transaction": done.last or None,
                "seconds": round(done.seconds, 3),
                "legs": {name: round(seconds, 3) for name, seconds in done.legs.items()},
                "address": done.address or None,
                "tables": list(copied),
            }
        )
        return EXIT_DONE
    last = f"the last transaction in it is of {done.last}" if done.last else "no transaction was replayed"
    say(f"restored to {done.target} in {done.seconds:.1f} s: WAL {done.end}, {last}")
    for table in copied:
        say(f"copied back: {table}")
    if done.address:
        say(f"look into it:  asbuilt connect {stage.environment} psql --sidecar")
        say(f"delete it:     asbuilt restore {stage.environment} --drop")
        print(done.address)
    else:
        say("the data that was replaced is data.before-restore beside the data of each database node")
    return EXIT_DONE
