"""The parent of Patroni, with a program in its place that leaves a process behind as Patroni does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asbuilt.targets.local.process import Ident, is_alive, read_process
from support import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.stack

PROGRAM = """\
import os, signal, subprocess, sys, time
from pathlib import Path
from asbuilt.engines.postgresql.parent import run_as_child

def work():
    folder = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    # a child of a child that has ended, as a postmaster is
    start = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid)"
    said = subprocess.run([sys.executable, "-c", start], stdout=subprocess.PIPE, text=True, check=True).stdout
    (folder / "left").write_text(said)
    (folder / "work").write_text(str(os.getpid()))
    while True:
        time.sleep(60)

sys.exit(run_as_child(work))
"""


def ident(file: Path) -> Ident:
    until(lambda: file.exists() and file.read_text(), what=f"{file.name} to be told")
    process = read_process(int(file.read_text()))
    assert process is not None
    return process.ident


@contextmanager
def parent(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Ident, Ident]]:
    """The parent, its child, and what that started."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], cwd=folder) as process:
        found: list[Ident] = []
        try:
            found += (ident(folder / "work"), ident(folder / "left"))
            yield process, found[0], found[1]
        finally:
            process.kill()
            for one in found:
                if is_alive(one):
                    os.kill(one.pid, signal.SIGKILL)


def test_a_signal_is_passed_on_and_the_exit_status_is_the_childs(tmp_path: Path) -> None:
    with parent(tmp_path) as (process, work, left):
        process.terminate()
        assert process.wait(5) == 7
        assert not is_alive(work)
        assert not is_alive(left), "nothing is left of it"


def test_when_the_child_is_killed_so_is_all_that_it_started(tmp_path: Path) -> None:
    with parent(tmp_path) as (process, work, left):
        os.kill(work.pid, signal.SIGKILL)
        assert process.wait(5) == 128 + signal.SIGKILL
        assert not is_alive(left)


def test_a_child_that_is_stopped_is_ended(tmp_path: Path) -> None:
    with parent(tmp_path) as (process, work, left):
        stopped = time.monotonic()
        os.kill(work.pid, signal.SIGSTOP)
        assert process.wait(10) == 128 + signal.SIGKILL
        assert 1 < time.monotonic() - stopped < 6
        assert not is_alive(left)


def test_a_child_that_was_stopped_for_a_moment_goes_on(tmp_path: Path) -> None:
    with parent(tmp_path) as (process, work, left):
        os.kill(work.pid, signal.SIGSTOP)
        until(lambda: Path(f"/proc/{work.pid}/stat").read_text().split()[2] == "T", what="it to be stopped")
        os.kill(work.pid, signal.SIGCONT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
        assert is_alive(work)
        assert is_alive(left)


def test_what_the_child_left_behind_is_buried_when_it_dies(tmp_path: Path) -> None:
    with parent(tmp_path) as (process, work, left):
        os.kill(left.pid, signal.SIGKILL)
        until(lambda: read_process(left.pid) is None, what="no zombie to be left", within=5)
        assert process.poll() is None
        assert is_alive(work)
