"""A folder that is not mounted, full, not ours; and what a killed process leaves in it."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asbuilt.exec import folder as module
from asbuilt.exec.folder import FolderSettings, FolderStore
from asbuilt.values.errors import AsbuiltError
from support import until
from support.streaming import Choppy


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(FolderSettings(tmp_path))


def refused(error: int) -> object:
    def fail(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    return fail


def code_of(call: object) -> str:
    with pytest.raises(AsbuiltError) as caught:
        call()  # type: ignore[operator]
    assert caught.value.hint
    return caught.value.code


def test_a_folder_that_is_not_mounted_is_not_an_empty_store(tmp_path: Path) -> None:
    store = FolderStore(FolderSettings(tmp_path / "mount", "shop/production/"))
    for call in (
        lambda: store.put("a", io.BytesIO(b"x")),
        lambda: store.get("a"),
        lambda: store.head("a"),
        lambda: list(store.list()),
    ):
        assert code_of(call) == "STORE-001"
    assert not (tmp_path / "mount").exists()
    (tmp_path / "mount").mkdir()
    store.put("a", io.BytesIO(b"x"))
    assert [one.key for one in store.list()] == ["a"]


def test_files_and_folders_are_private(store: FolderStore, tmp_path: Path) -> None:
    store.put("base/1/tar", io.BytesIO(b"x"))
    assert (tmp_path / "base/1/tar").stat().st_mode & 0o777 == 0o600
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "base", tmp_path / "base/1")} == {0o700}


FAILURES = {
    errno.ENOSPC: "STORE-001",
    errno.EIO: "STORE-001",
    errno.ESTALE: "STORE-001",
    errno.EROFS: "STORE-002",
}


@pytest.mark.parametrize("error", FAILURES)
@pytest.mark.parametrize("step", ["_write", "_sync"])
def test_a_disk_that_fails_leaves_nothing(store: FolderStore, tmp_path: Path, error: int, step: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, step, refused(error))
        assert code_of(lambda: store.put("a/b", Choppy(b"x" * 100_000))) == FAILURES[error]
    assert list((tmp_path / ".incoming").iterdir()) == []
    if step == "_write":
        assert list(store.list()) == []


def test_whole_and_on_the_disk_before_it_has_its_name(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool]] = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve().relative_to(tmp_path)
        seen.append((path.parts[0] if path.parts else "", (tmp_path / "base/1/tar").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    store.put("base/1/tar", io.BytesIO(b"x" * 1000))
    file, *folders = seen
    assert file == (".incoming", False)
    assert folders == [("base", True), ("base", True), ("", True)]


def test_folders_that_cannot_be_synced_are_fine(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def no_folders(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112 - a path of the kernel's
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", no_folders)
    store.put("a/b", io.BytesIO(b"x"))
    store.delete(["a/b"])


def test_empty_folders_go_with_their_last_file(store: FolderStore, tmp_path: Path) -> None:
    for key in ("base/1/tar", "base/2/tar"):
        store.put(key, io.BytesIO())
    store.delete(["base/1/tar"])
    assert [one.name for one in (tmp_path / "base").iterdir()] == ["2"]
    store.delete(["base/2/tar"])
    assert sorted(one.name for one in tmp_path.iterdir()) == [".incoming"]


def test_strange_files_are_not_objects(store: FolderStore, tmp_path: Path) -> None:
    store.put("a", io.BytesIO())
    (tmp_path / "Thumbs of mine").write_text("x")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "b").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert [one.key for one in store.list()] == ["a"]


def test_a_file_that_shrinks_while_it_is_read(store: FolderStore, tmp_path: Path) -> None:
    store.put("a", io.BytesIO(b"x" * 1_000_000))
    with store.get("a") as stream:
        stream.read(10)
        (tmp_path / "a").write_bytes(b"x" * 400_000)
        assert code_of(stream.read) == "STORE-004"


PUT_FOREVER = """
import sys
from pathlib import Path
from asbuilt.exec.folder import FolderSettings, FolderStore
class Zeros:
    def read(self, size=-1):
        print("more", flush=True)
        return bytes(1000)
FolderStore(FolderSettings(Path(sys.argv[1]))).put("base/1/tar", Zeros())
"""


def test_what_a_killed_process_left_is_removed_a_day_later(tmp_path: Path) -> None:
    incoming = tmp_path / ".incoming"
    process = subprocess.Popen([sys.executable, "-c", PUT_FOREVER, str(tmp_path)], stdout=subprocess.DEVNULL)
    try:
        until(lambda: incoming.is_dir() and [p for p in incoming.iterdir() if p.stat().st_size], what="bytes")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(FolderStore(FolderSettings(tmp_path)).list()) == []
    FolderStore(FolderSettings(tmp_path)).put("a", io.BytesIO())
    (left,) = incoming.iterdir()
    old = time.time() - 90_000
    os.utime(left, (old, old))
    FolderStore(FolderSettings(tmp_path)).put("a", io.BytesIO())
    assert list(incoming.iterdir()) == []
