"""Copies of files: only what is new is stored, all comes back as it was, none loses a piece by pruning."""

from __future__ import annotations

import errno
import os
import random
import time
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asbuilt.exec.sealing import make_identity
from asbuilt.exec.store import REFUSED
from asbuilt.operations.backup import parts, snapshot
from asbuilt.operations.backup.archive import read_copies
from asbuilt.operations.backup.bring_back import bring_beside, bring_in_place
from asbuilt.operations.backup.context import hold
from asbuilt.operations.backup.manifests import open_manifest
from asbuilt.operations.backup.prune import prune
from asbuilt.operations.backup.scrub import scrub
from asbuilt.operations.backup.snapshot import take_snapshot
from asbuilt.operations.backup.verify import verify_each
from asbuilt.plan.manifest import PIECE, Header
from asbuilt.values.errors import AsbuiltError, RefusedError
from support.copy_yard import CopyYard

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from asbuilt.plan.copies import Copy
    from asbuilt.plan.manifest import Entry


@pytest.fixture
def yard(tmp_path: Path) -> CopyYard:
    return CopyYard(tmp_path)


def take(yard: CopyYard) -> Copy:
    return take_snapshot(yard.backups, "files")


def break_off(yard: CopyYard) -> None:
    """Begin a copy that is interrupted at its very end."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "remember_copy", interrupt)
        with pytest.raises(KeyboardInterrupt):
            take(yard)


def seen(folder: Path) -> dict[str, object]:
    """All that has to come back: content, kind, mode, time."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content: object = path.is_symlink() and path.readlink()
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
        time_of = 0 if path.is_dir() and not path.is_symlink() else status.st_mtime_ns
        found[str(path.relative_to(folder))] = (oct(status.st_mode), time_of, content)
    return found


def fill(yard: CopyYard) -> None:
    (yard.files / "avatars").mkdir(mode=0o750)
    (yard.files / "avatars" / "1.png").write_bytes(os.urandom(5000))
    (yard.files / "empty").touch()
    (yard.files / "link").symlink_to("/etc")
    (yard.files / os.fsdecode(b"odd \xff\n")).write_bytes(b"odd")
    (yard.files / "big").write_bytes(os.urandom(PIECE) + b"and some more")


def test_a_copy_comes_back_byte_for_byte(yard: CopyYard, tmp_path: Path) -> None:
    fill(yard)
    copy = take(yard)
    assert (copy.count, copy.problems) == (5, 0)
    assert len(yard.blobs()) == 4
    done = bring_beside(yard.backups, copy, tmp_path / "into")
    assert seen(tmp_path / "into" / "files") == seen(yard.files)
    assert done.count == 5
    with pytest.raises(RefusedError, match="RESTORE-038"):
        bring_beside(yard.backups, copy, tmp_path / "into")
    bring_beside(yard.backups, copy, tmp_path / "some", "avatars/*")
    assert list(seen(tmp_path / "some" / "files")) == ["avatars", "avatars/1.png"]


def test_the_store_learns_no_name_and_no_content(yard: CopyYard) -> None:
    (yard.files / "invoice-of-alice").write_text("a" * 100)
    take(yard)
    for path in yard.vault.rglob("*"):
        assert "alice" not in path.name
        assert not path.is_file() or b"alice" not in path.read_bytes()


