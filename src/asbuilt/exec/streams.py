"""Streams that are pulled: what backups are made of, from `pg_basebackup` to the store and back.

Invariants: a stream says that it ended only when everything it was made from ended well, and after an error
each further read raises that error again, so that half of something never looks like all of it. A thread of
ours only ever waits for memory of ours, never for somebody's file or socket: `close` ends it at once.
"""

from __future__ import annotations

import hashlib
import io
import threading
from abc import abstractmethod
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import WriteableBuffer

T = TypeVar("T")
CHUNK = 256 * 1024
"""Bytes that are moved at a time."""
_WAITING = 4
"""Chunks that wait for a thread at most: memory stays constant, and neither side waits often."""


class Readable(Protocol):
    """Anything to read bytes from: a file, a pipe, a stream of ours. `b""` is its end, an error is none."""

    def read(self, size: int = ..., /) -> bytes:
        """At most `size` bytes, fewer when no more are there yet."""
        ...


class Counted:
    """Passes a stream on and knows its size in bytes up to here."""

    def __init__(self, reader: Readable) -> None:
        self._reader = reader
        self.size = 0

    def read(self, size: int = CHUNK, /) -> bytes:
        """What the stream gives."""
        chunk = self._reader.read(size)
        self.size += len(chunk)
        return chunk


class Measured(Counted):
    """The same, and its SHA-256 (hex) up to here."""

    def __init__(self, reader: Readable) -> None:
        super().__init__(reader)
        self._digest = hashlib.sha256()

    def read(self, size: int = CHUNK, /) -> bytes:
        """What the stream gives."""
        chunk = super().read(size)
        self._digest.update(chunk)
        return chunk

    @property
    def sha256(self) -> str:
        """The digest of what was read up to now."""
        return self._digest.hexdigest()


class Stream(io.RawIOBase):
    """A readable stream made of chunks. Wrap it in `io.BufferedReader` where reads must not be short."""

    meter: Measured | None = None
    """What measures it already, if anything does, so that nobody computes the same digest twice."""

    def __init__(self) -> None:
        super().__init__()
        self._left = memoryview(b"")
        self._failure: BaseException | None = None

    @abstractmethod
    def _next(self) -> bytes:
        """The next chunk, `b""` at the end. Never called again after it raised."""

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes; everything up to the end without one."""
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if size:
            self._fill()
        taken = bytes(self._left[:size])
        self._left = self._left[size:]
        return taken

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into a buffer; the answer is how many bytes."""
        into = memoryview(buffer).cast("B")
        taken = self.read(len(into))
        into[: len(taken)] = taken
        return len(taken)

    def _fill(self) -> None:
        if self.closed:
            raise ValueError("read of a closed stream")
        if self._failure is not None:
            raise self._failure
        if not self._left:
            try:
                self._left = memoryview(self._next())
            except BaseException as error:
                self._failure = error
                raise


class Proven:
    """Passes a stream on, and asks `prove` before it says that the stream ended.

    The end of a pipe says nothing about how its writer ended: `prove` waits for it and raises when it failed.
    """

    def __init__(self, reader: Readable, prove: Callable[[], None]) -> None:
        self._reader = reader
        self._prove = prove

    def read(self, size: int = CHUNK, /) -> bytes:
        """What the stream gives."""
        chunk = self._reader.read(size)
        if not chunk and size:
            self._prove()
        return chunk


class StoppedError(Exception):
    """Raised in a worker that is no longer wanted. Never leaves this module."""


