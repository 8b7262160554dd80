"""Clients that write numbers, each on its own connection, until the end; when each was acknowledged is kept.

A number is written once, whatever comes of it: what was never acknowledged may be there or not.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Protocol, Self

CLIENTS: Final = 8
_PAUSE: Final = 0.03
STEADY: Final = 1.5
_PAUSED: Final = 0.7
_JOIN: Final = 12.0


class Book(Protocol):
    """Where one client writes. Not for several threads."""

    errors: tuple[type[Exception], ...]

    def open(self) -> bool:
        """Connect if it is not; whether it was done now. Raises one of `errors`."""

    def write(self, number: int) -> None:
        """Write; returns only when it was acknowledged. Raises one of `errors`."""

    def close(self) -> None:
        """Hang up."""


@dataclass
class Writers:
    """Writes of all clients, `clients` of them."""

    make: Callable[[], Book]
    numbers: itertools.count[int]
    clients: int = CLIENTS
    acknowledged: list[tuple[float, int]] = field(default_factory=list)
    refused: list[tuple[float, str]] = field(default_factory=list)
    connected: list[float] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Start."""
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; a write that hangs is abandoned after a while, and was not acknowledged."""
        self._over.set()
        until = time.monotonic() + _JOIN
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def since(self, moment: float) -> int:
        """Acknowledged writes after `moment`."""
        return sum(at > moment for at, _ in self.acknowledged[-2000:])

    def last(self, otherwise: float) -> float:
        """When a write was acknowledged last."""
        return self.acknowledged[-1][0] if self.acknowledged else otherwise

    def steady(self, since: float, seconds: float = STEADY) -> bool:
        """Whether writes came without a longer pause for some seconds, all of them after `since`."""
        now = time.monotonic()
        if now < since + seconds:
            return False  # a gap that has only just begun cannot be seen yet
        recent = (at for at, _ in self.acknowledged[-2000:] if at > now - seconds)
        times = [now - seconds, *sorted(recent), now]
        return max(b - a for a, b in pairwise(times)) < _PAUSED

    def _run(self) -> None:
        book = self.make()
        while not self._over.is_set():
            number = next(self.numbers)
            try:
                if book.open():
                    self.connected.append(time.monotonic())
                book.write(number)
            except book.errors as error:
                self.refused.append((time.monotonic(), str(error).strip().partition("\n")[0]))
                book.close()
            else:
                self.acknowledged.append((time.monotonic(), number))
            self._over.wait(_PAUSE)
        book.close()
