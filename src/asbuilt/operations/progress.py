"""What a long operation tells while it runs. Every wait names the thing it waits for."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from asbuilt.values.clock import now_text


@dataclass(frozen=True, slots=True)
class Event:
    """One thing worth telling.

    Args:
        kind: `note` (a fact about the whole), `started`, `waiting`, `done` or `failed` (a step).
        subject: the node, workload or setup; empty for a note.
        text: words for people.
        seconds: how long the step has taken so far.
        data: the same for programs, JSON values.
    """

    kind: str
    subject: str
    text: str
    seconds: float = 0.0
    data: Mapping[str, object] = field(default_factory=dict)


Tell = Callable[[Event], None]


def silent(_: Event) -> None:
    """Tells nobody."""


def log_line(text: str) -> None:
    """One line, with its time, in the log of a process of ours that nobody looks at while it runs."""
    # the name of a file may be in it: any bytes, also such as no output takes or that end the line
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
    sys.stdout.write(f"{now_text()} {shown}\n")
    sys.stdout.flush()


@contextmanager
def ticking(tell: Tell, subject: str, words: Callable[[], str]) -> Iterator[None]:
    """Tell once a second how far something is, from another thread."""
    began, over = time.monotonic(), threading.Event()

    def tick() -> None:
        while not over.wait(1.0):
            tell(Event("waiting", subject, words(), time.monotonic() - began))

    thread = threading.Thread(target=tick, name="ticking", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def told(tell: Tell, subject: str, text: str) -> Iterator[None]:
    """Tell of one step: that it began, and how it ended."""
    began = time.monotonic()
    tell(Event("started", subject, text))
    try:
        yield
    except BaseException:
        tell(Event("failed", subject, text, time.monotonic() - began))
        raise
    tell(Event("done", subject, text, time.monotonic() - began))
