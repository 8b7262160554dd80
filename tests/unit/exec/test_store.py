"""What every store promises, asked of each kind: a bucket over HTTP, a folder, memory."""

from __future__ import annotations

import hashlib
import io
import random
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asbuilt.exec.objects import in_order, order_of
from asbuilt.exec.sealing import Sealer, make_identity, open_sealed
from asbuilt.exec.store import (
    BucketSettings,
    Entry,
    FolderSettings,
    Put,
    Store,
    open_memory,
    open_store,
)
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.secret import Secret
from support.s3 import s3_server
from support.streaming import BrokenError, Choppy, no_thread_left

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from asbuilt.exec.streams import Measured

KINDS = ("bucket", "bucket below a prefix", "folder", "folder below a prefix", "memory")
LARGE = random.Random(5).randbytes(20_000_000)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    kind = str(request.param)
    prefix = "my-shop/production/" if "prefix" in kind else ""
    with no_thread_left():
        if kind == "memory":
            yield open_memory()
        elif kind.startswith("folder"):
            yield open_store(FolderSettings(tmp_path, prefix))
        else:
            with s3_server() as server:
                server.page = 7
                yield open_store(server.settings(prefix=prefix))


def read(store: Store, key: str) -> bytes:
    with store.get(key) as stream:
        return stream.read()


def code_of(call: object) -> str:
    with pytest.raises(AsbuiltError) as caught:
        call()  # type: ignore[operator]
    assert caught.value.hint
    return caught.value.code


def keys(entries: Iterator[Entry]) -> list[str]:
    return [one.key for one in entries]


@pytest.mark.parametrize("content", [b"", b"x", b"words " * 50_000, LARGE], ids=["0", "1", "300k", "20M"])
def test_what_is_put_is_there(store: Store, content: bytes) -> None:
    put = store.put("base/1/base.tar", Choppy(content))
    assert put == Put(len(content), hashlib.sha256(content).hexdigest())
    assert read(store, "base/1/base.tar") == content
    assert store.digest("base/1/base.tar") == put
    head = store.head("base/1/base.tar")
    assert (head.key, head.size) == ("base/1/base.tar", len(content))
    assert abs(datetime.now(UTC) - head.modified) < timedelta(minutes=5)


def test_a_key_is_put_again(store: Store) -> None:
    store.put("a", io.BytesIO(LARGE))
    store.put("a", io.BytesIO(b"new"))
    assert read(store, "a") == b"new"
    assert keys(store.list()) == ["a"]


@pytest.mark.parametrize("size", [0, 1000, 20_000_000])
def test_a_reader_that_fails_leaves_nothing(store: Store, size: int) -> None:
    with pytest.raises(BrokenError):
        store.put("a", Choppy(LARGE[:size], fails=True))
    assert code_of(lambda: store.head("a")) == "STORE-003"
    assert keys(store.list()) == []
    store.put("a", io.BytesIO(b"old"))
    with pytest.raises(BrokenError):
        store.put("a", Choppy(LARGE[:size], fails=True))
    assert read(store, "a") == b"old"


def test_what_is_not_there(store: Store) -> None:
    store.put("wal/1/a", io.BytesIO(b"x"))
    for key in ("wal/2", "wal/1", "wal/1/a/b"):
        assert code_of(lambda key=key: store.get(key)) == "STORE-003"
        assert code_of(lambda key=key: store.head(key)) == "STORE-003"
        store.delete([key])
    assert keys(store.list("wal/2/")) == []
    assert keys(store.list()) == ["wal/1/a"]


def test_listing_is_sorted_and_stays_below_its_folder(store: Store) -> None:
    every = ["README.txt", "wal/00000001.history", "walnut"]
    every += [f"wal/0000000{t}/{n:04}" for t in (1, 2) for n in range(20)]
    every += [f"base/{n}/{name}" for n in (1, 2) for name in ("base.tar", "base.json", "base")]
    for one in random.Random(1).sample(every, len(every)):
        store.put(one, io.BytesIO(one.encode()))
    assert keys(store.list()) == sorted(every, key=order_of)
    assert keys(store.list("wal/")) == sorted((k for k in every if k.startswith("wal/")), key=order_of)
    assert keys(store.list("wal/00000002/")) == [f"wal/00000002/{n:04}" for n in range(20)]
    assert {one.key: one.size for one in store.list()} == {one: len(one) for one in every}


