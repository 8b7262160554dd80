"""The main job on the tiny app: a whole production environment, looked at and used as its owner would."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import until
from support.callers import Callers
from support.live import Live, make_tiny, running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.stack

NODE_KEYS = {"id", "kind", "role", "engine", "address", "health", "release", "pid", "zone", "since"}
KINDS = {
    "lb-1": "load-balancer",
    "app-1": "app",
    "app-2": "app",
    "app-3": "app",
    "db-1": "database",
    "db-2": "database",
    "db-3": "database",
    "cache-1": "cache",
    "cache-2": "cache",
    "cache-3": "cache",
    "consensus-1": "consensus",
    "objects-1": "objects",
    "files-1": "files",
    "backup-1": "backup",
}


@pytest.fixture(scope="module")
def live(module_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    assert module_home.is_dir()
    project = make_tiny(tmp_path_factory.mktemp("main-job"))
    with running(project, "production") as environment:
        yield environment


def pids(live: Live) -> dict[str, int]:
    return {name: node["pid"] for name, node in live.nodes().items()}


def words_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")


def psql(live: Live, statement: str, *more: str) -> str:
    done = live.run("connect", "production", "psql", *more, "--", "-XAtc", statement)
    return done.stdout.strip()


def test_status_is_the_contract_that_other_tools_rely_on(live: Live) -> None:
    status = live.json("status", "production")
    assert {name: status[name] for name in ("schema", "name", "environment", "target")} == {
        "schema": 1,
        "name": "tiny",
        "environment": "production",
        "target": "local",
    }
    assert status["healthy"] is True
    assert status["release"] == "r1"
    assert status["operation"] is None
    assert re.fullmatch(r"https://127\.0\.0\.1:\d+", status["entrypoints"]["https"])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", status["entrypoints"]["http"])
    nodes: dict[str, dict[str, Any]] = {node["id"]: node for node in status["nodes"]}
    assert {name: node["kind"] for name, node in nodes.items()} == KINDS
    for node in nodes.values():
        assert node.keys() >= NODE_KEYS
        assert node["health"] == "ready"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", node["since"])
        assert node["release"] == ("r1" if node["kind"] == "app" else None)
        roles = {"primary", "replica"} if node["kind"] in ("database", "cache") else {None}
        assert node["role"] in roles
    for kind in ("database", "cache"):
        found = sorted(node["role"] for node in nodes.values() if node["kind"] == kind)
        assert found == ["primary", "replica", "replica"]


def test_the_pid_is_the_engines_own_and_its_address_answers(live: Live) -> None:
    nodes = live.nodes()
    for name, node in nodes.items():
        if node["kind"] == "files":
            assert node["pid"] is None
            continue
        assert Path(f"/proc/{node['pid']}").is_dir(), name
        if node["kind"] == "backup":
            assert node["address"] == "", "nobody calls it"
            continue
        host, _, port = node["address"].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5):
            pass
    for name in ("db-1", "db-2", "db-3"):
        recorded = (live.root / "nodes" / name / "data" / "postmaster.pid").read_text().splitlines()[0]
        assert nodes[name]["pid"] == int(recorded), "the postmaster, not what watches it"


def test_up_again_does_nothing_and_a_plan_says_so(live: Live) -> None:
    before = pids(live)
    outcome = live.up()
    assert (outcome["changed"], outcome["steps"], outcome["release"]) == (False, 0, "r1")
    assert pids(live) == before
    assert live.run("plan", "production").returncode == 0
    assert live.json("up", "production", "--dry-run")["steps"] == []


def test_an_edit_is_planned_then_rolled_out_without_a_failed_request(live: Live) -> None:
    source = live.project / "app.py"
    changed = source.read_text().replace("{self.path}", "{self.path} edited")
    source.write_text(changed)
    before = pids(live)
    planned = live.json("plan", "production", check=False)
    assert live.run("plan", "production", check=False).returncode == 2
    assert [(s["kind"], s["subject"]) for s in planned["steps"] if s["kind"] != "setup"] == [
        ("restart", "app-1"),
        ("restart", "app-2"),
        ("restart", "app-3"),
    ]
    assert live.run("up", "production", "--dry-run").returncode == 0
    assert pids(live) == before, "a plan touches nothing"
    with Callers(live, kept=3, fresh=2) as callers:
        outcome = live.up()
        callers.forget()
        callers.more(60)
    assert callers.failed == []
    assert set(callers.releases) == {"r2"}
    assert set(callers.nodes) == {"app-1", "app-2", "app-3"}
    assert outcome["release"] == "r2"
    after = pids(live)
    moved = {name for name in after if after[name] != before[name]}
    assert moved == {"app-1", "app-2", "app-3"}, "nothing but the app was replaced"
    status, said = live.get("/x")
    assert (status, said.split()[1:]) == (200, ["r2", "/x", "edited"])
    print(f"rolling: {callers.good} answers, slowest {callers.slowest:.2f} s, gap {callers.gap():.2f} s")


def test_releases_are_listed_newest_first(live: Live) -> None:
    rows = live.json("releases", "production")["releases"]
    assert [row["id"] for row in rows] == ["r2", "r1"]
    assert [row["state"] for row in rows] == ["active", "superseded"] or rows[0]["state"] == "active"
    assert "r2" in live.run("releases", "production").stdout


def test_logs_by_node_pattern_and_time(live: Live) -> None:
    lines = [
        json.loads(one)
        for one in live.run("logs", "production", "--node", "db-1", "--json").stdout.splitlines()
    ]
    assert lines
    assert {line["node"] for line in lines} == {"db-1"}
    assert {"schema", "node", "time", "text"} == set(lines[0])
    found = live.run("logs", "production", "--grep", "/work").stdout.splitlines()
    assert found
    assert all("/work" in line for line in found)
    assert live.run("logs", "production", "--since", "2999-01-01T00:00:00Z").stdout == ""
    assert live.run("logs", "production", "--since", "1h", "-n", "3").stdout.count("\n") == 3
    assert live.run("logs", "production", "--node", "nobody", check=False).returncode == 2
    assert live.run("logs", "production", "--grep", "(", check=False).returncode == 2
    assert live.run("logs", "production", "--since", "yesterday", check=False).returncode == 2


def test_logs_follow_until_interrupted(live: Live) -> None:
    argv = [sys.executable, "-m", "asbuilt", "logs", "production", "--node", "lb-1", "--follow", "-n", "0"]
    with subprocess.Popen(argv, cwd=live.project, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        said = b""

        def heard() -> bool:
            nonlocal said
            live.get("/follow-me")
            said += process.stdout.read() or b""  # type: ignore[union-attr] # asserted above
            return b"/follow-me" in said

        try:
            until(heard, what="the request in the followed log", every=0.2)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


def test_connect_opens_the_right_doors(live: Live) -> None:
    assert psql(live, "select current_user, pg_is_in_recovery()") == "app|f"
    assert psql(live, "select pg_is_in_recovery()", "--replica") == "t"
    assert psql(live, "select current_user", "--admin") == "postgres"
    told = live.run("connect", "production", "psql", "--json", "--", "-XAtc", "select 6 * 7")
    assert json.loads(told.stdout)["stdout"].strip() == "42"
    wrong = live.run("connect", "production", "psql", "--", "-XAtc", "select nothing", check=False)
    assert wrong.returncode == 1
    assert live.run("connect", "production", "redis", "--", "ping").stdout.strip() == "PONG"
    cached = live.json("connect", "production", "redis", check=False)
    assert cached["status"] == 0
    shell = live.run(
        "connect", "production", "app-2", "--", "-c", "echo $ASBUILT_NODE", env={"SHELL": "/bin/sh"}
    )
    assert shell.stdout.strip() == "app-2"
    nowhere = live.run("connect", "production", "cellar", check=False)
    assert nowhere.returncode == 2
    assert "CONNECT-001" in nowhere.stderr


def test_the_diagram_shows_what_runs(live: Live) -> None:
    drawn = live.run("diagram", "production").stdout
    for name in KINDS:
        assert name.replace("-", "") in drawn.replace("-", "").replace("_", ""), name
    assert live.run("diagram", "production", "--live").stdout != drawn
    ET.fromstring(live.run("diagram", "production", "--format", "svg").stdout)  # noqa: S314 - our own drawing
    target = live.project.parent / "drawn.svg"
    live.run("diagram", "production", "--format", "svg", "--live", "-o", str(target))
    ET.fromstring(target.read_text())  # noqa: S314
    target.unlink()


def test_open_doctor_and_completion(live: Live) -> None:
    address = live.run("open", "production").stdout.strip()
    assert address == live.status()["entrypoints"]["https"]
    findings = live.json("doctor", "production")
    assert findings["good"] is True
    assert {"postgresql", "haproxy", "etcd", "seaweedfs"} <= {one["about"] for one in findings["findings"]}
    script = live.run("completion", "bash").stdout
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    chosen = subprocess.run(
        ["bash", "-c", f"{script}\nCOMP_WORDS=(asbuilt st); COMP_CWORD=1; _asbuilt; echo ${{COMPREPLY[@]}}"],
        text=True,
        capture_output=True,
        check=True,
    )
    assert chosen.stdout.split() == ["status"]


def test_a_killed_replica_comes_back_by_itself(live: Live) -> None:
    replica = next(
        n for n, node in live.nodes().items() if (node["kind"], node["role"]) == ("database", "replica")
    )
    before = live.nodes()[replica]
    os.kill(before["pid"], signal.SIGKILL)
    until(
        lambda: (
            (now := live.nodes()[replica])["pid"] not in (None, before["pid"]) and now["health"] == "ready"
        ),
        what=f"{replica} to be ready again",
        within=60,
        every=0.3,
    )
    live.healthy()


def test_down_leaves_nothing_and_up_brings_the_data_back(live: Live) -> None:
    psql(live, "create table kept as select 42 as answer")
    live.run("connect", "production", "redis", "--", "set", "kept", "42")
    (live.root / "files" / "kept").write_text("42")
    assert live.json("down", "production", "--dry-run")["steps"]
    refused = live.run("down", "production", "--delete-data", "--confirm", "prod", check=False)
    assert refused.returncode == 3
    assert "CONFIRM-001" in refused.stderr
    assert live.status()["healthy"], "refused means that nothing was touched"
    live.down()
    assert not [pid for name in KINDS for pid in live.tree(name)]
    status = live.status()
    assert (status["healthy"], status["nodes"], status["entrypoints"]) == (False, [], {})
    assert live.run("open", "production", check=False).returncode == 1
    live.down()
    outcome = live.up()
    assert outcome["release"] == "r2"
    assert psql(live, "select answer from kept") == "42"
    assert live.run("connect", "production", "redis", "--", "get", "kept").stdout.strip() == "42"
    assert (live.root / "files" / "kept").read_text() == "42"
    assert live.status()["healthy"]


def test_deleting_the_data_needs_the_name_and_leaves_no_file(live: Live) -> None:
    assert live.run("down", "production", "--delete-data", check=False).returncode == 3
    done = live.json("down", "production", "--delete-data", "--confirm", "production")
    assert done["data_deleted"] is True
    assert not live.root.exists()
