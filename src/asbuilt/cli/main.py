"""The way in: parse the words, run the verb, turn every error into one shape and one exit status.

Nothing heavy is imported here: `asbuilt --help` and `asbuilt status` must answer at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from asbuilt import __version__
from asbuilt.values.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, AsbuiltError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS: Final[dict[str, tuple[str, str]]] = {
    # verb: (module with `run(arguments) -> exit status`, what it does)
    "init": ("asbuilt.cli.spec_verbs", "write a commented asbuilt.yaml for the app in this folder"),
    "check": (
        "asbuilt.cli.spec_verbs",
        "validate the spec: all problems at once; warn of migrations that the release before can't live with",
    ),
    "plan": (
        "asbuilt.cli.change_verbs",
        "show what `up` would change, touch nothing; exit 2 if there are changes",
    ),
    "up": ("asbuilt.cli.change_verbs", "realize the environment and run the app; idempotent"),
    "deploy": ("asbuilt.cli.deploy_verbs", "bring the folder as it is now to the users, unnoticed"),
    "rollback": ("asbuilt.cli.deploy_verbs", "back to the last good release, or to one by name"),
    "scale": ("asbuilt.cli.deploy_verbs", "another number of app servers: app=N, or app=auto"),
    "failover": ("asbuilt.cli.failover_verb", "another primary for database or cache; nothing is lost"),
    "backup": ("asbuilt.cli.backup_verbs", "create, list, verify and prune backups; the key that opens them"),
    "restore": (
        "asbuilt.cli.backup_verbs",
        "the database, or --cache, --objects, --files, as it was: beside what is there, or --in-place",
    ),
    "drill": (
        "asbuilt.cli.drill_verb",
        "break something on purpose, measure the recovery, compare it with what is promised",
    ),
    "down": ("asbuilt.cli.change_verbs", "stop the environment; keeps the data"),
    "status": ("asbuilt.cli.status_verb", "nodes with role, health, address and release"),
    "releases": ("asbuilt.cli.releases_verb", "who released what, when, how, and what came of it"),
    "logs": ("asbuilt.cli.logs_verb", "the logs of all nodes in one stream"),
    "connect": ("asbuilt.cli.connect_verb", "psql, redis, shell or an app server, through the right door"),
    "diagram": ("asbuilt.cli.look_verbs", "draw the architecture; --live colours by health"),
    "open": ("asbuilt.cli.look_verbs", "print the address of the app"),
    "doctor": (
        "asbuilt.cli.doctor_verb",
        "engines found, versions, limits, what is missing and what fixes it",
    ),
    "completion": ("asbuilt.cli.completion", "print the completion script for bash, zsh or fish"),
}


class _Parser(argparse.ArgumentParser):
    """Reports wrong words in the program's own error shape."""

    def error(self, message: str) -> NoReturn:
        raise UsageError("CLI-001", message, hint=f"{self.prog} --help shows the words that are understood")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="asbuilt",
        description="Run and operate a complete production deployment architecture from one file.",
        epilog="Exit status: 0 done, 1 failed, 2 usage or spec error (plan: there are changes), 3 refused by "
        "a safety rule, 4 stopped part-way and resumable, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"asbuilt {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)
    shared = _Parser(add_help=False)
    shared.add_argument("--json", action="store_true", help="data for programs on stdout")
    shared.add_argument(
        "-f", "--file", default=None, metavar="PATH", help="the spec (default: ./asbuilt.yaml)"
    )
    made = {
        name: verbs.add_parser(name, help=text, description=text, parents=[shared])
        for name, (_, text) in VERBS.items()
    }
    for name in (
        "check",
        "plan",
        "up",
        "deploy",
        "rollback",
        "restore",
        "down",
        "status",
        "releases",
        "diagram",
        "open",
        "doctor",
    ):
        made[name].add_argument(
            "environment", nargs="?", metavar="ENV", help="may be left out when there is only one"
        )
    _add_change_options(made)
    _add_look_options(made)
    return parser