def test_the_second_copy_reads_and_stores_only_what_is_new(
    yard: CopyYard, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(yard)
    first = take(yard)
    monkeypatch.setattr("asbuilt.plan.manifest._SETTLED", -(10**12))  # nothing here is older than a moment
    before = yard.blobs()
    with (yard.files / "big").open("ab") as file:
        file.write(b"!")
    (yard.files / "copy of it").write_bytes((yard.files / "avatars" / "1.png").read_bytes())
    read: list[str] = []
    source = parts.open_source

    def listened(*words: object) -> object:
        found = source(*words)  # type: ignore[arg-type]
        plain: Any = found.read

        def noted(entry: Entry, keep: Any) -> Any:  # noqa: ANN401 - passed on as it is
            read.append(entry.path)
            return plain(entry, keep)

        monkeypatch.setattr(found, "read", noted)
        return found

    monkeypatch.setattr(snapshot, "open_source", listened)
    second = take(yard)
    assert sorted(read) == ["big", "copy of it"]
    assert len(set(yard.blobs()) - set(before)) == 1, "the first piece of the big file is the same"
    assert second.size < first.size / 100
    assert second.clear_size == first.clear_size + 5001


def test_the_same_content_is_put_by_one_thread_alone(yard: CopyYard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealed twice it has other bytes each time: what is known of one would not fit the other."""
    for number in range(40):
        (yard.files / f"{number}").write_bytes(b"the same")
    put: list[str] = []
    plain = yard.store.put

    def slow(key: str, *words: Any, **more: Any) -> Any:  # noqa: ANN401 - passed on as it is
        put.append(key)
        time.sleep(0.01)
        return plain(key, *words, **more)

    monkeypatch.setattr(yard.store, "put", slow)
    take(yard)
    assert len([key for key in put if key.startswith("blobs/")]) == 1
    (known,) = yard.catalogue.stored("blobs/")
    assert yard.store.digest(known.key) == (known.size, known.sha256)


def test_other_recipients_get_everything_anew(yard: CopyYard) -> None:
    fill(yard)
    take(yard)
    before = yard.blobs()
    yard.recipients = (yard.recipient,)
    assert take(yard).size < 5000, "the same key, named twice"
    yard.recipients = (make_identity()[1],)
    take(yard)
    assert len(yard.blobs()) == 2 * len(before)


def test_what_is_not_whole_is_named_and_the_rest_is_there(
    yard: CopyYard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(yard)
    os.mkfifo(yard.files / "fifo")
    plain = os.open

    def refuse(path: object, *words: object, **more: object) -> int:
        if path == "1.png":
            raise OSError(errno.EIO, "Input/output error")
        return plain(path, *words, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("asbuilt.exec.tree.os.open", refuse)
        copy = take(yard)
    assert (copy.count, copy.problems, copy.good) == (5, 1, False)
    assert yard.told == ["files: avatars/1.png: Input/output error", "files: fifo: no file: left out"]
    done = bring_beside(yard.backups, copy, tmp_path / "into")
    assert done.problems == ["avatars/1.png: Input/output error"]
    with pytest.raises(AsbuiltError, match="RESTORE-040"):
        done.check()
    assert len(seen(tmp_path / "into" / "files")) == len(seen(yard.files)) - 2
    assert take(yard).problems == 0, "the next one tries again"


def test_in_place_everything_is_as_it_was_and_the_present_is_kept(yard: CopyYard, tmp_path: Path) -> None:
    fill(yard)
    copy, then = take(yard), seen(yard.files)
    (yard.files / "big").unlink()
    (yard.files / "avatars" / "1.png").write_text("another")
    (yard.files / "avatars").chmod(0o700)
    (yard.files / "new").mkdir()
    (yard.files / "new" / "file").touch()
    (yard.files / "link").unlink()
    (yard.files / "link").mkdir()
    (yard.files / "link" / "x").touch()
    now = seen(yard.files)
    part = bring_in_place(yard.backups, copy, "avatars/*")
    assert (part.count, part.same, part.removed) == (1, 0, 0)
    bring_beside(
        yard.backups, next(one for one in read_copies(yard.backups) if one.id == part.point), tmp_path
    )
    assert seen(tmp_path / "files") == now
    done = bring_in_place(yard.backups, copy)
    assert seen(yard.files) == then
    assert done.problems == []
    again = bring_in_place(yard.backups, copy)
    assert (again.count, again.removed, again.same) == (0, 0, 5)


def test_a_damaged_piece_costs_its_file_alone(yard: CopyYard, tmp_path: Path) -> None:
    fill(yard)
    copy = take(yard)
    small = min(yard.blobs(), key=lambda path: path.stat().st_size)
    small.write_bytes(small.read_bytes()[:-1] + b"?")
    with pytest.raises(AsbuiltError, match="BACKUP-006") as caught:
        list(verify_each(yard.backups))
    assert len(caught.value.evidence) == 1
    assert read_copies(yard.backups)[0].bad
    done = bring_beside(yard.backups, copy, tmp_path / "into")
    assert done.count == 4
    assert len(done.problems) == 1
    small.unlink()
    with pytest.raises(AsbuiltError, match="BACKUP-006"):
        list(verify_each(yard.backups))
    take(yard)
    assert small.exists(), "the next copy stores it again"
    (tried,) = verify_each(yard.backups)
    assert tried.good


def test_reading_back_finds_a_damaged_piece_and_whom_it_concerns(
    yard: CopyYard, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(yard)
    take(yard)
    (tried,) = verify_each(yard.backups)
    assert tried.good
    (one, *_) = yard.blobs()
    one.write_bytes(one.read_bytes()[:-1] + b"?")
    monkeypatch.setattr("asbuilt.operations.backup.scrub.WITHIN", -10.0)
    assert scrub(yard.backups).damaged == (str(one.relative_to(yard.vault)),)
    assert read_copies(yard.backups)[0].bad
    take(yard)
    assert [one.good for one in verify_each(yard.backups)] == [True]


def test_one_that_was_killed_leaves_what_the_next_one_uses(yard: CopyYard) -> None:
    fill(yard)
    break_off(yard)
    left = yard.blobs()
    assert read_copies(yard.backups) == ()
    prune(yard.backups)
    assert yard.blobs() == left, "they may be for the next one"
    assert not list(yard.vault.glob("files/*/*")), "a manifest without a description is a leftover"
    copy = take(yard)
    assert copy.size < 5000
    assert yard.blobs() == left


def test_pieces_of_an_interrupted_copy_go_when_nothing_needs_them(yard: CopyYard) -> None:
    fill(yard)
    take(yard)
    needed = yard.blobs()
    (yard.files / "passing").write_bytes(b"seen once")
    break_off(yard)
    assert len(yard.blobs()) == len(needed) + 1
    (yard.files / "passing").unlink()
    prune(yard.backups)
    assert len(yard.blobs()) == len(needed) + 1, "stored since the last copy"
    time.sleep(0.002)
    take(yard)
    prune(yard.backups)
    assert yard.blobs() == needed


def test_what_the_store_keeps_locked_is_told_and_stays_known(
    yard: CopyYard, monkeypatch: pytest.MonkeyPatch
) -> None:
    (yard.files / "a").write_text("a")
    old = take(yard)
    (yard.files / "a").write_text("b")
    locked = {f"files/{old.id}/backup.json"}
    plain = yard.store.delete

    def delete(keys: Iterable[str]) -> None:
        for key in keys:
            if key in locked:
                raise AsbuiltError(REFUSED, "it is locked")
            plain([key])

    monkeypatch.setattr(yard.store, "delete", delete)
    age(yard, old, 20)
    age(yard, take(yard))
    take(yard)
    pruned = prune(yard.backups)
    assert (pruned.backups, pruned.locked) == ((f"files {old.id}",), 1)
    assert old.id in [one.id for one in read_copies(yard.backups)], "as long as it says that it is one"
    assert len(yard.blobs()) == 2, "so nothing of it goes"
    assert prune(yard.backups).locked == 1
    locked.clear()
    assert prune(yard.backups).locked == 0
    assert len(yard.blobs()) == 1


def test_nothing_goes_while_a_backup_is_under_way(yard: CopyYard) -> None:
    with hold(yard.backups, "taking a backup"), pytest.raises(RefusedError, match="BACKUP-002"):
        prune(yard.backups)


def test_a_lost_catalogue_is_made_again_from_the_store(yard: CopyYard) -> None:
    fill(yard)
    copies = (take(yard), take(yard))
    known = [one.key for one in yard.catalogue.stored()]
    yard.catalogue.close()
    for path in yard.root.glob("catalogue*"):
        path.unlink()
    yard.open()
    assert read_copies(yard.backups) == copies
    assert [one.key for one in yard.catalogue.stored()] == known
    assert [one.good for one in verify_each(yard.backups)] == [True]


def test_what_was_in_a_folder_that_could_not_be_read_stays(
    yard: CopyYard, monkeypatch: pytest.MonkeyPatch
) -> None:
    (yard.files / "shut").mkdir()
    (yard.files / "shut" / "a").write_text("precious")
    plain = os.open

    def refuse(path: object, *words: object, **more: object) -> int:
        if path == "shut":
            raise OSError(errno.EACCES, "Permission denied")
        return plain(path, *words, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("asbuilt.exec.tree.os.open", refuse)
        copy = take(yard)
    done = bring_in_place(yard.backups, copy)
    assert (yard.files / "shut" / "a").read_text() == "precious"
    assert done.removed == 0
    assert [one.partition(":")[0] for one in done.problems] == ["shut", "shut/a"]
    assert bring_in_place(yard.backups, copy, "shut/*").removed == 0


def test_a_part_that_is_left_out_by_now_holds_back_no_pieces(yard: CopyYard) -> None:
    fill(yard)
    other = replace(take(yard), part="objects", began=datetime(2026, 1, 1, tzinfo=UTC))
    with (yard.vault / "files" / other.id / "manifest.jsonl.zst.age").open("rb") as file:
        yard.store.put(other.key, file)
    snapshot.remember_copy(yard.backups, other)
    needed = yard.blobs()
    (yard.files / "passing").write_bytes(b"seen once")
    break_off(yard)
    (yard.files / "passing").unlink()
    time.sleep(0.002)
    take(yard)
    assert len(yard.blobs()) == len(needed) + 1
    prune(yard.backups)
    assert yard.blobs() == needed


def test_a_removal_that_was_killed_is_ended_by_the_next(yard: CopyYard) -> None:
    (yard.files / "a").write_text("a")
    old = take(yard)
    take(yard)
    yard.catalogue.forget_backup("files", old.id)
    prune(yard.backups)
    assert not list(yard.vault.glob(f"files/{old.id}/*"))


def age(yard: CopyYard, copy: Copy, seconds: float = 10.0) -> None:
    """Make a copy older."""
    older = timedelta(seconds=seconds)
    snapshot.remember_copy(yard.backups, replace(copy, began=copy.began - older, ended=copy.ended - older))


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from(["write", "delete", "take", "prune", "break"]), max_size=25),
)
def test_no_piece_that_a_copy_needs_is_ever_removed(
    tmp_path_factory: pytest.TempPathFactory, seed: int, actions: list[str]
) -> None:
    chosen = random.Random(seed)
    yard = CopyYard(tmp_path_factory.mktemp("yard"))
    for number, action in enumerate(actions):
        name = yard.files / chosen.choice("abcd")
        if action == "write":
            name.write_text(chosen.choice(["one", "two", "three"]))
        elif action == "delete":
            name.unlink(missing_ok=True)
        elif action == "take":
            for old in read_copies(yard.backups):
                age(yard, old, chosen.choice([0.1, 1.0]))
            take(yard)
        elif action == "prune":
            prune(yard.backups)
        else:
            break_off(yard)
        for copy in read_copies(yard.backups):
            bring_beside(yard.backups, copy, yard.root / f"{number}" / copy.id).check()
    if read_copies(yard.backups):
        take(yard)
        prune(yard.backups)
        assert {path.name.split(".")[0] for path in yard.blobs()} == needed(yard)
    yard.catalogue.close()


def needed(yard: CopyYard) -> set[str]:
    found: set[str] = set()
    for copy in read_copies(yard.backups):
        with open_manifest(yard.backups, copy) as (header, entries):
            assert isinstance(header, Header)
            found |= {name for entry in entries for name in entry.blobs}
    return found


def test_memory_stays_constant(yard: CopyYard) -> None:
    """A file of many pieces takes no more than a few of them."""
    size = 12 * PIECE
    with (yard.files / "zeros").open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    try:
        copy = take(yard)
        assert tracemalloc.get_traced_memory()[1] < 5 * PIECE
    finally:
        tracemalloc.stop()
    assert copy.clear_size == size
    assert len(yard.blobs()) == 1
