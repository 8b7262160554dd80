"""The three ways of releasing, as the architecture document draws them, in the record of real runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from asbuilt.operations.acts import DEPLOY, HEALTHY, RESUME_ROUTING, STOP_ROUTING
from support.callers import Callers
from support.releasing import change, deploy, moving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.live import Live

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture
def live(home: Path, tmp_path: Path) -> Iterator[Live]:
    with moving(home, tmp_path / "project", ", step_time: 2s, patience: 90s") as one:
        yield one


def told(lines: list[dict[str, Any]], wanted: dict[str, str]) -> list[tuple[str, str]]:
    """The lines that say one of `wanted` (words by name), as (subject, name), in order."""
    found = []
    for line in lines:
        for name, words in wanted.items():
            if line.get("text", "").startswith(words):
                found.append((str(line["subject"]), name))
    return found


def moves(lines: list[dict[str, Any]]) -> list[str]:
    return [line["move"] for line in lines if "move" in line]


def test_rolling_update(live: Live) -> None:
    change(live, note="second")
    _, lines = deploy(live, "--no-surge")
    arrows = {
        "Stop Routing": STOP_ROUTING,
        "Deploy": f"{DEPLOY} r2",
        "Health Check OK": HEALTHY,
        "Resume Routing": RESUME_ROUTING,
    }
    assert told(lines, arrows) == [(f"app-{n}", arrow) for n in (1, 2, 3) for arrow in arrows]


def test_blue_green_deployment(live: Live) -> None:
    change(live, note="second")
    _, lines = deploy(live, "--strategy", "blue-green")
    green = ("app-4", "app-5", "app-6")
    steps = {
        "Deploy to Green": f"{DEPLOY} r2",
        "Test": "app-",
        "Route 100% Traffic": "100 % of the traffic to r2",
        "Active": "r2 is the stable release",
    }
    said = told([line for line in lines if line["kind"] != "done"], steps)
    order = [name for _, name in said]
    assert sorted(node for node, name in said if name == "Deploy to Green") == sorted(green)
    tests = [line["text"] for line in lines if line.get("subject") == "smoke"]
    assert tests == [f"{node} passed its smoke test" for node in green]
    last_test = max(n for n, line in enumerate(lines) if line.get("subject") == "smoke")
    switch = next(n for n, line in enumerate(lines) if line.get("move") == "100 % of the traffic to r2")
    assert last_test < switch
    assert order[-2:] == ["Route 100% Traffic", "Active"]
    assert not [move for move in moves(lines) if move.startswith("stop")], "Blue is idle, and a backup"
    _, back = deploy(live, "rollback")
    assert moves(back)[0] == "100 % of the traffic to r1"
    assert not told(back, {"Deploy": DEPLOY}), "switching back deploys nothing"


@pytest.mark.parametrize("mode", ["good", "fails 1.0"])
def test_canary_deployment(live: Live, mode: str) -> None:
    change(live, mode, "second")
    with Callers(live, kept=3, fresh=3, pause=0.005):
        end, lines = deploy(live, "--strategy", "canary", check=False)
    said = [
        line["move"] if "move" in line else line["verdict"]["verdict"]
        for line in lines
        if "traffic" in line.get("move", "") or "verdict" in line
    ]
    if mode == "good":
        assert said == [
            "10 % of the traffic to r2",
            "good",
            "50 % of the traffic to r2",
            "good",
            "100 % of the traffic to r2",
        ]
        assert end["exit"] == 0
    else:
        assert said == ["10 % of the traffic to r2", "bad", "0 % of the traffic to r2"]
        assert end["exit"] == 3
