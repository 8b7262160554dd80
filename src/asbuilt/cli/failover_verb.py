"""`asbuilt failover`: another primary for the database or the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.cli.confirm import confirm
from asbuilt.cli.output import print_json, say
from asbuilt.cli.talk import Talk
from asbuilt.context import choose_stage, find_spec, split_environment
from asbuilt.values.errors import EXIT_DONE, UsageError

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Change the primary, and say who leads now."""
    file = find_spec(arguments.file)
    environment, words = split_environment(file, arguments.words)
    from asbuilt.operations.failover import KINDS, change_primary

    if len(words) != 1 or words[0] not in KINDS:
        raise UsageError(
            "CLI-009",
            f"failover does not understand {' '.join(words) or 'nothing'}",
            hint="like: asbuilt failover production database; a region is not supported yet",
        )
    stage = choose_stage(file, environment)

    def agree(risk: str) -> None:
        confirm(stage, arguments.confirm, risk)

    talk = Talk(quiet=arguments.json)
    done = change_primary(stage, words[0], arguments.to, talk, agree=agree if arguments.force else None)
    if arguments.json:
        print_json(
            {
                "what": done.what,
                "before": done.before or None,
                "primary": done.after,
                "seconds": round(done.seconds, 3),
                "redundant_after": None if done.redundant is None else round(done.redundant, 3),
                "forced": done.forced,
                "risk": done.risk or None,
            }
        )
        return EXIT_DONE
    if done.redundant is None:
        say("no replica confirms every commit yet: asbuilt status shows what they do")
    print(f"{done.after} is the primary of the {done.what} now, before {done.before or 'nobody'}")
    return EXIT_DONE
