"""The history of releases: told by the files of the runs, whatever they hold, and no password gets out."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asbuilt.cli.main import run
from asbuilt.cli.releases_verb import render_list, render_release
from asbuilt.operations.history import Run, tell_run
from asbuilt.operations.origin import build_diff_link, find_remote
from asbuilt.operations.releases import choose_release
from asbuilt.record.journal import Journal
from asbuilt.record.releases import Releases
from asbuilt.spec.load import load
from asbuilt.values.errors import EXIT_DONE, EXIT_FAILED
from asbuilt.values.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

A, B = "0a1b2c3d4e5f", "f5e4d3c2b1a0"


@pytest.mark.parametrize(
    ("remote", "link"),
    [
        ("git@github.com:acme/shop.git", f"https://github.com/acme/shop/compare/{A}...{B}"),
        ("https://github.com/acme/shop", f"https://github.com/acme/shop/compare/{A}...{B}"),
        (
            "https://me:ghp_s3cret@github.com/acme/shop.git/",
            f"https://github.com/acme/shop/compare/{A}...{B}",
        ),
        ("ssh://git@GitHub.com:22/acme/shop.git", f"https://github.com/acme/shop/compare/{A}...{B}"),
        ("git@gitlab.com:a/b/shop.git", f"https://gitlab.com/a/b/shop/-/compare/{A}...{B}"),
        ("ssh://git@gitlab.acme.test:2222/a/shop", f"https://gitlab.acme.test/a/shop/-/compare/{A}...{B}"),
        (
            "git@bitbucket.org:acme/shop.git",
            f"https://bitbucket.org/acme/shop/branches/compare/{B}%0D{A}#diff",
        ),
        ("git@codeberg.org:acme/shop.git", f"https://codeberg.org/acme/shop/compare/{A}...{B}"),
        ("https://s3cret@git.acme.test:8443/a/shop", f"https://git.acme.test:8443/a/shop/compare/{A}...{B}"),
        ("git@git.acme.test:a/shop.git", ""),
        ("http://git.acme.test/a/shop", ""),
        ("/srv/git/shop.git", ""),
        ("../shop", ""),
        ("file:///srv/git/shop.git", ""),
        ("https://me:s3cret/x@github.com/acme/shop", ""),
        ("https://me:1/s3cret@github.com/acme/shop", ""),
        ("https://github.com/acme/shop?token=s3cret", ""),
        ("https://github.com/acme/shop#s3cret", ""),
        ("https://github.com/../../etc", ""),
        ("https://github.com/", ""),
        ("me:s3cret@github.com:acme/shop", ""),
        ("https://github.com/a\x1b[31m/b", ""),
        ("https://github.com/a/b\nhttps://evil.test/", ""),
        ("https://gіthub.com/acme/shop", ""),  # noqa: RUF001 - a letter that only looks like one
        ("https://-github.com/acme/shop", ""),
        ("javascript:alert(1)", ""),
        ("ext::sh -c id", ""),
        ("https://github.com/" + "a" * 600, ""),
        ("", ""),
    ],
)
def test_a_remote_becomes_a_link_without_its_secrets(remote: str, link: str) -> None:
    assert build_diff_link(remote, A, B) == link
    assert "s3cret" not in build_diff_link(remote, A, B)


@pytest.mark.parametrize(
    ("before", "after"), [(A, A), (A, f"{A}+"), ("", B), (A, ""), ("HEAD", B), (A, "x/../y"), ("0a1b", B)]
)
def test_without_two_commits_there_is_no_link(before: str, after: str) -> None:
    assert build_diff_link("git@github.com:acme/shop.git", before, after) == ""


def test_changes_that_were_not_committed_are_left_out_of_the_link() -> None:
    assert build_diff_link("git@github.com:acme/shop.git", f"{A}+", f"{B}+").endswith(f"{A}...{B}")


PARTS = st.text(st.characters(codec="utf-8"), max_size=15)


@given(user=PARTS, password=st.text("abcS3CRET@:/?#%", min_size=8), rest=PARTS)
@settings(deadline=None)
def test_whatever_the_remote_a_link_is_a_plain_address(user: str, password: str, rest: str) -> None:
    for remote in (rest, f"https://{user}:{password}@github.com/{rest}", f"{user}@github.com:{rest}"):
        link = build_diff_link(remote, A, B)
        assert link == "" or link.startswith("https://")
        assert link.isascii()
        assert link.isprintable()
        assert "@" not in link


def line(kind: str, since: float, **values: object) -> dict[str, Any]:
    return {"at": f"2026-11-20T14:03:{int(since):02}.500Z", "since": since, "kind": kind, **values}


def begin(verb: str = "deploy", **order: object) -> dict[str, Any]:
    return line("begin", 0.2, verb=verb, order={"strategy": None, **order}, owner="ana@build 41")


def note(since: float, text: str = "", **data: object) -> dict[str, Any]:
    return line("note", since, subject="", text=text, seconds=0, **data)


GOOD = [
    begin(),
    note(1, release="r7", before="r6", strategy="canary"),
    note(
        1, migration={"code": "MIGRATE-002", "where": "migrations/7.sql:3", "what": "drops the column x of y"}
    ),
    note(2, move="start app-3 with r7"),
    line("done", 9, subject="app.build", text="build the app (pip)", seconds=6.2),
    line("done", 10, subject="app.migrate", text="migrate the database", seconds=0.8),
    line("done", 11, subject="app-3", text="start app-3", seconds=1.0),
    note(12, move="stop app-1 of r6"),
    line(
        "end",
        41,
        exit=0,
        verb="deploy",
        outcome={
            "release": "r7",
            "before": "r6",
            "seconds": 40.8,
            "phases": [["start app-3 with r7", 10.1], ["stop app-1 of r6", 3.04]],
            "requests": 18233,
            "lost": 0,
            "verdicts": [
                {
                    "verdict": "pass",
                    "text": "5 %: errors 0.10 % against 0.12 %, p95 40 ms against 41 ms",
                    "evidence": {"r7": 812, "r6": 15402},
                }
            ],
        },
    ),
]
BAD = [
    begin(strategy="rolling"),
    note(1, release="r8", before="r7"),
    note(2, move="start app-3 with r8"),
    note(20.5, move="stop app-3 of r8"),
    note(22, "12 requests meanwhile, 1 lost", requests=12, lost=1, verdicts=[]),
    line(
        "end",
        23,
        exit=3,
        verb="deploy",
        error={
            "code": "DEPLOY-003",
            "what": "release r8 did not get through: app-3 does not get ready; r7 serves",
            "where": "app-3",
            "evidence": ["\x1b[31mboom", "exited with status 1"],
            "hint": "look",
        },
    ),
]
BACK = [
    begin("rollback"),
    note(1, release="r6", before="r7", strategy="blue-green"),
    line(
        "end",
        2,
        exit=0,
        verb="rollback",
        outcome={
            "release": "r6",
            "before": "r7",
            "seconds": 1.1,
            "phases": [],
            "requests": 900,
            "lost": 0,
            "verdicts": [],
        },
    ),
]
ROW = {
    "id": "r7",
    "state": "active",
    "artifact": "0123456789abcdef",
    "created": "2026-11-20T14:03:01Z",
    "created_by": "ana@build",
    "git_commit": f"{B}+",
    "config_digest": "d",
    "before": "r6",
    "diff": f"https://github.com/acme/shop/compare/{A}...{B}",
}
FULL = f"""\
r7
  state   active
  made    2026-11-20T14:03:01Z by ana@build
  commit  {B} and changes that were not committed
  after   r6
  diff    https://github.com/acme/shop/compare/{A}...{B}
  build   0123456789abcdef

