"""`asbuilt logs`: the lines of all processes in one stream."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from asbuilt.cli.output import paint
from asbuilt.context import choose_stage, find_spec
from asbuilt.operations.logs import Line, follow_logs, parse_since, read_logs
from asbuilt.values.errors import EXIT_DONE, UsageError

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Print what matches, oldest first; with --follow go on until Ctrl-C."""
    stage = choose_stage(find_spec(arguments.file), arguments.environment)
    try:
        pattern = re.compile(arguments.grep) if arguments.grep else None
    except re.error as error:
        raise UsageError("CLI-004", f"--grep is not a regular expression: {error}") from None
    since = parse_since(arguments.since) if arguments.since else None
    nodes = frozenset(arguments.node or ())
    folder = stage.root / "logs"
    for line in read_logs(folder, nodes=nodes, since=since, pattern=pattern, last=arguments.lines):
        _print(line, as_json=arguments.json)
    if arguments.follow:
        for line in follow_logs(folder, nodes=nodes, pattern=pattern):
            _print(line, as_json=arguments.json)
    return EXIT_DONE


def _print(line: Line, *, as_json: bool) -> None:
    if as_json:
        print(
            json.dumps({"schema": 1, "node": line.source, "time": line.time, "text": line.text}), flush=True
        )
    else:
        print(f"{paint(f'{line.source:<16}', 'dim')} {line.text}", flush=True)
