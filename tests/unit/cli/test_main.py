"""Words in, exit status and one error shape out; never a traceback, whatever is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asbuilt.cli import main as cli
from asbuilt.cli.main import VERBS, run
from asbuilt.values.errors import EXIT_DONE, EXIT_FAILED, EXIT_REFUSED, EXIT_USAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPEC = """\
name: tiny
app:
  command: python3 app.py
environments:
  production: {}
  staging: {}
"""
STATUSES = {0, 1, 2, 3, 4, 130}
WORDS = st.one_of(
    # the verbs that start nothing on a folder with a spec and no environment that ran
    st.sampled_from([verb for verb in VERBS if verb not in ("up", "plan", "doctor", "connect")]),
    st.sampled_from(
        ["production", "staging", "nowhere", "--json", "-f", "--file", "--", "--node", "--since", "-n"]
    ),
    st.sampled_from(
        ["--confirm", "--delete-data", "--dry-run", "--format", "svg", "bash", "--grep", "(", "-o", "5m"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="/"), max_size=12),
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "asbuilt.yaml").write_text(SPEC)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ASBUILT_HOME", str(tmp_path / "home"))
    yield folder
    assert not (tmp_path / "home").exists(), "looking and failing make no state"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["frobnicate"], EXIT_USAGE, "CLI-001"),
        (["status"], EXIT_USAGE, "production, staging"),
        (["status", "prod"], EXIT_USAGE, "production, staging"),
        (["check", "prod"], EXIT_USAGE, "production, staging"),
        (["diagram", "production", "--format", "gif"], EXIT_USAGE, "gif"),
        (["logs", "production", "--since", "noon"], EXIT_USAGE, "5m"),
        (["logs", "production", "--grep", "("], EXIT_USAGE, "CLI-004"),
        (["logs", "production", "-n", "many"], EXIT_USAGE, "many"),
        (["connect", "production"], EXIT_USAGE, "connect takes one door"),
        (["connect", "production", "psql"], EXIT_FAILED, "asbuilt up production"),
        (["down", "production", "--delete-data"], EXIT_REFUSED, "--confirm production"),
        (
            ["down", "production", "--delete-data", "--confirm", "staging"],
            EXIT_REFUSED,
            "--confirm production",
        ),
        (["open", "production"], EXIT_FAILED, "asbuilt up production"),
        (["status", "-f", "missing.yaml"], EXIT_USAGE, "missing.yaml"),
        (["completion", "tcsh"], EXIT_USAGE, "bash"),
        (["drill", "production", "earthquake"], EXIT_USAGE, "database-primary-lost"),
        (["drill", "production", "database-primary-lost", "--variant", "eaten"], EXIT_USAGE, "frozen"),
        (["drill", "production", "database-primary-lost"], EXIT_REFUSED, "asbuilt up production"),
        (["drill", "production", "recover"], EXIT_REFUSED, "DRILL-001"),
        (["drill", "production", "report", "r", "s"], EXIT_USAGE, "CLI-009"),
        (["drill", "production", "report"], EXIT_USAGE, "DRILL-009"),
        (["drill", "list"], EXIT_USAGE, "production, staging"),
    ],
)
@pytest.mark.usefixtures("project")
def test_what_is_wrong_is_said_with_its_status(
    words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == status
    told = capsys.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["status", "production", "--json"],
        ["check"],
        ["releases", "production"],
        ["drill", "production"],
        ["drill", "production", "list", "--json"],
        ["status", "production", "--recovery"],
    ],
)
@pytest.mark.usefixtures("project")
def test_looking_at_what_never_ran_is_fine(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) in (EXIT_DONE, EXIT_FAILED)
    assert "error" not in capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_an_error_has_one_json_shape(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["status", "prod", "--json"], ["--json", "frobnicate"], ["check", "--json", "--nonsense"]):
        assert run(words) == EXIT_USAGE
        told = capsys.readouterr()
        document = json.loads(told.out)
        assert document["schema"] == 1
        assert set(document["error"]) == {"code", "what", "where", "hint", "evidence"}
        assert told.err.startswith(f"error[{document['error']['code']}] ")


def test_every_problem_of_a_spec_is_in_the_answer(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "asbuilt.yaml").write_text(SPEC.replace("app:", "ap:") + "  other: {app: {instances: 5..3}}\n")
    assert run(["check", "--json"]) == EXIT_USAGE
    told = capsys.readouterr()
    problems = json.loads(told.out)["error"]["problems"]
    assert len(problems) > 1
    for problem in problems:
        assert problem["code"].startswith("SPEC-")
        assert problem["where"].startswith("asbuilt.yaml:")
        assert f"error[{problem['code']}]" in told.err


@pytest.mark.usefixtures("project")
def test_a_bug_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> int:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("asbuilt.cli.status_verb.run", broken)
    assert run(["status", "production"]) == EXIT_FAILED
    told = capsys.readouterr().err
    assert "BUG-001" in told
    assert "by nought" in told
    assert "ASBUILT_DEBUG=1" in told
    assert "Traceback" not in told
    monkeypatch.setenv("ASBUILT_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run(["status", "production"])


@pytest.mark.usefixtures("project")
def test_a_refusing_system_is_told_with_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diagram", "production", "-o", "/no/such/folder/drawing"]) == EXIT_FAILED
    told = capsys.readouterr().err
    assert "OS-001" in told
    assert "/no/such/folder/drawing" in told


@pytest.mark.usefixtures("project")
def test_a_reader_that_goes_away_is_no_error() -> None:
    for words in (["completion", "bash"], ["diagram", "production", "--format", "svg"], ["--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        argv = [sys.executable, "-m", "asbuilt", *words]
        try:
            done = subprocess.run(
                argv, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60
            )
        finally:
            os.close(writer)
        assert (done.returncode, done.stderr) == (EXIT_DONE, "")


@pytest.mark.usefixtures("project")
def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    source = f"cd {gone} && rmdir {gone} && {sys.executable} -m asbuilt status"
    done = subprocess.run(["bash", "-c", source], text=True, capture_output=True, check=False)
    assert done.returncode in (EXIT_FAILED, EXIT_USAGE)
    assert done.stderr.startswith("error[")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORDS, max_size=6))
def test_no_words_make_it_show_a_traceback(
    words: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--follow" in words or "--watch" in words:
        return  # these go on until Ctrl-C
    assert project.is_dir()
    with patch.dict(os.environ), patch.object(cli, "_tell_bug", side_effect=cli._tell_bug) as bug:
        try:
            status = run(list(words))
        except SystemExit as ended:  # --help and --version
            status = int(ended.code or 0)
    told = capsys.readouterr()
    assert not bug.called, told.err
    assert status in STATUSES
    assert "Traceback" not in told.err
    for made in project.iterdir():
        if made.name != "asbuilt.yaml":
            made.unlink()
    (project / "asbuilt.yaml").write_text(SPEC)