2026-11-20T14:03:00Z  rollback blue-green  r7 -> r6: done in 1.1 s
  by ana@build 41
  900 requests meanwhile, 0 lost

2026-11-20T14:03:00Z  deploy canary  r6 -> r7: done in 40.8 s
  by ana@build 41
  18,233 requests meanwhile, 0 lost
  phases
      10.1 s  start app-3 with r7
       3.0 s  stop app-1 of r6
  of that
       6.2 s  build the app (pip)
       0.8 s  migrate the database
  verdicts
    pass: 5 %: errors 0.10 % against 0.12 %, p95 40 ms against 41 ms
      | r7: 812
      | r6: 15402
  migrations
    MIGRATE-002 migrations/7.sql:3: drops the column x of y"""
FAILED = """\

2026-11-20T14:03:00Z  deploy rolling  r7 -> r8: taken back in 23.0 s
  by ana@build 41
  12 requests meanwhile, 1 lost
  phases
      18.5 s  start app-3 with r8
       2.5 s  stop app-3 of r8
  error[DEPLOY-003] release r8 did not get through: app-3 does not get ready; r7 serves
    at app-3
    | ?[31mboom
    | exited with status 1
    hint: look"""


def test_one_release_in_full() -> None:
    good, back = tell_run("1", GOOD), tell_run("2", BACK)
    assert good.concerns("r7")
    assert back.concerns("r7")
    assert back.concerns("r6")
    assert not good.concerns("r6")
    assert render_release(ROW, [back, good]) == FULL


def test_one_that_was_taken_back() -> None:
    text = render_release({**ROW, "id": "r8", "before": "", "diff": ""}, [tell_run("3", BAD)])
    assert text.endswith(FAILED)
    assert "diff" not in text


def test_the_list_has_one_line_for_each() -> None:
    rows = [
        {**ROW, "id": "r8", "state": "failed", "git_commit": A},
        ROW,
        {**ROW, "id": "r6", "state": "retired", "git_commit": "", "created": "2026-11-19T08:00:00Z"},
    ]
    scaled = tell_run(
        "4", [begin("scale", scale="5"), note(1, release="r7", before="r7", strategy="rolling")]
    )
    lines = render_list(rows, [scaled, tell_run("3", BAD), tell_run("1", GOOD)]).splitlines()
    when, who = "2026-11-20T14:03:00Z", "ana@build 41"
    assert [re.split(" {2,}", each) for each in lines] == [
        ["RELEASE", "STATE", "WHEN", "BY", "COMMIT", "HOW", "RESULT", "TOOK", "LOST"],
        ["r8", "failed", when, who, A, "deploy rolling", "taken back", "23.0 s", "1 of 12"],
        ["r7", "active", when, who, f"{B}+", "deploy canary", "done", "40.8 s", "0 of 18,233"],
        ["r6", "retired", "2026-11-19T08:00:00Z", "ana@build", "-", "up", "-", "-", "-"],
    ]
    assert "scale app=5  r7: died in 1.0 s" in render_release(ROW, [scaled])


@pytest.mark.parametrize(
    ("lines", "result"),
    [
        ([], "died"),
        ([begin()], "died"),
        ([begin(), line("end", 1, exit=3, error={"code": "DEPLOY-004"})], "aborted"),
        ([begin(), line("end", 1, exit=3, error={"code": "DEPLOY-002"})], "refused"),
        ([begin(), line("end", 1, exit=1, error={"code": "BUG-001"})], "failed"),
        ([line("end", 1, exit=3, error={"code": "LOCK-001"})], "refused"),
    ],
)
def test_every_run_has_a_result(lines: list[dict[str, Any]], result: str) -> None:
    told = tell_run("x", lines)
    assert told.result == result
    assert json.dumps(asdict(told))
    assert render_release(ROW, [told])


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Two releases of two commits, and the run that brought the second."""
    project = tmp_path / "project"
    project.mkdir()
    file = project / "asbuilt.yaml"
    monkeypatch.chdir(project)
    monkeypatch.setenv("ASBUILT_HOME", str(tmp_path / "home"))
    made = Stage(file, "shop", "production", tmp_path / "home")
    made.root.mkdir(parents=True)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.test", "-c", "commit.gpgsign=false")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run(
        [*git, "remote", "add", "origin", "https://me:s3cret@github.com/acme/shop.git"], check=True
    )
    journal = Journal.open(made.root / "journal.sqlite", clock=lambda: 1.0)
    for colour in ("blue", "red"):
        file.write_text(
            f"name: shop\napp: {{command: ./run, env: {{C: {colour}}}}}\nenvironments: {{production: {{}}}}"
        )
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", colour], check=True)
        release = choose_release(made, journal, "a" * 16, load(file).spec.environments["production"].app)
        Releases(journal).mark_active(release.id)
    journal.close()
    (made.root / "rollouts").mkdir()
    text = "\n".join(json.dumps(one).replace("r6", "r1").replace("r7", "r2") for one in GOOD)
    waiting = json.dumps(line("waiting", 3, subject="app-3", text="x", seconds=0))
    (made.root / "rollouts" / "20261120T1.jsonl").write_text(f"{waiting}\n[]\n{{\n{text}\nhalf a li")
    (made.root / "rollouts" / "20261121T1.jsonl").write_text(json.dumps(begin()))
    return made


