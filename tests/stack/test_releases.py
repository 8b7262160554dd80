"""Releases while users ask: nothing is lost, nothing is done twice, and what goes wrong goes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from asbuilt.operations.follow import find_running
from asbuilt.operations.reading import ROLLOUT, peek_facts
from support import until
from support.callers import Callers
from support.live import Live
from support.releasing import SPEC, change, controllers, deploy, moving, served, stage, states, users

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture
def live(home: Path, tmp_path: Path) -> Iterator[Live]:
    with moving(home, tmp_path / "project") as one:
        yield one


@pytest.mark.parametrize("words", [("--strategy", "rolling"), ("--no-surge",), ("--strategy", "blue-green")])
def test_users_notice_nothing(live: Live, words: tuple[str, ...]) -> None:
    change(live, note="second")
    with users(live) as (callers, posters):
        posters.stream(4)
        end, lines = deploy(live, *words)
        posters.stream(1)
        callers.forget()
        callers.more()
        assert set(callers.releases) == {"r2"}
    assert end["exit"] == 0
    outcome = end["outcome"]
    assert (outcome["release"], outcome["before"], outcome["lost"]) == ("r2", "r1", 0)
    assert outcome["requests"] > 50
    assert lines[0]["kind"] == "begin"
    assert sum(seconds for _, seconds in outcome["phases"]) <= outcome["seconds"]
    assert states(live) == {"r2": "active", "r1": "retired"}
    assert sorted(served(live).values()).count("r2") == 3


def test_switching_back_starts_nothing_and_up_leaves_it_so(live: Live) -> None:
    change(live, note="second")
    old = {name: node["pid"] for name, node in live.nodes().items() if node["kind"] == "app"}
    deploy(live, "--strategy", "blue-green")
    assert sorted(served(live).values()) == ["r1"] * 3 + ["r2"] * 3
    assert live.up()["changed"] is False, "warm servers stay"
    with users(live) as (callers, _):
        end, lines = deploy(live, "rollback")
        callers.forget()
        callers.more()
        assert set(callers.releases) == {"r1"}
    assert not [
        line for line in lines if line["kind"] == "done" and line["text"].startswith(("start", "build"))
    ]
    assert end["outcome"]["lost"] == 0
    now = {name: node["pid"] for name, node in live.nodes().items() if node["kind"] == "app"}
    assert now == old
    assert states(live) == {"r2": "rolled-back", "r1": "active"}
    up = live.run("up", "production")
    assert "the folder holds r2, which was taken back: r1 stays" in up.stderr
    assert set(served(live).values()) == {"r1"}
    deploy(live)
    assert set(served(live).values()) == {"r2"}, "deploy tries it again"
    deploy(live, "rollback", "--to", "r1")
    assert set(served(live).values()) == {"r1"}


def test_warm_servers_go_after_their_time(live: Live) -> None:
    file = live.project / "asbuilt.yaml"
    file.write_text(file.read_text().replace("warm: 20s", "warm: 2s"))
    change(live, note="second")
    deploy(live, "--strategy", "blue-green")
    until(lambda: sorted(served(live).values()) == ["r2"] * 3, what="the old ones to be stopped")


@pytest.mark.parametrize(
    ("mode", "words", "code"),
    [
        ("sick", (), "DEPLOY-003"),
        ("dead", ("--no-surge",), "DEPLOY-003"),
        ("sick", ("--strategy", "blue-green"), "DEPLOY-003"),
        ("smoky", ("--strategy", "blue-green"), "DEPLOY-003"),
    ],
)
def test_a_bad_release_goes_back(live: Live, mode: str, words: tuple[str, ...], code: str) -> None:
    change(live, mode)
    with users(live) as (callers, _):
        end, _ = deploy(live, *words, check=False)
        assert (end["exit"], end["error"]["code"]) == (3, code)
        assert end["error"]["hint"]
        callers.forget()
        callers.more()
        assert set(callers.releases) == {"r1"}
    assert set(served(live).values()) == {"r1"}
    assert len(served(live)) == 3
    assert states(live) == {"r2": "failed", "r1": "active"}
    assert "r1 stays" in live.run("up", "production").stderr
    change(live, "good", "mended")
    deploy(live, *words)
    assert states(live) == {"r3": "active", "r2": "failed", "r1": "retired"}


def test_a_release_mends_one_that_crashes(live: Live) -> None:
    spec = live.project / "asbuilt.yaml"
    change(live, "lame app-2")
    for ordered in ((), ("--strategy", "blue-green")):
        spec.write_text(spec.read_text().replace("start_timeout: 10s", "start_timeout: 3s"))
        live.run("up", "production", check=False)  # it replaces in place, and so gets stuck half-way
        assert live.nodes()["app-2"]["health"] != "ready"
        change(live, note=f"mended {ordered}")
        with Callers(live) as callers:
            deploy(live, *ordered)
        assert callers.failed == []
        assert len(set(served(live).values()) - {"r1"}) >= 1
        change(live, "lame app-2", note=str(ordered))


def test_a_failed_migration_moves_no_traffic(live: Live) -> None:
    file = live.project / "asbuilt.yaml"
    file.write_text(
        file.read_text().replace("  instances", "  migrate: python3 -c 'raise SystemExit(7)'\n  instances")
    )
    (live.project / "migrations").mkdir()
    (live.project / "migrations" / "1.sql").write_text("ALTER TABLE orders DROP COLUMN legacy;")
    assert "MIGRATE-002" in live.run("check").stderr
    pids = {name: node["pid"] for name, node in live.nodes().items()}
    end, lines = deploy(live, check=False)
    assert (end["exit"], end["error"]["code"]) == (3, "DEPLOY-003")
    assert "status 7" in end["error"]["what"]
    assert {name: node["pid"] for name, node in live.nodes().items()} == pids
    warned = next(at for at, line in enumerate(lines) if "migration" in line)
    assert lines[warned]["migration"]["code"] == "MIGRATE-002"
    assert warned < next(at for at, line in enumerate(lines) if line.get("subject") == "app.migrate")
    (told,) = live.json("releases", "production", "r2")["runs"]
    assert (told["result"], told["strategy"], told["lost"]) == ("taken back", "rolling", 0)
    text = live.run("releases", "production", "r2").stdout
    assert "MIGRATE-002 migrations/1.sql:1" in text
    assert "status 7" in text


def test_the_client_may_die_and_the_release_be_aborted(live: Live) -> None:
    change(live, note="second")
    with users(live) as (_, posters):
        posters.stream(9)  # something to wait for
        words = [sys.executable, "-m", "asbuilt", "deploy", "production"]
        client = subprocess.Popen(
            words, cwd=live.project, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        until(lambda: any(one == "r2" for one in served(live).values()), what="the first new server")
        client.kill()
        client.wait(10)
        running_now = find_running(stage(live))
        assert running_now is not None
        assert running_now.verb == "deploy"
        refused = live.run("up", "production", check=False)
        assert refused.returncode == 3
        assert "LOCK-001" in refused.stderr
        done = live.run("deploy", "production", "--abort")
        assert "aborted as asked" in done.stderr
    assert set(served(live).values()) == {"r1"}
    assert states(live) == {"r2": "rolled-back", "r1": "active"}


def kill_and_go_on(live: Live, *words: str, every: bool = False) -> int:
    """Run a verb, kill its controller once at each move (or step) until it ends. Returns the kills."""
    client = [sys.executable, "-m", "asbuilt", *words, "--json"]
    seen: set[tuple[str, str]] = set()
    while True:
        run = subprocess.Popen(
            client, cwd=live.project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert run.stdout is not None
        ended = False
        for text in run.stdout:
            line = json.loads(text)
            ended = ended or line.get("kind") == "end"
            step = (line["kind"], line["text"]) if every and line["kind"] in {"started", "done"} else None
            where = ("move", line["move"]) if "move" in line else step
            if where is not None and where not in seen:
                seen.add(where)
                for pid in controllers(live):
                    os.kill(pid, signal.SIGKILL)
                break
        _, said = run.communicate(timeout=60)
        assert "Traceback" not in said
        if ended:
            assert run.returncode == 0, said
            return len(seen)
        assert run.returncode == 1
        assert "DEPLOY-005" in said
        if words[0] != "scale":
            # one that was killed between its end and its last word has left nothing half-way
            half_way = ROLLOUT in (peek_facts(stage(live)) or {})
            blocked = live.run("up", "production", check=False)
            assert (blocked.returncode, "RELEASE-002" in blocked.stderr) == (
                (3, True) if half_way else (0, False)
            )


@pytest.mark.parametrize("words", [(), ("--strategy", "blue-green")])
def test_the_controller_dies_at_every_move_and_the_next_goes_on(live: Live, words: tuple[str, ...]) -> None:
    change(live, note="second")
    with users(live):
        assert kill_and_go_on(live, "deploy", "production", *words) >= 3
    assert states(live) == {"r2": "active", "r1": "retired"}
    assert sorted(served(live).values()).count("r2") == 3
    assert live.up()["changed"] is False


def test_the_controller_of_a_rollback_and_of_a_scaling_dies(live: Live) -> None:
    change(live, note="second")
    deploy(live)
    with users(live):
        assert kill_and_go_on(live, "rollback", "production") >= 2
        assert list(served(live).values()) == ["r1"] * 3
        assert kill_and_go_on(live, "scale", "production", "app=5") >= 1
        assert kill_and_go_on(live, "scale", "production", "app=3") >= 1
    assert states(live) == {"r2": "rolled-back", "r1": "active"}
    assert list(served(live).values()) == ["r1"] * 3


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("strategy", "least"), [("rolling", 10), ("blue-green", 5), ("canary", 10)])
def test_the_controller_dies_at_every_step_boundary(live: Live, strategy: str, least: int) -> None:
    spec = live.project / "asbuilt.yaml"
    spec.write_text(spec.read_text().replace("warm: 20s", "warm: 20s, step_time: 1s, patience: 30s"))
    change(live, note="second")
    with users(live):
        assert kill_and_go_on(live, "deploy", "production", "--strategy", strategy, every=True) >= least
    assert states(live) == {"r2": "active", "r1": "retired"}
    assert sorted(served(live).values()).count("r2") == 3


def test_scaling_by_hand(live: Live) -> None:
    with users(live) as (_, posters):
        deploy(live, "scale", "app=5")
        assert len(served(live)) == 5
        posters.stream(3)
        time.sleep(0.3)  # the stream is under way somewhere
        deploy(live, "scale", "app=3")
        assert len(served(live)) == 3
    deploy(live, "scale", "app=4")
    assert live.up()["changed"] is False, "the number stays"
    change(live, note="second")
    deploy(live)
    assert list(served(live).values()) == ["r2"] * 4
    deploy(live, "scale", "app=auto")
    assert len(served(live)) == 3
    for wrong in ("app=2", "app=7", "app=x", "app="):
        refused = live.run("scale", "production", wrong, check=False)
        assert refused.returncode in {2, 3}, refused.stderr
        assert "3..6" in refused.stderr or "app=NUMBER" in refused.stderr


def test_what_cannot_be_done_says_so(live: Live) -> None:
    for words, code in (
        (("rollback", "production"), "DEPLOY-002"),
        (("rollback", "production", "--to", "r9"), "RELEASE-001"),
        (("deploy", "production", "--abort"), "DEPLOY-002"),
        (("deploy", "production", "--promote"), "DEPLOY-002"),
    ):
        done = live.run(*words, check=False)
        assert code in done.stderr, done.stderr
        assert done.returncode in {1, 3}
    end, _ = deploy(live)
    assert "serves already" in json.dumps(_)
    assert end["outcome"]["release"] == "r1"
    live.down()
    done = live.run("deploy", "production", check=False)
    assert (done.returncode, "DEPLOY-001" in done.stderr) == (3, True)


def test_an_environment_that_never_was(home: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "app.py").write_text("")
    (project / "asbuilt.yaml").write_text(SPEC.format(python=sys.executable, ledger="/nowhere", rollout=""))
    for verb in ("deploy", "rollback"):
        done = Live(project, "production").run(verb, "production", check=False)
        assert (done.returncode, "DEPLOY-001" in done.stderr) == (3, True), done.stderr
    assert list(home.iterdir()) == []