def _add_change_options(made: dict[str, _Parser]) -> None:
    made["init"].add_argument("--force", action="store_true", help="replace an asbuilt.yaml that is there")
    made["init"].add_argument("--dry-run", action="store_true", help="print it, write nothing")
    for name in ("up", "down"):
        made[name].add_argument("--dry-run", action="store_true", help="show the steps, touch nothing")
        made[name].add_argument(
            "--confirm", metavar="ENV", help="the environment's name, to allow steps that take data away"
        )
    deploy = made["deploy"]
    deploy.add_argument(
        "--strategy",
        choices=("rolling", "blue-green", "canary"),
        help="how; by default rollout.strategy of the spec",
    )
    deploy.add_argument("--no-surge", action="store_true", help="rolling: without a server more meanwhile")
    asked = deploy.add_mutually_exclusive_group()
    asked.add_argument("--abort", action="store_true", help="go back from the release that is on its way")
    asked.add_argument("--promote", action="store_true", help="canary: take the next step now")
    made["rollback"].add_argument("--to", metavar="RELEASE", help="the release to go back to, like r3")
    made["scale"].add_argument("words", nargs="+", metavar="[ENV] app=N", help="a number, or auto")
    _add_backup_options(made)
    _add_drill_options(made["drill"])
    made["down"].add_argument(
        "--delete-data", action="store_true", help="delete everything the environment stored"
    )


def _add_backup_options(made: dict[str, _Parser]) -> None:
    failover, backup, restore = made["failover"], made["backup"], made["restore"]
    failover.add_argument("words", nargs="+", metavar="[ENV] database|cache")
    failover.add_argument("--to", metavar="NODE", help="who shall lead; by default the replica that has all")
    failover.add_argument(
        "--force", action="store_true", help="also without the old primary; says what is lost"
    )
    failover.add_argument("--confirm", metavar="ENV", help="--force: the environment's name, to allow it")
    backup.add_argument("words", nargs="*", metavar="[ENV] create|list|verify [ID]|prune|key")
    backup.add_argument("--label", metavar="TEXT", help="create: what you call it")
    backup.add_argument(
        "--only",
        action="append",
        choices=("database", "cache", "objects", "files"),
        help="create, verify: this part; may be repeated",
    )
    backup.add_argument("--dry-run", action="store_true", help="prune: show what would go, touch nothing")
    restore.add_argument(
        "--to",
        metavar="TARGET",
        help="latest, a time, `2h ago`, a WAL position, xid:N, or the id of a backup",
    )
    part = restore.add_mutually_exclusive_group()
    for name in ("cache", "objects", "files"):
        part.add_argument(
            f"--{name}",
            dest="part",
            action="store_const",
            const=name,
            help=f"the {name} instead of the database, by default into a folder",
        )
    restore.add_argument("--into", metavar="FOLDER", help="where cache, objects or files are put")
    restore.add_argument("--path", metavar="PATTERN", help="--objects, --files: only these, like 'avatars/*'")
    for one in (backup, restore):
        one.add_argument("--system", metavar="ID", help="backups of a database that was here before")
    restore.add_argument(
        "--timeline", type=int, metavar="N", help="along this timeline, also an abandoned one"
    )
    restore.add_argument("--table", action="append", metavar="TABLE", help="copy it back; may be repeated")
    restore.add_argument("--suffix", metavar="TEXT", help="--table: under the name with this behind it")
    restore.add_argument("--in-place", action="store_true", help="replace what is there")
    restore.add_argument("--confirm", metavar="ENV", help="--in-place: the environment's name, to allow it")
    restore.add_argument("--resume", action="store_true", help="--in-place: go on with what was interrupted")
    restore.add_argument("--drop", action="store_true", help="delete the restored copy")
    restore.add_argument("--dry-run", action="store_true", help="show how it would be done, touch nothing")


def _add_drill_options(drill: _Parser) -> None:
    drill.add_argument("words", nargs="*", metavar="[ENV] list|NAME|recover|report [ID]")
    drill.add_argument("--all", action="store_true", help="every drill that can be had here")
    drill.add_argument("--variant", metavar="NAME", help="how it is broken, like frozen; list names them")
    drill.add_argument("--repeat", type=int, default=1, metavar="N", help="N rounds: p50, p95 and the worst")
    drill.add_argument(
        "--patience",
        type=float,
        metavar="SECONDS",
        help="stop when users are not served for so long; by default the promised time",
    )
    drill.add_argument(
        "--confirm", metavar="ENV", help="the environment's name, where it is a production one"
    )
    drill.add_argument(
        "--format", choices=("md", "html", "json"), default="md", help="report: how it is shown"
    )


