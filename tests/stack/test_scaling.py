"""The number of app servers follows the load, and what goes wrong on the way costs nobody a request."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from support import until
from support.callers import Callers
from support.releasing import change, deploy, moving, served, users

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.live import Live

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
SCALER = "lb-1.scaler"


@pytest.fixture
def live(home: Path, tmp_path: Path) -> Iterator[Live]:
    with moving(home, tmp_path / "project", app="  scaling: {in_flight: 2}\n") as one:
        yield one


def decided(live: Live) -> str:
    scaling = live.status()["scaling"]
    return str(scaling["reason"]) if scaling else ""


def scaler(live: Live) -> int:
    """The pid on record of its process; 0 while it is being written."""
    with suppress(ValueError):
        return int(json.loads((live.root / "agent" / "pids" / SCALER).read_text())["pid"])
    return 0


def test_more_servers_for_more_requests_and_nobody_undoes_it(live: Live) -> None:
    spec = live.project / "asbuilt.yaml"
    spec.write_text(spec.read_text().replace("COLOUR: none", 'COLOUR: none, PAUSE: "0.2"'))
    deploy(live)
    with Callers(live, kept=14, fresh=0, pause=0.0) as callers:
        until(lambda: len(served(live)) > 3, what="a fourth server", within=60)
        until(lambda: callers.nodes["app-4"] > 0, what="an answer of it", within=30)
        assert "requests in flight" in (live.root / "logs" / f"{SCALER}.log").read_text()
        more = len(served(live))
        assert live.up()["changed"] is False, "the number stays"
        pid = scaler(live)
        os.kill(pid, signal.SIGKILL)
        until(lambda: scaler(live) not in {0, pid}, what="another scaler", within=30)
        assert len(served(live)) >= more, "without it the number stays as it is"
        assert callers.failed == []
        deploy(live, "scale", "app=3")
        until(lambda: "by hand" in decided(live), what="the scaler to heed the owner", within=30)
        assert len(served(live)) == 3
        deploy(live, "scale", "app=auto")
        until(lambda: len(served(live)) > 3, what="more servers again", within=60)
    assert callers.failed == []


def test_a_server_that_does_not_start_keeps_no_other_from_serving(live: Live) -> None:
    change(live, "lame app-5")
    deploy(live)
    with users(live) as (callers, _):
        end, _ = deploy(live, "scale", "app=6", check=False)
        assert end["exit"] != 0
        assert "app-5" in end["error"]["what"]
        until(lambda: callers.nodes["app-6"] > 0, what="an answer of the other new one", within=30)
        assert set(served(live)) == {"app-1", "app-2", "app-3", "app-4", "app-5", "app-6"}
        deploy(live, "scale", "app=3")
    assert set(served(live)) == {"app-1", "app-2", "app-3"}
    assert live.up()["changed"] is False


def test_a_scaler_that_sees_nothing_removes_nothing(live: Live) -> None:
    deploy(live, "scale", "app=5")
    deploy(live, "scale", "app=auto")
    admin = live.root / "nodes" / "lb-1" / "run" / "admin.sock"
    hidden = admin.with_name("hidden.sock")
    admin.rename(hidden)
    try:
        until(lambda: "missing" in decided(live), what="the scaler to see nothing", within=30)
        assert "stays at" in decided(live)
    finally:
        hidden.rename(admin)
