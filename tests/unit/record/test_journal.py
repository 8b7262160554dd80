"""The journal: what it remembers, and what it does when its file or its disk is broken."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from asbuilt.record.journal import KEPT_OPERATIONS, Journal
from asbuilt.record.lock import acquire
from asbuilt.record.releases import Releases, ReleaseState
from asbuilt.values.errors import AsbuiltError
from support import until

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.sqlite"


def opened(path: Path) -> Journal:
    return Journal.open(path, clock=Clock())


def filled(path: Path, *, operations: int = 3) -> None:
    with closing(opened(path)) as journal:
        for number in range(operations):
            one = journal.begin_operation("up", epoch=number + 1, owner="me@here 1", plan=["x" * 300] * 20)
            journal.intend_step(one, "start:db-1")
            journal.complete_step(one, "start:db-1", "done", "ready")
            journal.finish_operation(one, "done")
            journal.remember_setup(f"setup-{number}", f"key-{number}")
        Releases(journal).create("artifact", created_by="me", config_digest="c")


def test_operations_and_steps_are_remembered(path: Path) -> None:
    with closing(opened(path)) as journal:
        assert journal.rebuilt
        one = journal.begin_operation("up", epoch=4, owner="me@here 1", plan={"steps": []})
        journal.intend_step(one, "a")
        journal.intend_step(one, "b")
        journal.complete_step(one, "a", "done", "ready after 1 s")
        journal.finish_operation(one, "failed", error={"code": "X-1"})
    with closing(opened(path)) as journal:
        assert not journal.rebuilt
        last = journal.last_operations()[0]
        assert (last.verb, last.epoch, last.outcome, last.error) == ("up", 4, "failed", {"code": "X-1"})
        assert last.plan == {"steps": []}
        a, b = journal.steps(one)
        assert (a.step, a.outcome, a.detail) == ("a", "done", "ready after 1 s")
        assert (b.step, b.done_at, b.outcome) == ("b", None, None)


def test_an_intent_after_a_crash_renews_the_first(path: Path) -> None:
    with closing(opened(path)) as journal:
        one = journal.begin_operation("up", epoch=1, owner="me", plan=[])
        journal.intend_step(one, "a")
        journal.complete_step(one, "a", "failed", "no")
        journal.intend_step(one, "a")
        (step,) = journal.steps(one)
        assert (step.outcome, step.done_at, step.detail) == (None, None, "")


def test_setups_and_facts(path: Path) -> None:
    with closing(opened(path)) as journal:
        journal.remember_setup("seed", "k1")
        journal.remember_setup("seed", "k2")
        journal.remember_setup("bucket", "k")
        journal.forget_setup("bucket")
        assert journal.setups() == {"seed": "k2"}
        journal.remember_facts({"slot": "20", "port": "5432"})
        journal.forget_fact("port")
        assert (journal.fact("slot"), journal.fact("port"), journal.facts()) == ("20", None, {"slot": "20"})


def test_old_operations_are_dropped_and_ids_go_on(path: Path) -> None:
    with closing(opened(path)) as journal:
        for _ in range(KEPT_OPERATIONS + 5):
            last = journal.begin_operation("up", epoch=1, owner="me", plan=[])
            journal.intend_step(last, "a")
        kept = journal.last_operations(1000)
        assert len(kept) <= KEPT_OPERATIONS + 1
        assert kept[0].id == last == KEPT_OPERATIONS + 5
        assert len(journal.rows("SELECT 1 FROM steps")) == len(kept)


def test_it_is_private_durable_and_in_wal_mode(path: Path) -> None:
    old = os.umask(0)
    try:
        with closing(opened(path)) as journal:
            journal.remember_setup("a", "b")
            modes = {p.name: p.stat().st_mode & 0o777 for p in path.parent.iterdir()}
            assert set(modes.values()) == {0o600}
            assert "journal.sqlite-wal" in modes
            assert journal.rows("PRAGMA synchronous") == [(2,)]
            assert journal.rows("PRAGMA journal_mode") == [("wal",)]
    finally:
        os.umask(old)


def test_many_threads_write_at_once(path: Path) -> None:
    with closing(opened(path)) as journal:
        one = journal.begin_operation("up", epoch=1, owner="me", plan=[])

        def work(number: int) -> None:
            for turn in range(10):
                journal.intend_step(one, f"{number}-{turn}")
                journal.complete_step(one, f"{number}-{turn}", "done")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len([s for s in journal.steps(one) if s.outcome == "done"]) == 80


def test_a_write_that_raises_leaves_nothing(path: Path) -> None:
    with closing(opened(path)) as journal:
        with pytest.raises(KeyError), journal.write() as db:  # noqa: PT012 - a failing block is the question
            db.execute("INSERT INTO facts VALUES ('a', 'b')")
            raise KeyError
        assert journal.facts() == {}
        journal.remember_facts({"c": "d"})


@pytest.mark.parametrize(
    "content",
    [b"not a database", b"\0" * 4096, b"SQLite format 3\0" + b"\xff" * 5000, os.urandom(20000)],
    ids=["text", "zeros", "header", "noise"],
)
def test_garbage_is_moved_aside_and_a_fresh_one_started(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    for number in (1, 2):
        path.write_bytes(content)
        with closing(opened(path)) as journal:
            aside = path.with_name(f"journal.sqlite.corrupt-{number}")
            assert (journal.rebuilt, journal.moved_aside) == (True, aside)
            assert aside.read_bytes() == content
            journal.remember_setup("a", "b")
        for beside in path.parent.glob("journal.sqlite-*"):
            beside.unlink()


def test_a_file_cut_at_any_page_is_read_whole_or_moved_aside(path: Path) -> None:
    filled(path, operations=12)
    whole = path.read_bytes()
    size = 4096
    assert len(whole) > 12 * size
    cuts = [n * size + more for n in range(len(whole) // size) for more in (0, 100)]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        with closing(opened(path)) as journal:
            assert journal.rebuilt, cut
            assert journal.last_operations() == ()
            journal.remember_setup("still", "writable")
            assert journal.moved_aside is not None or cut == 0


def test_flipped_bytes_never_give_a_traceback(path: Path) -> None:
    filled(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 509):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        damaged[(place * 7) % len(whole)] ^= 0x55
        path.write_bytes(bytes(damaged))
        try:
            with closing(opened(path)) as journal:
                journal.last_operations()
                journal.remember_setup("a", "b")
        except AsbuiltError as error:
            assert error.code in {"JOURNAL-003", "JOURNAL-005"}  # noqa: PT017 - most places give no error
        for beside in path.parent.glob("journal.sqlite-*"):
            beside.unlink(missing_ok=True)


def test_a_database_of_another_program_is_not_written_to(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs(x)")
        other.commit()
    before = path.read_bytes()
    with closing(opened(path)) as journal:
        assert journal.moved_aside is not None
        assert journal.moved_aside.read_bytes() == before


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    filled(path)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 99")
        raw.commit()
    with pytest.raises(AsbuiltError) as caught:
        opened(path)
    assert caught.value.code == "JOURNAL-003"
    assert "99" in caught.value.what
    assert not list(path.parent.glob("*.corrupt-*"))


def test_a_full_disk_is_an_error_with_a_hint_and_loses_nothing(path: Path) -> None:
    with closing(opened(path)) as journal:
        journal.remember_setup("before", "k")
        pages = journal.rows("PRAGMA page_count")[0][0]
        journal.rows(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(AsbuiltError) as caught:
            journal.begin_operation("up", epoch=1, owner="me", plan=["x" * 100_000])
        assert caught.value.code == "JOURNAL-002"
        assert caught.value.hint
        journal.rows("PRAGMA max_page_count = 100000")
        journal.begin_operation("up", epoch=1, owner="me", plan=["x" * 100_000])
        assert journal.setups() == {"before": "k"}


def test_a_folder_that_cannot_be_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AsbuiltError) as caught:
        opened(tmp_path / "file" / "journal.sqlite")
    assert caught.value.code == "JOURNAL-001"
    assert caught.value.hint


READ_ONLY = """
import sys, time
from pathlib import Path
from asbuilt.record.journal import Journal
from asbuilt.values.errors import AsbuiltError
try:
    journal = Journal.open(Path(sys.argv[1]), clock=time.time)
    journal.begin_operation("up", epoch=1, owner="me", plan=["x" * 3_000_000])
