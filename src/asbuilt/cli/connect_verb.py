"""`asbuilt connect`: psql, redis, a shell or an app server's surroundings, through the right door."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from asbuilt.cli.output import print_json
from asbuilt.context import choose_stage, find_spec, split_environment
from asbuilt.operations.connect import Door, find_door
from asbuilt.values.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Become the program behind the door; with --json run it and print what it said."""
    file = find_spec(arguments.file)
    environment, words = split_environment(file, arguments.words)
    if len(words) != 1:
        raise UsageError(
            "CLI-007",
            f"connect takes one door, not {len(words)}",
            hint="like: asbuilt connect production psql -- -c 'select 1'",
        )
    stage = choose_stage(file, environment)
    door = find_door(
        stage, words[0], admin=arguments.admin, replica=arguments.replica, sidecar=arguments.sidecar
    )
    argv = [*door.argv, *arguments.passed]
    if arguments.json:
        return _run_as_json(door, argv)
    if door.cwd:
        os.chdir(door.cwd)
    return os.execvpe(argv[0], argv, _environment(door))  # noqa: S606 - a list of words, no shell


def _environment(door: Door) -> dict[str, str]:
    secret = {name: value.reveal() for name, value in door.secret_env}
    return {**os.environ, **dict(door.env), **secret}


def _run_as_json(door: Door, argv: list[str]) -> int:
    done = subprocess.run(
        argv,
        env=_environment(door),
        cwd=door.cwd,
        text=True,
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    print_json({"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr})
    return done.returncode
