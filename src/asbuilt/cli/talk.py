"""The progress of an operation, told on stderr while it runs."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from textwrap import shorten
from typing import TYPE_CHECKING

from asbuilt.cli.output import paint, say

if TYPE_CHECKING:
    from asbuilt.operations.progress import Event

_QUIET_SECONDS = 5.0
_TRAFFIC_SECONDS = 10.0
"""Between two lines about the traffic, where there is no terminal to keep one line up to date."""
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
        self._next_traffic = 0.0
        self._shown = False

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        if self._quiet:
            return
        with self._lock:
            line = self._line(event)
            if not line:
                return
            if event.kind == "traffic" and sys.stderr.isatty():
                # one line that stays the last one and is written over
                sys.stderr.write(f"\r\x1b[K{shorten(line, self._width(), placeholder=' ...')}")
                sys.stderr.flush()
                self._shown = True
                return
            if self._shown:
                sys.stderr.write("\r\x1b[K")
                self._shown = False
            say(line)

    @staticmethod
    def _width() -> int:
        return max(20, shutil.get_terminal_size().columns - 1)

    def _line(self, event: Event) -> str:
        clock = paint(f"{time.monotonic() - self._began:6.1f}s", "dim", sys.stderr)
        if event.kind == "note" or (event.kind == "traffic" and self._traffic_is_due()):
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

    def _traffic_is_due(self) -> bool:
        now = time.monotonic()
        if not sys.stderr.isatty() and now < self._next_traffic:
            return False
        self._next_traffic = now + _TRAFFIC_SECONDS
        return True