def _add_look_options(made: dict[str, _Parser]) -> None:
    made["status"].add_argument("--watch", action="store_true", help="again every second until Ctrl-C")
    made["status"].add_argument(
        "--recovery", action="store_true", help="each recovery: promised, and what its last drill showed"
    )
    made["releases"].add_argument("release", nargs="?", metavar="RELEASE", help="one in full, like r3")
    made["diagram"].add_argument("--format", choices=("mermaid", "svg"), default="mermaid")
    made["diagram"].add_argument("--live", action="store_true", help="colour by health")
    made["diagram"].add_argument("-o", "--output", metavar="PATH", help="write to a file")
    logs = made["logs"]
    logs.add_argument("environment", nargs="?", metavar="ENV")
    logs.add_argument("--follow", action="store_true", help="go on with new lines until Ctrl-C")
    logs.add_argument(
        "--since", metavar="TIME", help="a duration like 5m, or a UTC time like 2026-01-31T12:00:00Z"
    )
    logs.add_argument("--node", action="append", metavar="NODE", help="only this node; may be repeated")
    logs.add_argument("--grep", metavar="REGEX", help="only lines that match")
    logs.add_argument(
        "-n", "--lines", type=int, default=200, metavar="N", help="at most the last N lines (200)"
    )
    connect = made["connect"]
    connect.add_argument(
        "words", nargs="+", metavar="[ENV] DOOR", help="psql, redis, shell or a node like app-1"
    )
    connect.add_argument("--admin", action="store_true", help="psql: as the superuser instead of the app")
    connect.add_argument("--replica", action="store_true", help="psql: a replica instead of the primary")
    connect.add_argument("--sidecar", action="store_true", help="psql: the restored copy")
    made["completion"].add_argument("shell", choices=("bash", "zsh", "fish"))


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    given = list(sys.argv[1:] if words is None else words)
    sys.exit(run(given))


def run(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    as_json = "--json" in words
    passed: list[str] = []
    if "--" in words:
        at = words.index("--")
        words, passed = words[:at], words[at + 1 :]
    try:
        parser = build_parser()
        arguments = parser.parse_args(words)
        if arguments.verb is None:
            parser.print_help()
            return EXIT_DONE
        arguments.passed = passed
        module = importlib.import_module(VERBS[arguments.verb][0])
        status: int = module.run(arguments)
        sys.stdout.flush()
    except AsbuiltError as error:
        _tell_error(error, as_json=as_json)
        return error.exit_status
    except KeyboardInterrupt:
        print("\ninterrupted: what is done stays, the same command goes on from here", file=sys.stderr)
        sys.stderr.flush()
        # Steps may still be under way in threads; they are idempotent and must not hold the terminal.
        os._exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader went away (`| head`): nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except OSError as error:
        _tell_error(_translate(error), as_json=as_json)
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - no traceback ever reaches a user
        return _tell_bug(error, as_json=as_json)
    return status


def _translate(error: OSError) -> AsbuiltError:
    return AsbuiltError(
        "OS-001",
        f"the system refused: {error.strerror or error}",
        where=str(error.filename or ""),
        hint="check space and permissions there; asbuilt doctor says more",
    )


def _tell_bug(error: Exception, *, as_json: bool) -> int:
    if os.environ.get("ASBUILT_DEBUG"):
        raise error
    _tell_error(
        AsbuiltError(
            "BUG-001",
            f"asbuilt itself failed: {type(error).__name__}: {error}",
            hint="nothing recorded is lost; run it again with ASBUILT_DEBUG=1 and report what it prints",
        ),
        as_json=as_json,
    )
    return EXIT_FAILED


def _tell_error(error: AsbuiltError, *, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps({"schema": 1, "error": error.to_json()}, indent=1))
    print(error.render(), file=sys.stderr)


if __name__ == "__main__":
    main()