except AsbuiltError as error:
    print(error.code)
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounts need root")
@pytest.mark.parametrize(
    ("mount", "code"),
    [("mount -t tmpfs -o size=1M none {0}", "JOURNAL-002"), ("mount -t tmpfs -o ro none {0}", "JOURNAL-001")],
)
def test_real_full_and_read_only_disks(tmp_path: Path, mount: str, code: str) -> None:
    script = f'{mount.format(tmp_path)} && exec {sys.executable} -c "$1" {tmp_path}/journal.sqlite'
    # The mount lives in a namespace of its own and ends with the process.
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", READ_ONLY],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0 and "mount" in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    assert done.stdout.strip() == code, done.stderr


WRITER = """
import sys, time
from pathlib import Path
from asbuilt.record.journal import Journal
journal = Journal.open(Path(sys.argv[1]), clock=time.time)
operation = journal.begin_operation("up", epoch=1, owner="me", plan=[])
for number in range(100000):
    journal.intend_step(operation, f"{number:06}")
    print(f"intent {number:06}", flush=True)
    journal.complete_step(operation, f"{number:06}", "done")
    print(f"done {number:06}", flush=True)
"""


def longer(file: Path, size: int) -> bool:
    return file.stat().st_size > size


def test_killed_in_the_middle_of_writes_it_keeps_every_word_it_gave(path: Path, tmp_path: Path) -> None:
    for turn in range(5):
        path.unlink(missing_ok=True)
        for beside in path.parent.glob("journal.sqlite-*"):
            beside.unlink()
        said = tmp_path / f"said-{turn}"
        with said.open("wb") as out:
            process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=out)
            try:
                until(partial(longer, said, 200 + 333 * turn), what="writes")
            finally:
                process.kill()
                process.wait()
        words = [line.split() for line in said.read_text().splitlines() if len(line.split()) == 2]
        with closing(opened(path)) as journal:
            assert not journal.rebuilt
            steps = {s.step: s.outcome for s in journal.steps(1)}
        for word, number in words:
            assert number in steps
            assert word == "intent" or steps[number] == "done"