def test_the_verb(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_remote(stage.project) == "https://me:s3cret@github.com/acme/shop.git"
    for words in (["r2"], ["production", "r2"]):
        assert run(["releases", *words]) == EXIT_DONE
        text = capsys.readouterr().out
        assert text.startswith("r2\n  state   active\n")
        assert "  diff    https://github.com/acme/shop/compare/" in text
        assert "s3cret" not in text
    assert run(["releases"]) == EXIT_DONE
    head, second, first = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "RELEASE"
    assert second.startswith("r2       active")
    assert first.startswith("r1       retired")
    assert run(["releases", "production", "--json"]) == EXIT_DONE
    told = capsys.readouterr().out
    assert "s3cret" not in told
    document = json.loads(told)
    assert [one["result"] for one in document["runs"]] == ["died", "done"]
    assert [one["before"] for one in document["releases"]] == ["r1", ""]
    assert run(["releases", "production", "r2", "--json"]) == EXIT_DONE
    document = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in document["releases"]] == ["r2"]
    assert [one["verdicts"][0]["verdict"] for one in document["runs"]] == ["pass"]
    assert run(["releases", "production", "r9"]) == EXIT_FAILED
    assert "RELEASE-001" in capsys.readouterr().err


def test_a_folder_without_git_has_no_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert find_remote(tmp_path) == ""
    monkeypatch.setenv("PATH", "")
    assert find_remote(tmp_path) == ""


def test_a_run_without_anything_can_be_shown() -> None:
    assert "no deploy of it on record" in render_release({**ROW, "git_commit": ""}, [])
    assert render_list([ROW], [Run("x", release="r7", verb="deploy")])
