"""Readers for tests of streams: short reads, failures, gigabytes from nowhere; and counted threads."""

from __future__ import annotations

import io
import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from support import until

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = ("seal", "open", "upload")
"""Names of the threads that streams start."""


class BrokenError(Exception):
    """What a reader of these fails with."""


class Choppy:
    """Gives content in pieces of any size, like a pipe, and then ends or fails."""

    def __init__(self, content: bytes, *, seed: int = 0, fails: bool = False, most: int = 70_000) -> None:
        self._source = io.BytesIO(content)
        self._random = random.Random(seed)
        self._fails = fails
        self._most = most
        self.asked = 0

    def read(self, size: int = -1) -> bytes:
        self.asked += 1
        most = self._random.randint(1, self._most)
        chunk = self._source.read(most if size < 0 else min(size, most))
        if not chunk and self._fails:
            raise BrokenError("the source died")
        return chunk


class Endless:
    """So many bytes, from a small pool that does not compress."""

    def __init__(self, size: int) -> None:
        self._pool = random.Random(1).randbytes(4 * 1024 * 1024)
        self._left = size
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        size = min(size if size >= 0 else 65536, self._left, len(self._pool) - self._at)
        chunk = self._pool[self._at : self._at + size]
        self._at = (self._at + size) % len(self._pool)
        self._left -= size
        return chunk


@contextmanager
def no_thread_left() -> Iterator[None]:
    """Fail when a thread that a stream started is still there at the end."""
    yield
    until(lambda: not [one for one in threading.enumerate() if one.name in OURS], what="threads to end")
