"""The operation lock: one winner, told refusals, and takeovers that an old holder cannot undo."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from asbuilt.record.client import Client, start_time
from asbuilt.record.journal import Journal
from asbuilt.record.lock import acquire, look, renewing
from asbuilt.values.errors import RefusedError, ResumableError
from support import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Clock:
    now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Iterator[Journal]:
    with closing(Journal.open(tmp_path / "journal.sqlite", clock=clock)) as one:
        yield one


def test_a_second_one_is_refused_and_told_who_and_since_when(journal: Journal) -> None:
    held = acquire(journal, "deploy")
    with pytest.raises(RefusedError) as caught:
        acquire(journal, "up")
    error = caught.value
    assert error.code == "LOCK-001"
    assert error.exit_status == 3
    for word in (Client.this().owner, "deploy", "2026-11-18T"):
        assert word in error.what
    assert error.hint
    held.release()
    assert acquire(journal, "up").epoch == held.epoch + 1


def test_epochs_only_go_up(journal: Journal) -> None:
    epochs = []
    for seen in (0, 0, 10, 3):
        held = acquire(journal, "up", at_least=seen)
        epochs.append(held.epoch)
        held.release()
    assert epochs == [1, 2, 11, 12]


def test_the_epoch_can_be_lifted_above_what_the_target_has_seen(journal: Journal) -> None:
    held = acquire(journal, "up")
    held.lift(0)
    assert held.epoch == 1
    held.lift(41)
    assert held.epoch == 42
    held.check()
    held.renew()
    holder = look(journal)
    assert holder is not None
    assert (holder.epoch, holder.held) == (42, True)
    held.release()
    assert acquire(journal, "up").epoch == 43


def test_an_expired_lease_is_taken_over_and_the_sleeper_finds_out(journal: Journal, clock: Clock) -> None:
    sleeper = acquire(journal, "up", lease=30)
    clock.now += 29
    with pytest.raises(RefusedError):
        acquire(journal, "down")
    clock.now += 1
    other = acquire(journal, "down")
    assert "silent too long" in other.taken_over
    for act in (sleeper.check, sleeper.renew, lambda: sleeper.lift(sleeper.epoch)):
        with pytest.raises(ResumableError) as caught:
            act()
        assert caught.value.code == "LOCK-002"
        assert "down" in caught.value.what
    assert sleeper.lost.is_set()
    sleeper.release()
    other.check()


def test_a_late_holder_that_nobody_replaced_goes_on(journal: Journal, clock: Clock) -> None:
    held = acquire(journal, "up", lease=30)
    clock.now += 300
    held.check()
    held.renew()
    with pytest.raises(RefusedError):
        acquire(journal, "down")


def test_a_lock_of_a_dead_process_is_taken_over_at_once(tmp_path: Path, journal: Journal) -> None:
    script = (
        "import sys, time; from pathlib import Path; from asbuilt.record.journal import Journal\n"
        "from asbuilt.record.lock import acquire\n"
        f"path = Path({str(tmp_path / 'journal.sqlite')!r})\n"
        "acquire(Journal.open(path, clock=lambda: 1_795_000_000.0), 'up')\n"
        "print('held', flush=True); time.sleep(100)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RefusedError, match=str(process.pid)):
            acquire(journal, "down")
        process.kill()
        # Not reaped yet: a zombie holds nothing.
        until(lambda: start_time(process.pid) is None, what="the death of the holder")
        held = acquire(journal, "down")
        assert str(process.pid) in held.taken_over
        assert "gone" in held.taken_over
    finally:
        process.kill()
        process.communicate()


def test_who_is_dead_and_who_only_may_be() -> None:
    me = Client.this()
    boot, space = me.boot.split("/", 1)
    assert not me.dead()
    assert replace(me, pid_start=me.pid_start + 1).dead()
    assert replace(me, boot=f"{boot}x/{space}").dead()
    assert not replace(me, boot=f"{boot}/pid:[1]", pid_start=1).dead()
    assert not replace(me, host="elsewhere/1", pid_start=1).dead()


def test_another_machine_is_waited_for_until_its_lease_ends(journal: Journal, clock: Clock) -> None:
    there = replace(Client.this(), host="elsewhere/1", owner="you@elsewhere 5", pid=2**22 - 1)
    acquire(journal, "up", client=there, lease=30)
    with pytest.raises(RefusedError, match="you@elsewhere"):
        acquire(journal, "up")
    clock.now += 31
    assert acquire(journal, "up").taken_over


def test_the_lease_is_renewed_while_the_work_goes_on(journal: Journal, clock: Clock) -> None:
    with renewing(acquire(journal, "up", lease=30), every=0.01) as held:
        for _ in range(5):
            clock.now += 25
            until(lambda: (h := look(journal)) is not None and h.expires == clock.now + 30, what="a renewal")
            with pytest.raises(RefusedError):
                acquire(journal, "down")
        held.check()
    holder = look(journal)
    assert holder is not None
    assert not holder.held
    assert not [t for t in threading.enumerate() if t.name == "lock-renewal"]


def test_the_renewal_notices_that_the_lock_is_lost(journal: Journal, clock: Clock) -> None:
    with renewing(acquire(journal, "up", lease=30), every=0.05) as held:
        with journal.write() as db:
            db.execute("UPDATE lock SET expires = ?", (clock.now - 1,))
            db.execute("UPDATE lock SET epoch = epoch + 1, owner = 'other@there 9'")
        assert held.lost.wait(10)
        with pytest.raises(ResumableError, match="other@there"):
            held.check()
    holder = look(journal)
    assert holder is not None
    assert holder.held


def test_of_many_threads_exactly_one_wins(journal: Journal) -> None:
    won: list[int] = []
    gate = threading.Barrier(8)

    def work() -> None:
        gate.wait()
        with suppress(RefusedError):
            won.append(acquire(journal, "up").epoch)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [1]


RACER = """
import sys, time
from pathlib import Path
from asbuilt.record.journal import Journal
from asbuilt.record.lock import acquire
from asbuilt.values.errors import RefusedError
folder = Path(sys.argv[1])
(folder / f"ready-{sys.argv[2]}").touch()
while not (folder / "go").exists():
    pass
try:
    journal = Journal.open(folder / "journal.sqlite", clock=time.time)
    print("won", acquire(journal, "up").epoch, flush=True)
    sys.stdin.read()
except RefusedError as error:
    print(error.code, flush=True)
"""


def test_of_many_processes_exactly_one_wins(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(5)
    ]
    try:
        until(lambda: len(list(tmp_path.glob("ready-*"))) == 5, what="all racers")
        (tmp_path / "go").touch()
        answers = [racer.stdout.readline() for racer in racers if racer.stdout is not None]
        assert sorted(answers) == ["LOCK-001\n"] * 4 + ["won 1\n"]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
