"""How things look: JSON and tables on stdout, progress on stderr. No spinner, no meaning in colour alone."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import IO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asbuilt.operations.progress import Event

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
_QUIET_SECONDS = 5.0


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


class Talk:
    """Tells the progress of an operation on stderr, one line for each thing that happens.

    A wait is told when it has taken some seconds, then each time it has taken twice as long, so that a log
    stays short and a person is never left without the name of what is waited for.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}
        self._began = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        if self._quiet:
            return
        with self._lock:
            line = self._line(event)
        if line:
            say(line)

    def _line(self, event: Event) -> str:
        clock = paint(f"{time.monotonic() - self._began:6.1f}s", "dim", sys.stderr)
        if event.kind == "note":
            return f"{clock}  {event.text}"
        if event.kind == "done":
            self._next.pop(event.subject, None)
            return f"{clock}  {paint('done', 'ready', sys.stderr)}     {event.text} ({event.seconds:.1f} s)"
        if event.kind == "failed":
            return f"{clock}  {paint('failed', 'failing', sys.stderr)}   {event.subject}"
        if event.kind == "waiting":
            due = self._next.get(event.subject, _QUIET_SECONDS)
            if event.seconds < due:
                return ""
            self._next[event.subject] = max(due * 2, event.seconds * 2)
            text = event.text.removeprefix(f"{event.subject}: ")
            return f"{clock}  waiting  {event.subject}: {text} ({event.seconds:.0f} s)"
        return ""
