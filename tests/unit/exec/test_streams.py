"""Streams: what was made of a broken source is never whole, and no thread outlives who uses it."""

from __future__ import annotations

import gc
import hashlib
import io
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asbuilt.exec.streams import CHUNK, Measured, Pipe, Proven, Readable, Through, pour
from support.streaming import BrokenError, Choppy, no_thread_left

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("counted")


@pytest.fixture
def counted() -> Iterator[None]:
    with no_thread_left():
        yield


def copy(pipe: Pipe) -> None:
    while chunk := pipe.read(8192):
        pipe.write(chunk)


def through(source: Readable) -> Through:
    return Through(source, copy, name="seal", translate=lambda error: ValueError(f"worker: {error}"))


@given(content=st.binary(max_size=3 * CHUNK), seed=st.integers(0, 9), size=st.integers(1, 3 * CHUNK))
def test_what_goes_through_is_what_came(content: bytes, seed: int, size: int) -> None:
    with through(Choppy(content, seed=seed)) as stream:
        got = b"".join(iter(lambda: stream.read(size), b""))
        assert got == content
        assert stream.read(size) == b""


def test_reading_all_at_once_and_into_buffers() -> None:
    content = bytes(range(256)) * 5000
    with through(io.BytesIO(content)) as stream:
        assert stream.read() == content
    with io.BufferedReader(through(io.BytesIO(content)), CHUNK) as whole:
        assert whole.read(700_001) == content[:700_001]
        assert whole.read() == content[700_001:]


def test_an_error_of_the_source_is_raised_again_and_again() -> None:
    with through(Choppy(b"x" * 500_000, fails=True)) as stream:
        with pytest.raises(BrokenError):
            stream.read()
        for _ in range(3):
            with pytest.raises(BrokenError):
                stream.read(1)


def test_an_error_of_the_worker_is_translated() -> None:
    def fail(pipe: Pipe) -> None:
        pipe.write(pipe.read(3))
        raise KeyError("inside")

    with Through(
        io.BytesIO(b"x" * 10), fail, name="seal", translate=lambda e: ValueError(f"{e!r}")
    ) as stream:
        assert stream.read(3) == b"xxx"
        for _ in range(2):
            with pytest.raises(ValueError, match="KeyError"):
                stream.read(1)


@pytest.mark.parametrize("read", [0, 1, 100_000])
def test_closing_early_ends_the_thread_and_leaves_the_source(read: int) -> None:
    source = io.BytesIO(b"x" * 50_000_000)
    stream = through(source)
    stream.read(read)
    stream.close()
    stream.close()
    assert not source.closed
    assert source.tell() < 10_000_000
    with pytest.raises(ValueError, match="closed"):
        stream.read(1)


def test_a_forgotten_stream_ends_its_thread() -> None:
    through(io.BytesIO(b"x" * 50_000_000)).read(1)
    gc.collect()


def test_closing_does_not_wait_for_a_worker_that_waits() -> None:
    stream = through(Choppy(b"x" * 100))
    stream.read(1)
    begun = time.monotonic()
    stream.close()
    assert time.monotonic() - begun < 5


def test_memory_between_the_two_sides_is_bounded() -> None:
    def swallow(pipe: Pipe) -> None:
        pipe.read(1)
        gate.wait(20)
        while pipe.read(CHUNK):
            pass

    gate = threading.Event()
    source = Choppy(b"x" * 100 * CHUNK, most=CHUNK)
    stream = Through(source, swallow, name="seal", translate=lambda error: error)
    reader = threading.Thread(target=stream.read)
    reader.start()
    time.sleep(0.3)
    assert source.asked < 12
    gate.set()
    reader.join(20)
    stream.close()


def test_measured() -> None:
    meter = Measured(Choppy(b"abc" * 1000, most=100))
    while meter.read(77):
        pass
    assert (meter.size, meter.sha256) == (3000, hashlib.sha256(b"abc" * 1000).hexdigest())


def test_the_end_is_asked_for_proof() -> None:
    def prove() -> None:
        raise BrokenError("status 1")

    stream = Proven(io.BytesIO(b"abc"), prove)
    assert stream.read(0) == b""
    assert stream.read(10) == b"abc"
    with pytest.raises(BrokenError):
        stream.read(10)


@given(content=st.binary(max_size=3 * CHUNK), seed=st.integers(0, 9))
def test_pouring(content: bytes, seed: int) -> None:
    assert pour(Choppy(content, seed=seed), b"".join, name="upload") == content


def test_pouring_from_a_broken_source_raises_its_error_after_the_task_ended() -> None:
    ended: list[str] = []

    def task(chunks: Iterator[bytes]) -> None:
        try:
            for _ in chunks:
                pass
            ended.append("whole")
        except Exception as error:
            ended.append(type(error).__name__)
            raise

    with pytest.raises(BrokenError):
        pour(Choppy(b"x" * 1000, fails=True), task, name="upload")
    assert ended == ["StoppedError"]


def test_pouring_into_a_task_that_fails_or_stops_early() -> None:
    def fail(chunks: Iterator[bytes]) -> None:
        next(chunks)
        raise KeyError("no room")

    with pytest.raises(KeyError):
        pour(io.BytesIO(b"x" * 50_000_000), fail, name="upload")
    assert pour(io.BytesIO(b"x" * 50_000_000), next, name="upload")[:1] == b"x"
