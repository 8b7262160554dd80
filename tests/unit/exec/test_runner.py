from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asbuilt.exec.identity import Identity
from asbuilt.exec.runner import Command, Runner
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.secret import Secret
from support import until

AS_WE_ARE = Runner(Identity("user", (), os.geteuid(), os.getegid()))


def test_a_failure_tells_the_last_words_and_no_secret() -> None:
    script = "import os, sys; print('before', os.environ['PASS'], file=sys.stderr); sys.exit(3)"
    command = Command((sys.executable, "-c", script), secret_env=(("PASS", Secret("hunter2")),))
    with pytest.raises(AsbuiltError, match="EXEC-003") as caught:
        AS_WE_ARE.run(command)
    assert "hunter2" not in caught.value.render()
    assert "before ********" in caught.value.render()


def test_a_missing_program_is_told() -> None:
    with pytest.raises(AsbuiltError, match="EXEC-001"):
        AS_WE_ARE.ask(Command(("/no/such/program",)))


def test_a_command_that_does_not_end_is_ended() -> None:
    with pytest.raises(AsbuiltError, match="EXEC-002"):
        AS_WE_ARE.ask(Command(("sleep", "60"), timeout=0.3))


def test_our_environment_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWNERS_TOKEN", "x")
    assert "OWNERS_TOKEN" not in AS_WE_ARE.run(Command(("env",))).stdout


def test_a_command_dies_with_us(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    script = (
        "import os\n"
        "from asbuilt.exec.identity import Identity\n"
        "from asbuilt.exec.runner import Command, Runner\n"
        "runner = Runner(Identity('user', (), os.geteuid(), os.getegid()))\n"
        f"runner.ask(Command(('sh', '-c', 'echo $$ >{mark}; exec sleep 100')))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        pid = int(until(lambda: mark.exists() and mark.read_text().strip(), what="the command") or 0)
        parent.send_signal(signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), what="the command to end")
