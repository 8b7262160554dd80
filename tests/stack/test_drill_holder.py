"""Who holds a fault takes it away: when asked, when whoever asked is gone, and at its deadline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from asbuilt.operations.drill.injection import Injection
from asbuilt.operations.drill.record import State, read_fault
from asbuilt.operations.drill.recovering import recover_fault
from asbuilt.operations.drill.track import LateError, StopError, Track
from asbuilt.operations.progress import silent
from asbuilt.plan.fault import Fault, How
from asbuilt.plan.verdict import Observed, Promise, Verdict, decide
from asbuilt.targets.local.names import MARKER, render_marker
from asbuilt.targets.local.process import Ident, is_alive, is_stopped, read_process
from support import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.operations.drill.ground import Ground

pytestmark = pytest.mark.stack

FREEZE = Fault(How.FREEZE, ("app-1",), 60.0)


@contextmanager
def victim(root: Path, name: str = "app-1") -> Iterator[Ident]:
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, MARKER: render_marker(root, name)})
    process = read_process(child.pid)
    assert process is not None
    try:
        yield process.ident
    finally:
        child.kill()
        child.wait()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "env").mkdir()
    return tmp_path / "env"


def state(root: Path) -> State | None:
    record = read_fault(root)
    return record.state if record else None


def test_it_is_on_record_then_on_then_off(root: Path) -> None:
    with victim(root) as one, victim(root, "app-2") as other:
        with Injection(root, "d", FREEZE) as injection:
            assert state(root) is State.ARMED
            assert not is_stopped(one)
            injected = injection.begin()
            assert injected.proven
            assert (injected.victims, injected.hurt) == (1, 1)
            assert abs(injected.moment - time.monotonic()) < 10
            assert state(root) is State.ON
            assert is_stopped(one)
            assert not is_stopped(other), "nobody else is hurt"
            begun = time.monotonic()
        assert time.monotonic() - begun < 5
        assert state(root) is State.REMOVED
        assert not is_stopped(one)
        assert is_alive(one)


def test_a_fault_without_victims_is_not_proven(root: Path) -> None:
    with Injection(root, "d", Fault(How.KILL, ("app-9",), 5.0)) as injection:
        assert not injection.begin().proven


def test_at_its_deadline_it_is_off_whoever_sleeps(root: Path) -> None:
    with victim(root) as one, Injection(root, "d", Fault(How.FREEZE, ("app-1",), 1.0)) as injection:
        injection.begin()
        until(lambda: not is_stopped(one), what="the deadline to end the fault", within=10)
        assert state(root) is State.REMOVED


_ASKS = """\
import sys
from pathlib import Path
from asbuilt.operations.drill.injection import Injection
from asbuilt.plan.fault import Fault, How
with Injection(Path(sys.argv[1]), "d", Fault(How.FREEZE, ("app-1",), 60.0)) as injection:
    injection.begin()
    print("on", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_who_asked_is_killed_and_the_fault_ends(root: Path, number: signal.Signals) -> None:
    with victim(root) as one:
        child = subprocess.Popen(
            [sys.executable, "-c", _ASKS, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"on\n"
        assert is_stopped(one)
        child.send_signal(number)
        child.communicate()
        until(lambda: not is_stopped(one), what="the fault to end with who asked", within=5)
        until(lambda: state(root) is State.REMOVED, what="the record to say so", within=5)
        record = read_fault(root)
        assert record is not None
        until(lambda: not (record.holder and is_alive(record.holder)), what="the holder to end")


@dataclass(frozen=True)
class Nowhere:
    """A ground without nodes."""

    root: Path

    @property
    def prepared(self) -> Any:  # noqa: ANN401 - only its graph is asked for
        return SimpleNamespace(architecture=SimpleNamespace(edges=(), by_id={}, of=lambda _: ()))

    def status(self) -> dict[str, Any]:
        return {"nodes": []}


def make_track(root: Path) -> Track:
    return Track(cast("Ground", Nowhere(root)), "d", (), 60.0, silent)


def test_a_fault_that_does_not_apply_ends_the_round_and_proves_nothing(root: Path) -> None:
    track = make_track(root)
    with pytest.raises(LateError, match="not seen to be on"), track.fault(Fault(How.KILL, ("app-9",), 5.0)):
        pass
    assert not track.proven
    assert (
        decide(Promise("p", 60.0), Observed(fault_on=track.proven, rto=0.1)).verdict is Verdict.INCONCLUSIVE
    )


def test_a_stop_condition_takes_the_fault_away_first(root: Path) -> None:
    track = make_track(root)
    tripped = 0.0

    def drill() -> None:
        nonlocal tripped
        with track.fault(FREEZE):
            assert is_stopped(one)
            track.probes["answer to a user"] = lambda: time.monotonic() - 61
            tripped = time.monotonic()
            track.until("something", lambda: False, 30.0)

    with victim(root) as one:
        with pytest.raises(StopError, match="no answer to a user for more than 60 s"):
            drill()
        assert time.monotonic() - tripped < 5
        assert not is_stopped(one)
        assert track.removed
        assert track.proven


def test_recover_takes_away_what_a_killed_holder_left(root: Path) -> None:
    with victim(root) as one:
        with Injection(root, "d", FREEZE) as injection:
            injection.begin()
            record = read_fault(root)
            assert record is not None
            assert record.holder is not None
            os.kill(record.holder.pid, signal.SIGKILL)
            until(lambda: record.holder and not is_alive(record.holder), what="the holder to be dead")
            assert injection.remove() is False
            assert is_stopped(one)
        assert recover_fault(root, silent) == ["the fault of d: freeze app-1"]
        assert not is_stopped(one)
        assert recover_fault(root, silent) == [], "again is fine"


def test_recover_ends_a_holder_that_still_holds(root: Path) -> None:
    with victim(root) as one, Injection(root, "d", FREEZE) as injection:
        injection.begin()
        assert recover_fault(root, silent)
        assert not is_stopped(one)
        assert state(root) is State.REMOVED
