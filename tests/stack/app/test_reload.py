from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from asbuilt.engines.app.engine import render_reloader
from support import until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.stack
PROGRAM = """
import os, signal, sys, time
def stop(number, frame):
    print("stopped by", signal.Signals(number).name, flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
print("started", open("version.txt").read(), sys.argv[1:], flush=True)
while True:
    time.sleep(0.05)
"""


def test_a_changed_file_starts_the_app_again_and_sigterm_reaches_it(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    (folder / "node_modules").mkdir(parents=True)
    (folder / "main.py").write_text(PROGRAM)
    (folder / "version.txt").write_text("one")
    log = tmp_path / "log"
    argv = render_reloader((sys.executable, "main.py", "a b", "$(id)"), str(folder))
    with log.open("w") as output:
        process = subprocess.Popen(argv, cwd=folder, stdout=output, stderr=output, start_new_session=True)
    try:
        until(lambda: "started one ['a b', '$(id)']" in log.read_text(), what="the first start")

        def changed() -> bool:  # written again and again: the watcher may not watch yet
            (folder / "version.txt").write_text("two")
            return "started two" in log.read_text()

        until(changed, what="the second start", every=0.5)
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    finally:
        process.kill()
        process.wait()
    assert "stopped by" in log.read_text().rpartition("started two")[2]
