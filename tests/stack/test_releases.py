"""Releases while users ask: nothing is lost, nothing is done twice, and what goes wrong goes back."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import pytest

from asbuilt.operations.follow import find_running
from asbuilt.values.stage import Stage
from support import until
from support.callers import Callers
from support.live import Live, running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

APP = Path(__file__).parents[1] / "support" / "release_app.py"
SPEC = """\
name: moving
app:
  command: {python} app.py
  instances: 3..6
  start_timeout: 5s
  drain_timeout: 10s
  env: {{LEDGER: {ledger}, COLOUR: none}}
rollout: {{smoke: [/smoke], warm: 20s}}
environments:
  production: {{database: none, cache: none, objects: none, files: none}}
"""


@pytest.fixture
def live(home: Path, tmp_path: Path) -> Iterator[Live]:
    project = tmp_path / "project"
    project.mkdir()
    ledger = home / "ledger"
    ledger.touch()
    ledger.chmod(0o666)
    home.chmod(0o711)
    (project / "app.py").write_text(APP.read_text())
    (project / "asbuilt.yaml").write_text(SPEC.format(python=sys.executable, ledger=ledger))
    with running(project, "production") as one:
        yield one
    until(lambda: not controllers(one), what="the controller to end", within=10)


def controllers(live: Live) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"asbuilt.operations.controller" in words and str(live.project).encode() in words:
                found.append(int(entry.name))
    return found


def change(live: Live, mode: str = "good", note: str = "") -> None:
    """Another version of the app in the folder."""
    text = APP.read_text().replace('MODE = "good"', f'MODE = "{mode}"  # {note}')
    (live.project / "app.py").write_text(text)


def stage(live: Live) -> Stage:
    return Stage(live.project / "asbuilt.yaml", "moving", "production", Path(os.environ["ASBUILT_HOME"]))


def served(live: Live) -> dict[str, str]:
    """The release of each app server."""
    return {name: node["release"] for name, node in live.nodes().items() if node["kind"] == "app"}


def states(live: Live) -> dict[str, str]:
    return {one["id"]: one["state"] for one in live.json("releases", "production")["releases"]}


def deploy(live: Live, *words: str, check: bool = True) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The last line of `deploy --json`, and those before it."""
    verb, *more = words if words and words[0] in {"rollback", "scale"} else ("deploy", *words)
    target = ("production", *more)
    done = live.run(verb, *target, "--json", check=check)
    *before, end = [json.loads(line) for line in done.stdout.splitlines()]
    assert end["kind"] == "end"
    return end, before


class Posters:
    """POST requests of their own number each, all the time, and the streams that somebody began."""

    def __init__(self, live: Live) -> None:
        points = json.loads((live.root / "environment.json").read_text())["entrypoints"]
        self._url = urlsplit(points["https"])
        self._context = ssl.create_default_context(cafile=str(live.root / "certificates" / "ca.crt"))
        self._over, self._numbers = threading.Event(), itertools.count(1)
        self._threads = [threading.Thread(target=self._post) for _ in range(2)]
        self._streams: list[threading.Thread] = []
        self.done: list[str] = []
        self.failed: list[str] = []
        self.ended: list[bool] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in (*self._threads, *self._streams):
            thread.join(60)

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            str(self._url.hostname), self._url.port, timeout=40, context=self._context
        )

    def stream(self, seconds: float) -> None:
        """Begin one; it ends well when its last line arrives."""

        def read() -> None:
            client = self.connect()
            client.request("GET", f"/stream?s={seconds}")
            try:
                self.ended.append(client.getresponse().read().endswith(b"end\n"))
            except (OSError, http.client.HTTPException):
                self.ended.append(False)
            client.close()

        self._streams.append(threading.Thread(target=read))
        self._streams[-1].start()

    def _post(self) -> None:
        client = self.connect()
        while not self._over.wait(0.01):
            number = f"n{next(self._numbers)}"
            try:
                client.request("POST", "/", number)
                answer = client.getresponse()
                body = answer.read().decode()
                (self.done if answer.status == 201 else self.failed).append(
                    number if answer.status == 201 else f"{number}: {answer.status} {body}"
                )
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(f"{number}: {error!r}")
                client.close()
        client.close()


@contextmanager
def users(live: Live) -> Iterator[tuple[Callers, Posters]]:
    """Everybody who must not notice."""
    ledger = Path(os.environ["ASBUILT_HOME"]) / "ledger"
    before = ledger.read_text()
    with Callers(live, kept=3, fresh=2) as callers, Posters(live) as posters:
        yield callers, posters
        callers.more()
    assert callers.failed == []
    assert posters.failed == []
    assert all(posters.ended)
    counted = Counter(ledger.read_text().removeprefix(before).split())
    assert {number: n for number, n in counted.items() if n > 1} == {}, "done twice"
    assert set(posters.done) <= set(counted)
    assert posters.done


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
        assert find_running(stage(live)) is not None
        refused = live.run("up", "production", check=False)
        assert refused.returncode == 3
        assert "LOCK-001" in refused.stderr
        done = live.run("deploy", "production", "--abort")
        assert "aborted as asked" in done.stderr
    assert set(served(live).values()) == {"r1"}
    assert states(live) == {"r2": "rolled-back", "r1": "active"}


@pytest.mark.parametrize("words", [(), ("--strategy", "blue-green")])
def test_the_controller_dies_at_every_move_and_the_next_goes_on(live: Live, words: tuple[str, ...]) -> None:
    change(live, note="second")
    client = [sys.executable, "-m", "asbuilt", "deploy", "production", "--json", *words]
    seen: set[str] = set()
    died = 0
    with users(live):
        while True:
            run = subprocess.Popen(
                client, cwd=live.project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            assert run.stdout is not None
            ended = False
            for text in run.stdout:
                line = json.loads(text)
                ended = ended or line.get("kind") == "end"
                move = line.get("move")
                if move and move not in seen:
                    seen.add(move)
                    for pid in controllers(live):
                        os.kill(pid, signal.SIGKILL)
                    died += 1
                    break
            _, said = run.communicate(timeout=60)
            assert "Traceback" not in said
            if ended:
                assert run.returncode == 0, said
                break
            assert run.returncode == 1
            assert "DEPLOY-005" in said
            blocked = live.run("up", "production", check=False)
            assert (blocked.returncode, "RELEASE-002" in blocked.stderr) == (3, True)
    assert died >= 3
    assert states(live) == {"r2": "active", "r1": "retired"}
    assert sorted(served(live).values()).count("r2") == 3
    assert live.up()["changed"] is False


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
    (project / "asbuilt.yaml").write_text(SPEC.format(python=sys.executable, ledger="/nowhere"))
    for verb in ("deploy", "rollback"):
        done = Live(project, "production").run(verb, "production", check=False)
        assert (done.returncode, "DEPLOY-001" in done.stderr) == (3, True), done.stderr
    assert list(home.iterdir()) == []