def test_a_rolled_back_file_does_not_hand_out_an_old_epoch_or_release(path: Path) -> None:
    filled(path)
    old = path.read_bytes()
    with closing(opened(path)) as journal:
        accepted = 0
        for _ in range(5):
            held = acquire(journal, "up")
            accepted = held.epoch
            held.release()
        Releases(journal).create("b", created_by="me", config_digest="c")
    path.write_bytes(old)
    with closing(opened(path)) as journal:
        assert not journal.rebuilt
        assert acquire(journal, "up", at_least=accepted).epoch == accepted + 1
        assert Releases(journal).create("b", created_by="me", config_digest="c", at_least=3).id == "r3"


def test_damage_while_it_is_open_is_told(path: Path) -> None:
    filled(path, operations=12)
    journal = opened(path)
    with closing(journal):
        path.write_bytes(path.read_bytes()[:4096] + os.urandom(len(path.read_bytes()) - 4096))
        journal.rows("PRAGMA cache_size = 0")
        journal.rows("PRAGMA shrink_memory")
        with pytest.raises(AsbuiltError) as caught:
            journal.rows("SELECT * FROM operations")
        assert caught.value.code == "JOURNAL-005"


def test_two_that_open_a_damaged_file_at_once_move_it_aside_once(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"garbage" * 1000)
    found: list[Journal] = []

    def work() -> None:
        found.append(opened(path))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert [j.moved_aside for j in found if j.moved_aside] == [path.with_name("journal.sqlite.corrupt-1")]
        found[0].remember_setup("a", "b")
        assert all(j.setups() == {"a": "b"} for j in found)
    finally:
        for journal in found:
            journal.close()


def test_reading_does_not_wait_for_a_writer(path: Path) -> None:
    filled(path)
    with closing(opened(path)) as writer, writer.write() as db:
        db.execute("INSERT INTO facts VALUES ('a', 'b')")
        begin = time.monotonic()
        with closing(opened(path)) as reader:
            assert reader.facts().get("a") is None
            assert reader.last_operations()
        assert time.monotonic() - begin < 5


def test_releases_count_up_and_one_is_active(path: Path) -> None:
    with closing(opened(path)) as journal:
        releases = Releases(journal)
        one = releases.create(
            "a1", created_by="me@here", config_digest="c1", git_commit="abc", detail={"n": 1}
        )
        two = releases.create("a2", created_by="me@here", config_digest="c1")
        assert (one.id, two.id, releases.current()) == ("r1", "r2", None)
        releases.mark_active("r1")
        releases.mark_active("r2")
        releases.mark_active("r2")
        current = releases.current()
        assert current is not None
        assert current.id == "r2"
        assert [(r.id, r.state) for r in releases.all()] == [
            ("r2", ReleaseState.ACTIVE),
            ("r1", ReleaseState.RETIRED),
        ]
        found = releases.find("a1", "c1")
        assert found is not None
        assert (found.id, found.git_commit, dict(found.detail)) == ("r1", "abc", {"n": 1})
        releases.mark("r1", ReleaseState.FAILED)
        failed = releases.find("a1", "c1")
        assert failed is not None
        assert failed.state is ReleaseState.FAILED
        releases.remove("r2")
        releases.remove("r1")
        assert releases.create("a3", created_by="me", config_digest="c").id == "r3"
        with pytest.raises(AsbuiltError) as caught:
            releases.mark_active("r9")
        assert caught.value.code == "RELEASE-001"
