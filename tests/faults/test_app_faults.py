"""App servers and the balancer in front of them, broken under load."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from asbuilt.engines.haproxy import admin
from asbuilt.engines.haproxy.names import MASTER_SOCKET
from asbuilt.observe.snapshot import Health
from asbuilt.targets.local.client import find_agent
from support import until
from support.callers import Callers
from support.live import TINY_APP, Live, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.faults

START_SECONDS = 1.0
"""How long the app takes to listen: what recovery times are compared with."""
MARGIN = 6.0
"""Seconds for noticing, starting Python and the balancer's own check, on a busy machine."""
SPEC = """\
name: hurt
app:
  command: python3 app.py
  env: {SWITCHES: "FOLDER"}
environments:
  production: {database: none, cache: none, objects: none, files: none}
"""
APP = f"import os, time\ntime.sleep({START_SECONDS})\n" + TINY_APP.replace(
    "        time.sleep(float(",
    "        while os.path.exists(os.environ['SWITCHES'] + '/hang-' + os.environ['ASBUILT_NODE']):\n"
    "            time.sleep(0.1)\n"
    "        time.sleep(float(",
)
APPS = ("app-1", "app-2", "app-3")


@pytest.fixture(scope="module")
def live(module_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    assert module_home.is_dir()
    project = tmp_path_factory.mktemp("hurt") / "project"
    project.mkdir()
    (project / "app.py").write_text(APP)
    (project / "asbuilt.yaml").write_text(SPEC.replace("FOLDER", str(project.parent / "hurt-switches")))
    (project.parent / "hurt-switches").mkdir()
    with running(project, "production") as environment:
        yield environment


@pytest.fixture(autouse=True)
def _whole_again(live: Live) -> Iterator[None]:
    live.healthy()
    yield
    for switch in (live.project.parent / "hurt-switches").iterdir():
        switch.unlink()
    live.healthy()


def kill(live: Live, *names: str) -> None:
    nodes = live.nodes()
    for name in names:
        os.kill(nodes[name]["pid"], signal.SIGKILL)


def back(live: Live, before: dict[str, int]) -> float:
    """Seconds until every server of `before` runs as another process and is ready."""
    begun = time.monotonic()
    agent = find_agent(live.root)
    assert agent is not None

    def replaced() -> bool:
        seen = agent.snapshot().workloads
        return all(
            seen[name].health is Health.READY and seen[name].pid not in (None, pid)
            for name, pid in before.items()
        )

    until(replaced, what="the killed servers to be back", within=60, every=0.05)
    return time.monotonic() - begun


@pytest.mark.parametrize("killed", [APPS[:1], APPS[:2]], ids=["one", "half"])
def test_killed_app_servers_cost_no_request_while_one_is_left(live: Live, killed: tuple[str, ...]) -> None:
    before = {name: live.nodes()[name]["pid"] for name in killed}
    with Callers(live, kept=3, fresh=2) as callers:
        kill(live, *killed)
        seconds = back(live, before)
        callers.forget()
        until(lambda: set(callers.nodes) == set(APPS), what="requests for all three", within=40)
    print(f"{len(killed)} killed: back in {seconds:.2f} s, slowest answer {callers.slowest:.2f} s")
    assert callers.failed == []
    assert seconds < 2 * START_SECONDS + MARGIN


def test_all_app_servers_killed_at_once_are_waited_for(live: Live) -> None:
    before = {name: live.nodes()[name]["pid"] for name in APPS}
    with Callers(live, kept=3, fresh=2) as callers:
        kill(live, *APPS)
        seconds = back(live, before)
        callers.forget()
        until(lambda: set(callers.nodes) == set(APPS), what="requests for all three", within=40)
    print(
        f"all killed: back in {seconds:.2f} s, gap {callers.gap():.2f} s, {len(callers.failed)} of "
        f"{callers.good + len(callers.failed)} failed"
    )
    assert seconds < 2 * START_SECONDS + MARGIN
    assert callers.gap() < 2 * START_SECONDS + MARGIN
    assert len(callers.failed) <= 5, "only what was under way may fail: one request of each client"


def test_a_server_that_accepts_and_never_answers_is_replaced(live: Live) -> None:
    before = {"app-2": live.nodes()["app-2"]["pid"]}
    with Callers(live, kept=2, fresh=1, patience=60) as callers:
        (live.project.parent / "hurt-switches" / "hang-app-2").touch()
        until(
            lambda: live.nodes()["app-2"]["health"] != "ready",
            what="the hang to be seen",
            within=40,
            every=0.2,
        )
        assert live.status()["healthy"] is False
        (live.project.parent / "hurt-switches" / "hang-app-2").unlink()
        # it may have been ended as hung, or have found its voice again: both are well
        live.healthy()
        callers.more(50)
    print(f"hang: slowest answer {callers.slowest:.2f} s, was {before}, is {live.nodes()['app-2']['pid']}")
    assert callers.failed == []


def test_a_frozen_server_is_ended_and_started_again(live: Live) -> None:
    before = {"app-3": live.nodes()["app-3"]["pid"]}
    with Callers(live, kept=2, fresh=1, patience=60) as callers:
        os.kill(before["app-3"], signal.SIGSTOP)
        seconds = back(live, before)
    print(f"frozen: back in {seconds:.2f} s, slowest answer {callers.slowest:.2f} s")
    assert callers.failed == []
    assert seconds < 2.0 + 2 * START_SECONDS + MARGIN


def test_reloading_the_balancer_with_a_server_down_costs_nothing(live: Live) -> None:
    balancer = live.nodes()["lb-1"]["pid"]
    (live.project.parent / "hurt-switches" / "hang-app-1").touch()
    until(lambda: live.nodes()["app-1"]["health"] != "ready", what="app-1 to hang", within=40, every=0.2)
    with Callers(live, kept=3, fresh=2, patience=60) as callers:
        for _ in range(4):
            admin.reload(live.root / "nodes" / "lb-1" / MASTER_SOCKET)
            callers.more(50)
    assert callers.failed == []
    assert live.nodes()["lb-1"]["pid"] == balancer, "a reload, not a restart"


def test_an_edit_of_the_balancer_reloads_it_without_a_failed_request(live: Live) -> None:
    spec = live.project / "asbuilt.yaml"
    before = spec.read_text()
    balancer = live.nodes()["lb-1"]["pid"]
    spec.write_text(before.replace("{database", "{load_balancer: {health_check: {interval: 7s}}, database"))
    try:
        with Callers(live, kept=3, fresh=2, patience=60) as callers:
            steps = live.json("plan", "production", check=False)["steps"]
            assert [(step["kind"], step["subject"]) for step in steps] == [("reload", "lb-1")]
            live.up()
            callers.more(50)
    finally:
        spec.write_text(before)
        live.up()
    assert callers.failed == []
    assert live.nodes()["lb-1"]["pid"] == balancer, "a reload, not a restart"


def test_an_orphan_that_shares_the_balancers_port_is_named(live: Live) -> None:
    """HAProxy allows others of the same user to listen beside it, and they take a part of the requests."""
    port = int(live.status()["entrypoints"]["https"].rpartition(":")[2])
    spec = live.project / "asbuilt.yaml"
    before = spec.read_text()
    spec.write_text(before.replace("{database", f"{{load_balancer: {{https_port: {port}}}, database"))
    try:
        live.up()
        with socket.socket() as orphan:
            orphan.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                orphan.bind(("127.0.0.1", port))
            except OSError:
                return  # the balancer does not let itself be shared with
            orphan.listen()
            refused = live.run("up", "production", check=False)
            assert refused.returncode == 1
            assert "LOCAL-011" in refused.stderr
            assert f"pid {os.getpid()}" in refused.stderr
    finally:
        spec.write_text(before)
        live.up()
