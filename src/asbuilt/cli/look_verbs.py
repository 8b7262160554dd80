"""`asbuilt diagram` and `open`: looking at an environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.cli.output import print_json, say
from asbuilt.context import choose_stage, find_spec
from asbuilt.values.errors import EXIT_DONE, EXIT_FAILED

if TYPE_CHECKING:
    from argparse import Namespace

    from asbuilt.values.stage import Stage


def run(arguments: Namespace) -> int:
    """Dispatch the verbs."""
    stage = choose_stage(find_spec(arguments.file), arguments.environment)
    verbs = {"diagram": _diagram, "open": _open}
    return verbs[arguments.verb](arguments, stage)


def _diagram(arguments: Namespace, stage: Stage) -> int:
    from asbuilt.operations.diagram import draw

    text = draw(stage, arguments.format, live=arguments.live)
    if arguments.output:
        Path(arguments.output).write_text(text)
        say(f"wrote {arguments.output}")
    elif arguments.json:
        print_json({"format": arguments.format, "text": text})
    else:
        print(text, end="" if text.endswith("\n") else "\n")
    return EXIT_DONE


def _open(arguments: Namespace, stage: Stage) -> int:
    from asbuilt.operations.status import read_status

    status = read_status(stage)
    points = status["entrypoints"]
    if arguments.json:
        print_json({"entrypoints": points})
    elif points:
        print(points.get("https") or points["http"])
    if not points:
        say(f"{stage.name} {stage.environment} does not run; asbuilt up {stage.environment} starts it")
        return EXIT_FAILED
    return EXIT_DONE
