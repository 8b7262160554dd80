"""A folder that somebody else writes to: nothing outside of it is touched, and nothing half is kept."""

from __future__ import annotations

import errno
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from asbuilt.exec.tree import CHANGED, Owner, Tree
from asbuilt.plan.manifest import Entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asbuilt.exec.streams import Readable


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def tree(root: Path) -> Tree:
    return Tree(root, Owner(os.geteuid(), os.getegid()))


def read(
    entry: Entry, root: Path, meanwhile: Callable[[], object] = lambda: None
) -> tuple[Entry | None, bytes]:
    content = b""

    def keep(reader: Readable) -> tuple[tuple[str, ...], int]:
        nonlocal content
        content = b"".join(iter(lambda: reader.read(4), b""))
        meanwhile()
        return ("one",), len(content)

    return tree(root).read(entry, keep), content


def test_a_walk_is_in_the_order_of_paths_and_follows_no_link(root: Path, tmp_path: Path) -> None:
    (root / "a").mkdir(mode=0o750)
    for name in ("a/z", "a/b", "a.b", "a b", os.fsdecode(b"n\xff")):
        (root / name).write_bytes(b"12")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("key")
    (root / "way-out").symlink_to(tmp_path / "secret")
    (root / "dangling").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "s"))
    found = list(tree(root).walk())
    assert [one.order for one in found] == sorted(one.order for one in found)
    assert {one.path: one.kind for one in found} == {
        "a": "folder",
        "a/b": "file",
        "a/z": "file",
        "a b": "file",
        "a.b": "file",
        "dangling": "link",
        os.fsdecode(b"n\xff"): "file",
        "s": "special",
        "way-out": "link",
    }
    assert next(one for one in found if one.path == "a").mode == 0o750
    assert next(one for one in found if one.path == "way-out").target == str(tmp_path / "secret")


def test_what_changes_while_it_is_read_is_read_again(root: Path) -> None:
    path = root / "log"
    path.write_bytes(b"one")
    (entry,) = tree(root).walk()
    lines = [b"two", b""]
    found, content = read(entry, root, lambda: path.open("ab").write(lines.pop(0)) if lines else None)
    assert found is not None
    assert (found.problem, found.size, content) == ("", 6, b"onetwo")
    found, content = read(entry, root, lambda: path.open("ab").write(b"x"))
    assert found is not None
    assert (found.problem, found.stamp, found.size) == (CHANGED, "", len(content))


def test_what_is_gone_or_became_something_else_is_told(root: Path, tmp_path: Path) -> None:
    (root / "a").mkdir()
    (root / "a" / "f").write_text("inside")
    entry = next(one for one in tree(root).walk() if one.kind == "file")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").write_text("outside")
    (root / "a").rename(tmp_path / "moved")
    (root / "a").symlink_to(tmp_path / "a")
    assert read(entry, root) == (None, b""), "the folder became a link to another one"
    (root / "a").unlink()
    os.mkfifo(root / "f")
    found, _ = read(Entry("f", "file"), root)
    assert found is not None
    assert found.kind == "special"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_named(root: Path) -> None:
    (root / "f").touch(mode=0)
    (root / "d").mkdir(mode=0)
    assert [one.problem for one in tree(root).walk()] == ["Permission denied", ""]
    found, _ = read(Entry("f", "file"), root)
    assert found is not None
    assert found.problem == "Permission denied"


def test_files_folders_and_links_come_back_as_they_were(root: Path, tmp_path: Path) -> None:
    place = tree(root)
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "a").symlink_to(outside)  # what stands in the way is replaced, not followed
    place.write(Entry("a/b/f", "file", 4, mtime=10**18, mode=0o640), [b"te", b"xt"])
    place.make_link(Entry("a/l", "link", mtime=10**18, target="b/f"))
    place.make_folder("a/e")
    place.settle_folder(Entry("a/e", "folder", mtime=10**18, mode=0o711))
    assert not list(outside.iterdir())
    assert (root / "a/b/f").read_bytes() == b"text"
    found = {one.path: one for one in place.walk()}
    assert (found["a/b/f"].mode, found["a/b/f"].mtime) == (0o640, 10**18)
    assert (found["a/l"].target, found["a/l"].mtime) == ("b/f", 10**18)
    assert (found["a/e"].mode, found["a/e"].mtime) == (0o711, 10**18)
    place.write(Entry("a", "file"), [b"a file now"])
    assert (root / "a").read_bytes() == b"a file now"
    place.remove("a")
    place.remove("a/b/f")
    assert not list(root.iterdir())


def test_nothing_half_is_left(root: Path) -> None:
    def broken() -> object:
        yield b"half"
        raise ValueError("no more")

    (root / "f").write_text("before")
    with pytest.raises(ValueError, match="no more"):
        tree(root).write(Entry("f", "file"), broken())  # type: ignore[arg-type]
    assert [path.name for path in root.iterdir()] == ["f"]
    assert (root / "f").read_text() == "before"


@pytest.mark.parametrize("path", ["../f", "a/../f", "", "/etc/f", "a//f", "..", ".", "a/.", "a\0b"])
def test_a_path_that_leads_out_is_refused(root: Path, path: str) -> None:
    (root / "a").mkdir()
    (root / "a" / "kept").touch()
    acts: tuple[Callable[[], object], ...] = (
        lambda: tree(root).write(Entry(path, "file"), [b"x"]),
        lambda: tree(root).make_folder(path),
        lambda: tree(root).make_link(Entry(path, "link", target="x")),
        lambda: tree(root).remove(path),
    )
    for act in acts:
        with pytest.raises(OSError, match="no path below"):
            act()
    assert [path.name for path in root.rglob("*")] == ["a", "kept"]


def test_a_folder_that_goes_while_it_is_walked_is_no_error(root: Path) -> None:
    for name in ("a", "b"):
        (root / name).mkdir()
    found = tree(root).walk()
    assert next(found).path == "a"
    (root / "a").rmdir()
    assert [one.path for one in found] == ["b"]


def test_a_folder_that_cannot_be_listed_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (root / name).mkdir()
    plain, asked = os.listdir, []

    def refuse(folder: int) -> list[str]:
        asked.append(folder)
        if len(asked) == 2:
            raise OSError(errno.EIO, "Input/output error")
        return plain(folder)

    monkeypatch.setattr("asbuilt.exec.tree.os.listdir", refuse)
    assert [(one.path, one.problem) for one in tree(root).walk()] == [("a", "Input/output error"), ("b", "")]


def test_a_file_that_grows_as_fast_as_it_is_read_has_an_end(root: Path) -> None:
    path = root / "log"
    path.write_bytes(b"0123")
    (entry,) = tree(root).walk()

    def keep(reader: Readable) -> tuple[tuple[str, ...], int]:
        size = 0
        while chunk := reader.read(4):
            size += len(chunk)
            with path.open("ab") as file:
                file.write(b"more")
            assert size < 100
        return ("one",), size

    found = tree(root).read(entry, keep)
    assert found is not None
    assert found.problem == CHANGED


def test_several_at_once_make_the_same_folder_in_the_place_of_a_file(root: Path) -> None:
    for number in range(20):
        (root / f"{number}").write_text("in the way")
        place = tree(root)
        with ThreadPoolExecutor(4) as pool:
            entries = [Entry(f"{number}/{one}", "file") for one in "abcdefgh"]
            list(pool.map(place.write, entries, [[b"x"]] * len(entries)))
        assert len(list((root / f"{number}").iterdir())) == 8