class Pipe:
    """The memory between a worker thread and who feeds it: a few chunks in, what came of them out.

    `translate` makes an error of the worker one for whoever takes what it gives.
    """

    def __init__(self, translate: Callable[[BaseException], BaseException] = lambda error: error) -> None:
        self._translate = translate
        self._moved = threading.Condition()
        self._in: deque[bytes] = deque()
        self._out: list[bytes] = []
        self._fed = self._stopped = self._done = False
        self._error: BaseException | None = None
        self._current = memoryview(b"")

    # what the worker uses

    def work(self, task: Callable[[Pipe], None]) -> None:
        """Run `task` to its end, and remember how it ended."""
        error = None
        try:
            task(self)
        except BaseException as raised:  # noqa: BLE001 - told to the thread that reads
            error = self._translate(raised)
        with self._moved:
            self._done, self._error = True, error
            self._in.clear()
            self._moved.notify_all()

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes of what was fed; waits for them. `b""` when all was fed and read."""
        if not self._current:
            with self._moved:
                self._moved.wait_for(lambda: self._in or self._fed or self._stopped)
                if self._stopped:
                    raise StoppedError
                if not self._in:
                    return b""
                self._current = memoryview(self._in.popleft())
                self._moved.notify_all()
        taken = bytes(self._current[:size])
        self._current = self._current[size:]
        return taken

    def write(self, chunk: bytes, /) -> int:
        """Give a chunk to the reader."""
        with self._moved:
            if self._stopped:
                raise StoppedError
            self._out.append(chunk)
            self._moved.notify_all()
        return len(chunk)

    def flush(self) -> None:
        """Nothing is held back."""

    # what the other thread uses

    def wants(self) -> bool:
        """Whether another chunk may be fed now."""
        with self._moved:
            return self._wants()

    def _wants(self) -> bool:
        return not (self._fed or self._done) and len(self._in) < _WAITING

    def feed(self, chunk: bytes) -> None:
        """Give the worker a chunk; `b""` says that it was the last."""
        with self._moved:
            if chunk:
                self._in.append(chunk)
            else:
                self._fed = True
            self._moved.notify_all()

    def wait(self) -> None:
        """Until it wants more, gave something or ended."""
        with self._moved:
            self._moved.wait_for(lambda: self._wants() or self._out or self._done)

    def take(self) -> tuple[bytes, bool]:
        """What the worker gave up to now, and whether that is all. Raises the error it ended with."""
        with self._moved:
            chunk = b"".join(self._out)
            self._out.clear()
            if not chunk and self._error is not None:
                raise self._error
            return chunk, self._done and not chunk

    def stop(self) -> None:
        """The worker is no longer wanted: its next read or write raises."""
        with self._moved:
            self._stopped = True
            self._moved.notify_all()


class Through(Stream):
    """What `task` makes of a source. It runs in its own thread; the source is read by whoever reads this.

    Args:
        source: read only within `read`; not closed.
        task: reads from the pipe and writes to it, until it ends.
        name: of the thread.
        translate: an error of the task for whoever reads this. Errors of the source pass as they are.
    """

    def __init__(
        self,
        source: Readable,
        task: Callable[[Pipe], None],
        *,
        name: str,
        translate: Callable[[BaseException], BaseException],
    ) -> None:
        super().__init__()
        self._source = source
        self._pipe = Pipe(translate)
        self._thread = threading.Thread(target=self._pipe.work, args=(task,), name=name, daemon=True)
        self._started = False

    def _next(self) -> bytes:
        if not self._started:
            self._started = True
            self._thread.start()
        try:
            if self._pipe.wants():  # so that the worker has something to do while what it gave is used
                self._pipe.feed(self._source.read(CHUNK))
            while True:
                self._pipe.wait()
                chunk, ended = self._pipe.take()
                if chunk or ended:
                    return chunk
                if self._pipe.wants():
                    self._pipe.feed(self._source.read(CHUNK))
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        self._pipe.stop()
        if self._started and self._thread is not threading.current_thread():
            self._thread.join()

    def close(self) -> None:
        """End the thread, wherever it is. The source stays open."""
        if not self.closed:
            self._stop()
        super().close()


def pour(source: Readable, task: Callable[[Iterator[bytes]], T], *, name: str) -> T:
    """What `task` makes of the chunks of a source. It runs in its own thread, the source is read in this one.

    When the source fails, the chunks end with an error for the task; the source's error is raised when the
    task has ended.
    """
    results: list[T] = []
    pipe = Pipe()

    def work(fed: Pipe) -> None:
        results.append(task(iter(lambda: fed.read(CHUNK), b"")))

    thread = threading.Thread(target=pipe.work, args=(work,), name=name, daemon=True)
    thread.start()
    try:
        while not pipe.take()[1]:
            if pipe.wants():
                pipe.feed(source.read(CHUNK))
            pipe.wait()
    except BaseException:
        pipe.stop()
        with suppress(RuntimeError):
            thread.join()
        raise
    thread.join()
    return results[0]
