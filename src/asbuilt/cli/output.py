"""How things look: JSON and tables on stdout, progress on stderr. No spinner, no meaning in colour alone."""

from __future__ import annotations

import json
import os
import sys
from typing import IO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


SCHEMA = 1
"""Version of every JSON document that the program prints."""

_COLOURS = {
    "ready": "32",
    "starting": "33",
    "draining": "33",
    "failing": "31",
    "stopped": "2",
    "bold": "1",
    "dim": "2",
}


def print_json(document: Mapping[str, object]) -> None:
    """One JSON document on stdout, with the schema's version first."""
    print(json.dumps({"schema": SCHEMA, **document}, indent=1))


def paint(text: str, colour: str, stream: IO[str] | None = None) -> str:
    """`text` in a colour where the stream is a terminal and NO_COLOR is not set."""
    out = stream or sys.stdout
    if colour not in _COLOURS or os.environ.get("NO_COLOR") or not out.isatty():
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def render_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces apart; a row's colour codes must not be in it."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join(lines)


def say(text: str) -> None:
    """Talk: one line on stderr."""
    print(text, file=sys.stderr, flush=True)