def test_listing_is_lazy(store: Store) -> None:
    for number in range(30):
        store.put(f"a/{number:02}", io.BytesIO())
    listing = store.list("a/")
    assert next(listing).key == "a/00"


def test_deleting_many(store: Store) -> None:
    every = [f"wal/1/{number:04}" for number in range(1050)]
    for one in every:
        store._put(one, io.BytesIO(), 0, "")
    store.delete(one for one in [*every, "wal/none"] if one != "wal/1/0500")
    assert keys(store.list()) == ["wal/1/0500"]
    store.delete([])


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a/.b", "ä", "a b", "a\nb"])
def test_keys_that_are_none(store: Store, key: str) -> None:
    for call in (
        store.get,
        store.head,
        lambda key: store.put(key, io.BytesIO()),
        lambda key: store.delete([key]),
    ):
        with pytest.raises(ValueError, match="no key"):
            call(key)
    if key:
        with pytest.raises(ValueError, match="no folder"):
            store.list(f"{key}/x")


def test_from_one_store_to_another_through_other_keys(store: Store) -> None:
    old_key, old = make_identity()
    new_key, new = make_identity()
    store.put("old", Sealer((old,)).seal(io.BytesIO(LARGE)))
    with (
        store.get("old") as sealed,
        open_sealed(sealed, [old_key]) as clear,
        Sealer((new,)).seal(clear) as again,
    ):
        put = store.put("new", again)
    assert (put.size, put.sha256) == (again.sealed.size, again.sealed.sha256)
    with store.get("new") as sealed, open_sealed(sealed, [new_key]) as clear:
        assert clear.read() == LARGE


def test_a_stream_that_was_read_from_before_is_measured_from_there(store: Store) -> None:
    with Sealer((make_identity()[1],)).seal(io.BytesIO(LARGE)) as sealed:
        gone = sealed.read(1000)
        put = store.put("rest", sealed)
    assert put.size == sealed.sealed.size - len(gone)
    assert store.digest("rest") == put


def test_many_threads_at_once(store: Store) -> None:
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                store.put(f"{number}/{turn}", io.BytesIO(b"x" * number))
                store.delete([f"{number}/{turn}"])
            store.put(f"{number}/large", io.BytesIO(LARGE))
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert keys(store.list()) == [f"{number}/large" for number in range(4)]


def test_a_size_that_differs_is_found_and_removed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(store)._put

    def losing(self: Store, key: str, reader: Measured, expected: int, storage_class: str) -> None:
        real(self, key, io.BytesIO(reader.read(10**9)[:-1]), expected, storage_class)

    monkeypatch.setattr(type(store), "_put", losing)
    assert code_of(lambda: store.put("a", io.BytesIO(b"whole"))) == "STORE-004"
    assert keys(store.list()) == []
    monkeypatch.setattr(type(store), "_put", lambda *_: None)
    assert code_of(lambda: store.put("a", io.BytesIO(b"whole"))) == "STORE-004"


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    access, secret = Secret("AKIA-visible"), Secret("very-secret")
    settings = BucketSettings("http://127.0.0.1:1", "b", access, secret)
    store = open_store(settings)
    shown = [repr(settings), str(settings), repr(store), repr(vars(store)), store.where]
    shown.append(repr(open_store(FolderSettings(tmp_path))))
    assert not [text for text in shown if "AKIA" in text or "very-secret" in text]


NAMES = st.lists(st.sampled_from(["a", "b", "a.b", "a-b", "a.b.c", "ab", "a0", "0"]), min_size=1, max_size=4)


@given(
    st.sets(NAMES.map("/".join), max_size=40),
    st.sampled_from([str.encode, order_of]),
    st.sampled_from(["", "a.b/"]),
)
def test_both_orders_of_listings_become_one(paths: set[str], order: object, prefix: str) -> None:
    # a name is a file or a folder, never both
    files = {one for one in paths if not any(other.startswith(f"{one}/") for other in paths)}
    entries = [Entry(prefix + one, 1, datetime.now(UTC)) for one in files]
    listed = sorted(entries, key=lambda one: order(one.key))  # type: ignore[operator]
    assert list(in_order(listed, below=len(prefix))) == sorted(entries, key=lambda one: order_of(one.key))


def test_sorting_holds_back_little() -> None:
    taken = 0

    def listing() -> Iterator[Entry]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield Entry(f"my-shop/wal/00000001/{number:024X}.zst.age", 1, datetime.now(UTC))

    for given_, _ in enumerate(in_order(listing(), below=len("my-shop/"))):
        assert taken - given_ < 5
