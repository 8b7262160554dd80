"""The safety net itself: it sees what is left behind, fails the test, names it, and removes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import leftovers, until

TESTS = Path(__file__).resolve().parent.parent


def _sleeper(cwd: Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    return subprocess.Popen(argv, cwd=cwd, env=env, start_new_session=True)


def test_a_process_is_found_by_its_folder_and_killed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "deep" / "down").mkdir(parents=True)
    with _sleeper(root / "deep" / "down") as sleeper:
        assert [p.pid for p in leftovers.find_processes(root)] == [sleeper.pid]
        leftovers.clean(root)
        assert sleeper.wait(5) == -9
    assert not root.exists()


def test_a_process_is_found_by_the_marker_of_its_environment(tmp_path: Path) -> None:
    from asbuilt.targets.local.names import MARKER, render_marker  # noqa: PLC0415 - the one thing under test

    root = tmp_path / "root"
    environment = root / "environments" / "shop-1" / "production"
    environment.mkdir(parents=True)
    with _sleeper(Path("/"), {MARKER: render_marker(environment, "db-1")}) as sleeper:
        until(lambda: leftovers.find_processes(root), what="the process to be seen")
        assert "workload db-1" in leftovers.find(root)[0]
        leftovers.clean(root)
        assert sleeper.wait(5) == -9


def test_a_neighbour_is_not_touched(tmp_path: Path) -> None:
    for name in ("root", "root-2"):
        (tmp_path / name).mkdir()
    with _sleeper(tmp_path / "root-2") as sleeper:
        leftovers.clean(tmp_path / "root")
        assert sleeper.poll() is None
        sleeper.kill()


@pytest.mark.parametrize("fixture", ["home", "tmp_path", "module_home"])
def test_a_stack_test_that_leaves_a_process_fails_and_shows_the_logs(
    pytester: pytest.Pytester, fixture: str
) -> None:
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    pytester.makeini(f"[pytest]\npythonpath = {TESTS}\nmarkers =\n  stack: s\n  faults: f\n")
    pytester.makepyfile(f"""
        import subprocess, sys, pytest
        @pytest.mark.stack
        def test_leaves({fixture}):
            (folder := {fixture} / "env" / "logs").mkdir(parents=True)
            (folder / "db-1.log").write_text("panic: the last words\\n")
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(61)"],
                             cwd={fixture}, start_new_session=True)
            assert {fixture} is None
    """)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["left behind:", "*process *works in the folder*", "*db-1.log*", "panic: the last words"]
    )


def test_a_clean_stack_test_passes(pytester: pytest.Pytester) -> None:
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    pytester.makeini(f"[pytest]\npythonpath = {TESTS}\nmarkers =\n  stack: s\n  faults: f\n")
    pytester.makepyfile("""
        import os, pytest
        @pytest.mark.stack
        def test_leaves_nothing(home, tmp_path):
            assert os.environ["ASBUILT_HOME"] == str(home) and len(str(home)) < 20
    """)
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist").assert_outcomes(passed=1)
