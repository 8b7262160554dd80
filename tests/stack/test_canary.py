"""A release on trial: a part of the users gets it, and what they see decides."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from support import until
from support.callers import Callers
from support.releasing import Posters, change, deploy, moving, served, states, users

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.live import Live

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture
def live(home: Path, tmp_path: Path) -> Iterator[Live]:
    steps = ", strategy: canary, steps: [20, 50], step_time: 2s, patience: 90s"
    with moving(home, tmp_path / "project", steps) as one:
        yield one


def traffic(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line["releases"] for line in lines if line["kind"] == "traffic"]


def test_a_good_release_takes_over_step_by_step(live: Live) -> None:
    change(live, note="second")
    with users(live) as (callers, posters):
        posters.stream(4)
        end, lines = deploy(live)
        callers.forget()
        callers.more()
        assert set(callers.releases) == {"r2"}
    outcome = end["outcome"]
    assert (outcome["release"], outcome["before"], outcome["lost"]) == ("r2", "r1", 0)
    assert [(one["step"], one["verdict"]) for one in outcome["verdicts"]] == [
        ("20 %", "good"),
        ("50 %", "good"),
    ]
    moves = [line["move"] for line in lines if "move" in line]
    assert [move for move in moves if "traffic" in move] == [
        "20 % of the traffic to r2",
        "50 % of the traffic to r2",
        "100 % of the traffic to r2",
    ]
    both = [tick for tick in traffic(lines) if {"r1", "r2"} <= set(tick)]
    assert both, "old and new side by side"
    assert set(both[0]["r2"]) == {"requests_per_second", "errors", "p50_ms", "p99_ms"}
    assert states(live) == {"r2": "active", "r1": "retired"}
    assert list(served(live).values()) == ["r2"] * 3


@pytest.mark.parametrize(
    ("mode", "reason", "most"),
    [
        ("fails 1.0", "errors", 25),
        ("fails 0.2", "errors", 12),
        ("post", "errors", 25),
        ("slow", "latency", 0),
        ("dying", "restarts", 5),
        ("leak", "open files", 0),
    ],
)
def test_a_bad_release_is_found_and_goes_back(live: Live, mode: str, reason: str, most: int) -> None:
    if mode == "leak":  # a trend takes some seconds to show
        spec = live.project / "asbuilt.yaml"
        spec.write_text(spec.read_text().replace("step_time: 2s", "step_time: 20s"))
    change(live, mode)
    with (
        Callers(live, kept=2, fresh=2) as callers,
        Callers(live, kept=1, path="/slow"),
        Posters(live) as posters,
    ):
        end, _ = deploy(live, check=False)
        callers.forget()
        callers.more()
        assert set(callers.releases) == {"r1"}
    assert (end["exit"], end["error"]["code"]) == (3, "DEPLOY-003")
    assert f"did not get through: {reason}" in end["error"]["what"]
    bad = [*callers.failed, *posters.failed]
    if mode != "dying":  # a POST that was under way there is not tried elsewhere
        assert all("500 broken" in one for one in bad), "the release's own failures, and no other"
    assert len(bad) <= most
    assert states(live) == {"r2": "failed", "r1": "active"}
    assert list(served(live).values()) == ["r1"] * 3


class User:
    """Somebody with a browser, which keeps a cookie."""

    def __init__(self, live: Live) -> None:
        points = json.loads((live.root / "environment.json").read_text())["entrypoints"]
        self._url = urlsplit(points["https"])
        self._context = ssl.create_default_context(cafile=str(live.root / "certificates" / "ca.crt"))
        self._cookie = ""
        self.releases: list[str] = []

    def ask(self) -> None:
        client = http.client.HTTPSConnection(
            str(self._url.hostname), self._url.port, timeout=10, context=self._context
        )
        client.request("GET", "/work", headers={"Cookie": self._cookie} if self._cookie else {})
        answer = client.getresponse()
        self._cookie = (answer.headers["Set-Cookie"] or self._cookie).partition(";")[0]
        self.releases.append(answer.read().decode().split()[1])
        client.close()

    @property
    def changes(self) -> int:
        return sum(one != other for one, other in pairwise(self.releases))


def test_a_user_stays_with_the_release_that_answered_first(live: Live) -> None:
    change(live, note="second")
    everybody = [User(live) for _ in range(30)]
    with Callers(live, kept=3, fresh=2), ThreadPoolExecutor() as pool:
        released = pool.submit(deploy, live)
        while not released.done():
            for user in everybody:
                user.ask()
        assert released.result()[0]["exit"] == 0
    for user in everybody:
        user.ask()
        assert user.changes <= 1, "nobody goes back and forth"
        assert user.releases[-1] == "r2"
    assert any(user.changes for user in everybody)


def test_no_traffic_is_neither_good_nor_bad(live: Live) -> None:
    spec = live.project / "asbuilt.yaml"
    spec.write_text(spec.read_text().replace("patience: 90s", "patience: 2s, without_evidence: back"))
    change(live, note="second")
    end, _ = deploy(live, check=False)
    assert (end["exit"], end["error"]["code"]) == (3, "DEPLOY-003")
    assert "not enough evidence at 20 %" in end["error"]["what"]
    spec.write_text(spec.read_text().replace("without_evidence: back", "without_evidence: proceed"))
    end, _ = deploy(live)
    assert [one["verdict"] for one in end["outcome"]["verdicts"]] == ["undecided", "undecided"]
    assert all("without enough evidence" in one["text"] for one in end["outcome"]["verdicts"])
    assert set(served(live).values()) == {"r2"}


def test_a_held_release_waits_for_a_word(live: Live) -> None:
    spec = live.project / "asbuilt.yaml"
    spec.write_text(spec.read_text().replace("patience: 90s", "patience: 2s, without_evidence: hold"))
    change(live, note="second")
    client = [sys.executable, "-m", "asbuilt", "deploy", "production"]
    run = subprocess.Popen(client, cwd=live.project, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    for step in ("20 %", "50 %"):
        for line in run.stderr:
            if f"not enough evidence at {step}: --promote" in line:
                break
        asked = subprocess.Popen([*client, "--promote"], cwd=live.project, stderr=subprocess.DEVNULL)
        until(partial(_left, live, step), what=f"the step after {step}", within=30)
        asked.terminate()
        asked.wait(10)
    _, rest = run.communicate(timeout=60)
    assert run.returncode == 0, rest
    assert set(served(live).values()) == {"r2"}


def _left(live: Live, step: str) -> bool:
    newest = max((live.root / "rollouts").glob("*.jsonl"))
    return f"{step}: promoted by hand" in newest.read_text()


def test_a_metric_of_the_business_is_a_gate(live: Live) -> None:
    spec = live.project / "asbuilt.yaml"
    gates = "patience: 90s, metrics: {orders: {counter: orders_total}}"
    spec.write_text(spec.read_text().replace("patience: 90s", gates))
    change(live, "fewer orders")
    with Callers(live, kept=3, fresh=2) as callers:
        end, _ = deploy(live, check=False)
        assert callers.failed == []
    assert "did not get through: orders" in end["error"]["what"]
    assert set(served(live).values()) == {"r1"}
