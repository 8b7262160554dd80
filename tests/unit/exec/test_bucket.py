"""A bucket whose server is busy, gone, hanging, wrong, or loses bytes."""

from __future__ import annotations

import io
import os
import random
import socket
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from asbuilt.exec import bucket
from asbuilt.exec.answers import parse_said
from asbuilt.exec.bucket import open_bucket
from asbuilt.exec.objects import order_of
from asbuilt.values.errors import AsbuiltError
from support.s3 import BUCKET, Bucket, s3_server
from support.streaming import no_thread_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from asbuilt.exec.store import Store

LARGE = random.Random(6).randbytes(20_000_000)


@pytest.fixture
def server() -> Iterator[Bucket]:
    with s3_server() as one, no_thread_left():
        yield one


@pytest.fixture
def store(server: Bucket, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(bucket, "PATIENCE", 0.3)
    monkeypatch.setattr(bucket, "_ANSWER", 0.5)
    monkeypatch.setattr(bucket, "_UPLOAD", 1.0)
    return opened(server.address)


def opened(address: str, name: str = BUCKET) -> Store:
    return open_bucket(Bucket(address=address).settings(bucket=name))


def error_of(call: Callable[[], object]) -> AsbuiltError:
    with pytest.raises(AsbuiltError) as caught:
        call()
    error = caught.value
    assert error.hint
    assert not [one for one in Bucket.secrets if one in error.render()]
    return error


def calls(store: Store) -> list[Callable[[], object]]:
    return [
        lambda: store.put("a", io.BytesIO(b"x")),
        lambda: store.put("a", io.BytesIO(LARGE)),
        lambda: store.get("a"),
        lambda: store.head("a"),
        lambda: list(store.list()),
        lambda: store.delete(["a"]),
    ]


@pytest.mark.parametrize(
    ("status", "code"),
    [(503, "STORE-001"), (500, "STORE-001"), (429, "STORE-001"), (403, "STORE-002"), (400, "STORE-002")],
)
def test_a_server_that_answers_with_errors(server: Bucket, store: Store, status: int, code: str) -> None:
    server.refuse = lambda _: status
    for call in calls(store):
        begun = time.monotonic()
        assert error_of(call).code == code
        assert time.monotonic() - begun < 6


def test_the_error_says_what_the_server_said(server: Bucket, store: Store) -> None:
    server.refuse = lambda _: 503
    error = error_of(lambda: store.put("wal/1", io.BytesIO(b"x")))
    assert "503 Service Unavailable: SlowDown" in error.what
    assert server.address in str(error.where)
    assert "wal/1" in str(error.where)


def test_a_server_that_was_busy_for_a_moment_is_not_an_error(server: Bucket, store: Store) -> None:
    busy = iter([503, 500, None] * 2)
    server.refuse = lambda _: next(busy, None)
    assert store.put("a", io.BytesIO(b"x")).size == 1


def test_a_part_that_fails_takes_the_upload_with_it(server: Bucket, store: Store) -> None:
    server.refuse = lambda asked: 503 if "partNumber=2" in asked else None
    assert error_of(lambda: store.put("a", io.BytesIO(LARGE))).code == "STORE-001"
    assert (server.sizes, server.uploads) == ({}, {})


def test_503_for_a_long_time_is_told_within_20_seconds() -> None:
    # the request, and then the removal of what was uploaded, each with one last pause and answer
    assert 2 * (bucket.PATIENCE + 2.5) < 20


def test_nobody_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    del store
    monkeypatch.setattr(bucket, "_CONNECT", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = opened(f"http://127.0.0.1:{free.getsockname()[1]}")
        for call in calls(gone):
            error = error_of(call)
            assert (error.code, "Connection refused" in error.what) == ("STORE-001", True)


def test_a_server_that_accepts_and_never_answers(store: Store) -> None:
    del store
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(20)
        hanging = opened(f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        for call in calls(hanging):
            error = error_of(call)
            assert (error.code, "no answer in time" in error.what) == ("STORE-001", True)
        assert time.monotonic() - begun < 15


def test_a_bucket_that_is_not_there(server: Bucket) -> None:
    wrong = opened(server.address, "nobodys")
    codes = [error_of(call).code for call in calls(wrong)]
    # a HEAD has no body to say which of the two is missing
    assert codes == ["STORE-002", "STORE-002", "STORE-002", "STORE-003", "STORE-002", "STORE-002"]


@pytest.mark.parametrize("size", [1000, len(LARGE)])
def test_an_upload_that_is_cut_but_reported_good(server: Bucket, store: Store, size: int) -> None:
    server.lose = 1
    error = error_of(lambda: store.put("a", io.BytesIO(LARGE[:size])))
    assert error.code == "STORE-004"
    assert f"{size} bytes" in error.what
    assert server.sizes == {}


@pytest.mark.parametrize("tags", [True, False])
def test_answers_that_break_off_are_gone_on_with(server: Bucket, store: Store, *, tags: bool) -> None:
    store.put("a", io.BytesIO(LARGE))
    server.cut_after, server.tags = 7_000_000, tags
    with store.get("a") as stream:
        assert stream.read() == LARGE
    server.cut_after = 0
    assert error_of(lambda: store.digest("a")).code == "STORE-001"


def test_an_object_that_is_replaced_while_it_is_read(server: Bucket, store: Store) -> None:
    store.put("a", io.BytesIO(LARGE))
    server.cut_after, server.tags = 7_000_000, False
    with store.get("a") as stream:
        stream.read(1000)
        server.objects["a"] = LARGE[:-1]
        assert error_of(stream.read).code == "STORE-004"


def test_a_listing_that_fails_in_the_middle_is_not_a_short_one(server: Bucket, store: Store) -> None:
    server.page = 3
    for number in range(10):
        store.put(f"a/{number}", io.BytesIO())
    server.refuse = lambda asked: 503 if "continuation-token=6" in asked else None
    assert error_of(lambda: list(store.list())).code == "STORE-001"


def test_a_server_that_keeps_folders_sorts_as_they_do(server: Bucket, store: Store) -> None:
    server.order, server.page = order_of, 2
    names = ["wal/1.history", "wal/1/a", "wal/1/b", "wal/2/a", "wal.txt"]
    for one in names:
        store.put(one, io.BytesIO())
    assert [one.key for one in store.list()] == sorted(names, key=order_of)


def test_large_objects_go_up_in_parts_and_small_ones_in_one(server: Bucket, store: Store) -> None:
    store.put("small", io.BytesIO(LARGE[: 8 * 1024 * 1024]))
    assert [one for one in server.asked if "uploadId" in one] == []
    store.put("large", io.BytesIO(LARGE[: 8 * 1024 * 1024 + 1]))
    assert len([one for one in server.asked if "partNumber" in one]) == 2
    server.asked.clear()
    store.put("huge", io.BytesIO(LARGE), expected=150_000_000_000)
    assert len([one for one in server.asked if "partNumber" in one]) == 2


def test_more_than_fits_into_the_parts_is_refused(
    server: Bucket, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "_PARTS", 2)
    error = error_of(lambda: store.put("a", io.BytesIO(LARGE)))
    assert error.code == "STORE-002"
    assert "parts" in error.what
    assert (server.sizes, server.uploads) == ({}, {})


@pytest.mark.parametrize("size", [10, len(LARGE)])
def test_a_storage_class_is_asked_for(server: Bucket, store: Store, size: int) -> None:
    store.put("a", io.BytesIO(LARGE[:size]), storage_class="GLACIER_IR")
    store.put("b", io.BytesIO(LARGE[:size]))
    assert server.classes == {"a": "GLACIER_IR"}


def test_the_environment_changes_nothing(server: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BUCKET"):
        monkeypatch.setenv(name, "theirs")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    assert opened(server.address).put("a", io.BytesIO(b"x")).size == 1
    assert server.objects == {"a": b"x"}


MEASURE = """
import resource, sys
from pathlib import Path
from asbuilt.exec.sealing import Sealer, make_identity, open_sealed
from asbuilt.exec.store import FolderSettings, open_store
from support.s3 import Bucket
from support.streaming import Endless

where, size = sys.argv[1], int(sys.argv[2])
remote = where.startswith("http")
store = open_store(Bucket(address=where).settings() if remote else FolderSettings(Path(where)))
store.put("warm", Endless(1000))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

begun = peak()
assert store.put("clear", Endless(size)).size == size
key, recipient = make_identity()
assert store.put("sealed", Sealer((recipient,)).seal(Endless(size))).size > size
if not remote:
    with store.get("sealed") as sealed, open_sealed(sealed, [key]) as clear:
        while clear.read(1_000_000):
            pass
print(peak() - begun)
"""


@pytest.mark.parametrize("kind", ["bucket", "folder"])
def test_memory_stays_constant(server: Bucket, tmp_path: Path, kind: str) -> None:
    server.keep = False
    where = server.address if kind == "bucket" else str(tmp_path)
    size = 200_000_000
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, where, str(size)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 90_000_000


SAID = {
    "no such host": (
        """Generic S3 error: Error performing PUT http://no.such/b/x in 1s, after 4 retries - HTTP error: e

Debug source:
Generic {
    source: RetryError(
        RetryErrorImpl {
            inner: Http(
                HttpError {
                    kind: Connect,
                    source: reqwest::Error {
                        source: hyper_util::client::legacy::Error(
                            Connect,
                            ConnectError(
                                "dns error",
                                Custom {
                                    kind: Uncategorized,
                                    error: "failed to lookup address information: Name or service not known",
""",
        ("failed to lookup address information: Name or service not known", True),
    ),
    "timeout": (
        (
            "Error performing PUT http://a/b in 2s - HTTP error: error sending request\n\n"
            "Debug source:\n kind: Timeout, source: TimedOut,"
        ),
        ("no answer in time", True),
    ),
    "certificate": (
        (
            "Error performing GET http://a/b in 2s - HTTP error: error\n\n"
            "Debug source:\n InvalidCertificate(UnknownIssuer)"
        ),
        ("InvalidCertificate(UnknownIssuer)", True),
    ),
    "denied": (
        (
            "Error performing PUT http://a/b in 2ms - Server returned non-2xx status code: 403 Forbidden: "
            "<Error><Code>AccessDenied</Code><Message>No.</Message></Error>\n\nDebug source:\n"
        ),
        ("403 Forbidden: AccessDenied No.", False),
    ),
    "busy": (
        "Error - Server returned non-2xx status code: 503 Service Unavailable: ",
        ("503 Service Unavailable", True),
    ),
    "elsewhere": (
        "Error performing GET http://a in 2ms - Received redirect without LOCATION",
        ("Received redirect without LOCATION", False),
    ),
    "kept": (
        (
            "Generic S3 error: DeleteObjects request failed for key a/b: Access Denied because object "
            "protected (code: AccessDenied)\n\nDebug source:\nGeneric {"
        ),
        ("AccessDenied Access Denied because object protected", False),
    ),
    "busy with one": (
        "Generic S3 error: DeleteObjects request failed for key a/b:  (code: InternalError)",
        ("InternalError", True),
    ),
    "else": ("something else", ("something else", True)),
}


@pytest.mark.parametrize("name", SAID)
def test_what_obstore_says(name: str) -> None:
    text, said = SAID[name]
    assert parse_said(text) == said


def test_what_is_locked_is_refused_and_the_rest_goes(store: Store, server: Bucket) -> None:
    for key in ("a", "b", "c"):
        store.put(key, io.BytesIO(b"x"))
    server.locked = {"b"}
    error = error_of(lambda: store.delete(["a", "b", "c"]))
    assert error.code == "STORE-002"
    assert "object protected" in error.what
    assert list(server.objects) == ["b"]


def test_a_locked_bucket_gets_the_checksums_it_asks_for(server: Bucket) -> None:
    store = open_bucket(replace(server.settings(), checksums=True))
    store.put("a", io.BytesIO(b"x"))
    assert store.put("large", io.BytesIO(LARGE)).size == len(LARGE)
    assert server.checksums >= {"PUT a"}
    assert [one for one in server.checksums if one.startswith("PUT large")]
