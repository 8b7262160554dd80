from __future__ import annotations

import posixpath
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asbuilt.plan.manifest import (
    Entry,
    Header,
    Pair,
    derive_key,
    is_unchanged,
    name_blob,
    pair_up,
    parse_entry,
    parse_header,
    render_entry,
    render_file,
    render_header,
)
from asbuilt.values.errors import AsbuiltError

names = st.binary(min_size=1, max_size=6).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
paths = st.lists(names | st.sampled_from(["a", "b", "a.b", "a b"]), min_size=1, max_size=3).map("/".join)
entries = st.builds(
    Entry,
    path=paths,
    kind=st.sampled_from(["file", "object"]),
    size=st.integers(0, 2**50),
    mtime=st.integers(0, 2**62),
    mode=st.integers(0, 0o1777),
    stamp=st.text(max_size=5),
    blobs=st.lists(st.text("0123456789abcdef", min_size=4, max_size=4), max_size=3).map(tuple),
    target=st.text(max_size=3),
    headers=st.dictionaries(st.sampled_from(["content-type", "x-amz-meta-a"]), st.text(max_size=5)).map(
        lambda found: tuple(found.items())
    ),
    problem=st.text(max_size=5),
)
listings = st.lists(entries, max_size=12, unique_by=lambda one: one.path).map(
    lambda found: sorted(found, key=lambda one: one.order)
)


@given(entries)
def test_a_line_is_read_as_it_was_written(entry: Entry) -> None:
    line = render_entry(entry)
    assert line.isascii()
    assert line.count("\n") == 1
    assert parse_entry(line) == entry


def test_the_first_line_is_read_as_it_was_written() -> None:
    header = Header("files", "20260101T000000Z", datetime(2026, 1, 1, tzinfo=UTC), "ab" * 32)
    assert parse_header(render_header(header)) == header


@pytest.mark.parametrize("line", ["", "{}", '{"path":"a","kind":"disk"}', "[1]"])
def test_a_damaged_line_is_an_error(line: str) -> None:
    for parse in (parse_entry, parse_header):
        with pytest.raises(AsbuiltError, match="RESTORE-012"):
            parse(line)


@given(listings, listings)
def test_two_lists_are_walked_side_by_side(before: list[Entry], now: list[Entry]) -> None:
    found = list(pair_up(before, now))
    old, new = ({one.path: one for one in side} for side in (before, now))
    every = sorted({*old, *new}, key=lambda path: tuple(path.split("/")))
    assert found == [Pair(old.get(path), new.get(path)) for path in every]


def test_what_changed_shortly_before_a_copy_is_read_again() -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    at = int(began.timestamp()) * 10**9
    old = Entry("a", "file", 1, 5, stamp="x")

    def now(**more: object) -> Entry:
        return replace(Entry("a", "file", 1, 5, stamp="x", changed=5), **more)  # type: ignore[arg-type]

    assert is_unchanged(Pair(old, now()), began)
    for other in (now(size=2), now(mtime=6), now(stamp="y"), now(stamp=""), now(kind="object")):
        assert not is_unchanged(Pair(old, other), began)
    assert not is_unchanged(Pair(old, now(changed=at - 10**9)), began)
    assert not is_unchanged(Pair(None, now()), began)
    assert not is_unchanged(Pair(Entry("a", "file", 1, 5, stamp="x", problem="torn"), now()), began)


@given(st.lists(st.text(max_size=4) | st.sampled_from(["..", ".", ""]), min_size=1, max_size=5).map("/".join))
def test_no_key_leaves_the_folder(key: str) -> None:
    path = render_file(key)
    assert "\0" not in path
    assert posixpath.normpath(path) == path
    assert not path.startswith(("/", ".."))


def test_pieces_are_named_for_whom_they_are_sealed_for() -> None:
    one, other = derive_key(b"identity", ("a", "b")), derive_key(b"identity", ("a", "c"))
    assert one == derive_key(b"identity", ("b", "a", "a"))
    assert one not in {other, derive_key(b"another", ("a", "b"))}
    assert name_blob(one, b"text") != name_blob(other, b"text")
