"""The progress of an operation, told on stderr while it runs."""

from __future__ import annotations

import sys
import threading
import time
from textwrap import shorten
from typing import TYPE_CHECKING

from asbuilt.cli.output import paint, say

if TYPE_CHECKING:
    from asbuilt.operations.progress import Event

_QUIET_SECONDS = 5.0
_WIDTH = 120


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
        if event.kind in {"note", "traffic"}:
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
            text = shorten(event.text.removeprefix(f"{event.subject}: "), _WIDTH, placeholder=" ...")
            return f"{clock}  waiting  {event.subject}: {text} ({event.seconds:.0f} s)"
        return ""
