"""The catalogue of backups: what it remembers, and what it does when its file is broken or lost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asbuilt.record.catalogue import (
    KEPT_RUNS,
    Catalogue,
    Difference,
    Listed,
    StoredObject,
    Totals,
    Watermark,
)
from asbuilt.record.journal import Journal
from asbuilt.values.errors import AsbuiltError
from support import until

DIGEST = "ab" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backup" / "catalogue.sqlite"


def opened(path: Path) -> Catalogue:
    return Catalogue.open(path, clock=Clock())


def wal(number: int, *, at: float = 10.0) -> StoredObject:
    return StoredObject(f"wal/00000001/{number:024X}.zst.age", 100 + number, DIGEST, at)


def test_objects_are_remembered_and_forgotten(path: Path) -> None:
    with closing(opened(path)) as catalogue:
        catalogue.remember(wal(number) for number in (3, 1, 2))
        catalogue.remember([StoredObject("base/1/base.tar", 5, None, 11.0)])
        catalogue.remember([wal(2)._replace(size=7)])
        catalogue.forget([wal(1).key, "nothing"])
    with closing(opened(path)) as catalogue:
        assert catalogue.stored("wal/") == [wal(2)._replace(size=7), wal(3)]
        assert catalogue.stored("wal/", after=wal(2).key) == [wal(3)]
        assert [one.key for one in catalogue.stored()] == ["base/1/base.tar", wal(2).key, wal(3).key]
        assert catalogue.find(wal(3).key) == wal(3)
        assert catalogue.find(wal(1).key) is None
        assert catalogue.totals("wal/") == Totals(2, 110)
        assert catalogue.totals("snapshots/") == Totals(0, 0)


def test_what_was_not_read_back_for_long_is_due(path: Path) -> None:
    with closing(opened(path)) as catalogue:
        catalogue.remember(wal(number, at=number * 10.0) for number in range(1, 6))
        catalogue.remember_checks([(wal(1).key, "cd" * 32)])
        assert [one.at for one in catalogue.due(41.0)] == [20.0, 30.0, 40.0]
        assert [one.at for one in catalogue.due(41.0, limit=1)] == [20.0]
        checked = catalogue.find(wal(1).key)
        assert checked is not None
        assert (checked.sha256, checked.at) == ("cd" * 32, 10.0)
        assert checked.checked_at is not None
        assert checked.checked_at > 1000
        assert len(catalogue.due(1e9)) == 5


def test_bases_and_watermark(path: Path) -> None:
    with closing(opened(path)) as catalogue:
        assert catalogue.watermark() is None
        with catalogue.write():
            catalogue.remember([wal(1)])
            catalogue.remember_watermark(Watermark(2, "0/3000000", 99.5))
        catalogue.remember_backup("base", "20261127T000000Z", "{}")
        catalogue.remember_backup("base", "20261126T000000Z", "{}")
        catalogue.remember_backup("base", "20261126T000000Z", '{"verified": true}')
        catalogue.remember_backup("base", "20261128T000000Z", "{}")
        catalogue.forget_backup("base", "20261128T000000Z")
    with closing(opened(path)) as catalogue:
        assert catalogue.watermark() == Watermark(2, "0/3000000", 99.5)
        assert list(catalogue.backups("base").items()) == [
            ("20261126T000000Z", '{"verified": true}'),
            ("20261127T000000Z", "{}"),
        ]


def test_what_belongs_together_is_one_transaction(path: Path) -> None:
    def half(catalogue: Catalogue) -> None:
        with catalogue.write():
            catalogue.remember([wal(1)])
            catalogue.remember_watermark(Watermark(1, "0/1", 1.0))
            raise KeyError("killed")

    with closing(opened(path)) as catalogue:
        with pytest.raises(KeyError):
            half(catalogue)
        assert catalogue.stored() == []
        assert catalogue.watermark() is None
        catalogue.remember([wal(2)])
    with closing(opened(path)) as catalogue:
        assert catalogue.stored() == [wal(2)]


def test_runs(path: Path) -> None:
    with closing(opened(path)) as catalogue:
        base = catalogue.begin_run("base")
        catalogue.finish_run(base, "done", {"id": "20261126T000000Z"})
        killed = catalogue.begin_run("verify")
        assert [one.id for one in catalogue.interrupt_runs()] == [killed]
        assert catalogue.interrupt_runs() == ()
        scrub = catalogue.begin_run("scrub")
        newest, middle, oldest = catalogue.runs()
        assert (newest.id, newest.kind, newest.result, newest.ended) == (scrub, "scrub", None, None)
        assert (middle.result, middle.said) == ("interrupted", None)
        assert (oldest.said, oldest.began < (oldest.ended or 0)) == ({"id": "20261126T000000Z"}, True)
        assert [one.id for one in catalogue.runs(kind="base")] == [base]
        assert len(catalogue.runs(1)) == 1


def test_old_runs_are_dropped(path: Path) -> None:
    with closing(opened(path)) as catalogue, catalogue.write():
        for _ in range(KEPT_RUNS + 5):
            last = catalogue.begin_run("prune")
        kept = catalogue.runs(10_000)
        assert len(kept) <= KEPT_RUNS + 1
        assert kept[0].id == last


def test_a_lost_one_is_filled_from_a_listing(path: Path) -> None:
    listing = [Listed(wal(number).key, 5, 10.0) for number in range(3)]
    with closing(opened(path)) as catalogue:
        assert catalogue.rebuilt
        assert catalogue.incomplete
    with closing(opened(path)) as catalogue:
        # killed before the listing was taken in: still to do
        assert not catalogue.rebuilt
        assert catalogue.incomplete
        assert catalogue.reconcile(listing) == Difference((), (), 3)
        assert not catalogue.incomplete
        assert catalogue.reconcile(listing) == Difference((), (), 0)
        assert catalogue.stored() == [StoredObject(wal(n).key, 5, None, 10.0) for n in range(3)]
    with closing(opened(path)) as catalogue:
        assert not catalogue.incomplete


def test_a_listing_that_fails_changes_nothing(path: Path) -> None:
    def broken() -> object:
        yield Listed("b", 1, 1.0)
        raise AsbuiltError("STORE-001", "gone")

    with closing(opened(path)) as catalogue:
        catalogue.remember([wal(1)])
        with pytest.raises(AsbuiltError):
            catalogue.reconcile(broken())  # type: ignore[arg-type]
        assert catalogue.stored() == [wal(1)]
        assert catalogue.incomplete
        assert catalogue.reconcile([Listed("b", 1, 1.0)]).missing == (wal(1),)


def test_what_is_stored_while_the_listing_is_read_stays(path: Path) -> None:
    def listing(catalogue: Catalogue) -> object:
        yield Listed(wal(1).key, wal(1).size, 10.0)
        catalogue.remember([wal(2, at=catalogue.clock()), wal(3, at=catalogue.clock())])
        yield Listed(wal(3).key, 1, 5000.0)

    with closing(opened(path)) as catalogue:
        catalogue.remember([wal(1)])
        assert catalogue.reconcile(listing(catalogue)) == Difference((), (), 0)  # type: ignore[arg-type]
        assert [one.size for one in catalogue.stored()] == [101, 102, 103]


KEYS = st.sampled_from([f"wal/{n}" for n in range(8)])
SIZES = st.dictionaries(KEYS, st.integers(0, 3))


@given(known=SIZES, listed=SIZES)
@settings(max_examples=25)
def test_reconciled_it_has_what_the_store_has(known: dict[str, int], listed: dict[str, int]) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(opened(Path(folder) / "catalogue.sqlite")) as catalogue,
    ):
        catalogue.remember(StoredObject(key, size, DIGEST, 1.0, 2.0) for key, size in known.items())
        difference = catalogue.reconcile(Listed(key, size, 3.0) for key, size in listed.items())
        found = {one.key: one for one in catalogue.stored()}
        assert {key: one.size for key, one in found.items()} == listed
        assert {one.key for one in difference.missing} == known.keys() - listed.keys()
        assert set(difference.changed) == {k for k in known.keys() & listed.keys() if known[k] != listed[k]}
        assert difference.unknown == len(listed.keys() - known.keys())
        same = {key for key, size in listed.items() if known.get(key) == size}
        assert {key for key, one in found.items() if one.sha256} == same


def test_it_is_private_and_durable(path: Path) -> None:
    old = os.umask(0)
    try:
        with closing(opened(path)) as catalogue:
            catalogue.remember([wal(1)])
            assert {p.stat().st_mode & 0o777 for p in path.parent.iterdir()} == {0o600}
            assert catalogue.rows("PRAGMA synchronous") == [(2,)]
            assert catalogue.rows("PRAGMA journal_mode") == [("wal",)]
    finally:
        os.umask(old)


def test_looking_at_it_while_it_is_written(path: Path) -> None:
    assert Catalogue.look(path, clock=Clock()) is None
    assert not path.exists()
    with closing(opened(path)) as catalogue:
        catalogue.remember([wal(1)])
        reader = Catalogue.look(path, clock=Clock())
        assert reader is not None
        with closing(reader):
            with catalogue.write():
                catalogue.remember([wal(2)])
                assert reader.stored() == [wal(1)]
            assert reader.stored() == [wal(1), wal(2)]


def test_who_looks_does_not_move_a_damaged_one_from_under_the_writer(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(AsbuiltError) as caught:
        Catalogue.look(path, clock=Clock())
    assert caught.value.code == "CATALOGUE-005"
    assert "archiver" in caught.value.hint
    assert [one.name for one in path.parent.iterdir()] == ["catalogue.sqlite"]


@pytest.mark.parametrize("damage", [b"garbage" * 1000, b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_one_is_moved_aside_and_to_be_filled(path: Path, damage: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(damage)
    with closing(opened(path)) as catalogue:
        assert catalogue.rebuilt
        assert catalogue.incomplete
        assert catalogue.moved_aside == path.with_name("catalogue.sqlite.corrupt-1")
        assert catalogue.moved_aside.read_bytes() == damage


def test_cut_anywhere_it_is_never_taken_for_whole(path: Path) -> None:
    with closing(opened(path)) as catalogue:
        catalogue.remember(wal(number) for number in range(500))
        catalogue.reconcile(Listed(wal(n).key, wal(n).size, 10.0) for n in range(500))
    whole = path.read_bytes()
    for cut in range(0, len(whole), 4096 - 7):
        path.write_bytes(whole[:cut])
        with closing(opened(path)) as catalogue:
            assert catalogue.incomplete
            assert catalogue.stored() == []


def test_the_journal_is_no_catalogue(path: Path) -> None:
    with closing(Journal.open(path, clock=Clock())):
        pass
    with closing(opened(path)) as catalogue:
        assert catalogue.moved_aside is not None


def test_a_newer_one_is_left_alone(path: Path) -> None:
    with closing(opened(path)) as catalogue:
        catalogue.rows("PRAGMA user_version = 99")
    with pytest.raises(AsbuiltError) as caught:
        opened(path)
    assert caught.value.code == "CATALOGUE-003"
    assert "catalogue of backups" in caught.value.what


def test_many_threads_write_at_once(path: Path) -> None:
    with closing(opened(path)) as catalogue:

        def work(begin: int) -> None:
            for number in range(20):
                with catalogue.write():
                    catalogue.remember([wal(begin * 100 + number)])
                    catalogue.remember_watermark(Watermark(1, f"{begin}/{number}", 1.0))

        threads = [threading.Thread(target=work, args=(begin,)) for begin in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert catalogue.totals("wal/").objects == 120


WRITER = """
import sys, time
from pathlib import Path
from asbuilt.record.catalogue import Catalogue, StoredObject, Watermark
catalogue = Catalogue.open(Path(sys.argv[1]), clock=time.time)
for number in range(100000):
    with catalogue.write():
        catalogue.remember([StoredObject(f"wal/{number:08}", 1, None, 1.0)])
        catalogue.remember_watermark(Watermark(1, f"{number:08}", 1.0))
    print(f"{number:08}", flush=True)
"""


def longer(file: Path, size: int) -> bool:
    return file.stat().st_size > size


def test_killed_while_it_writes_it_keeps_every_word_it_gave(path: Path, tmp_path: Path) -> None:
    for turn in range(3):
        said = tmp_path / f"said-{turn}"
        with said.open("wb") as out:
            process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=out)
            try:
                until(partial(longer, said, 200 + 333 * turn), what="writes")
            finally:
                process.kill()
                process.wait()
        words = [line for line in said.read_text().splitlines() if len(line) == 8]
        with closing(opened(path)) as catalogue:
            mark = catalogue.watermark()
            assert mark is not None
            assert mark.lsn >= words[-1]
            # the watermark is never ahead of the objects
            assert catalogue.find(f"wal/{mark.lsn}") is not None
        path.unlink()
        for beside in path.parent.glob("catalogue.sqlite-*"):
            beside.unlink()
