"""Drills of a whole environment, run as its owner runs them: through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from support import until
from support.ledger import Ground, make_ledger
from support.live import Live, copy_example, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

YES = ("--confirm", "production")
SLOW = (
    ("controller-lost", ""),
    ("cache-primary-lost", ""),
    ("database-primary-lost", "frozen"),
    ("database-and-standby-lost", ""),
    ("all-app-servers-lost", ""),
    ("bad-release", ""),
)


@pytest.fixture(scope="module")
def live(module_home: Path) -> Iterator[Live]:
    with running(make_ledger(module_home / "project"), "production") as one:
        Ground(one).redundant()
        yield one


@pytest.fixture
def whole(live: Live) -> Live:
    Ground(live).redundant()
    return live


def drill(live: Live, name: str, *words: str) -> dict[str, Any]:
    found = live.json("drill", "production", name, *YES, *words, check=False)
    print(json.dumps({key: found.get(key) for key in ("verdict", "reasons", "measured", "legs", "error")}))
    return found


def schema_there(live: Live) -> bool:
    with psycopg.connect(Ground(live).variables["DATABASE_URL"], autocommit=True) as connection:
        row = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'asbuilt_drill'").fetchone()
    return row is not None


def test_nothing_is_broken_without_the_environments_name(whole: Live) -> None:
    before = {name: node["pid"] for name, node in whole.nodes().items()}
    refused = whole.run("drill", "production", "database-primary-lost", check=False)
    assert refused.returncode == 3
    assert "CONFIRM-001" in refused.stderr
    assert "--confirm production" in refused.stderr
    assert {name: node["pid"] for name, node in whole.nodes().items()} == before


def test_an_app_server_is_lost_and_nobody_notices(whole: Live) -> None:
    report = drill(whole, "app-server-lost")
    assert report["verdict"] == "passed"
    assert report["measured"]["rto"]["max"] < 30
    assert report["measured"]["lost"] == 0


def test_the_primary_database_is_lost_and_all_formats_tell_of_it(whole: Live) -> None:
    primary = whole.primary("database")
    report = drill(whole, "database-primary-lost")
    assert report["verdict"] == "passed"
    assert report["blast"] == [primary]
    assert report["measured"]["rto"]["max"] < 30
    assert (report["measured"]["lost"], report["measured"]["two_primaries"]) == (0, 0)
    assert {"detect", "fence", "promote", "first write", "full redundancy"} <= set(report["legs"])
    assert (whole.root / "drills" / f"{report['id']}.json").is_file()
    assert not schema_there(whole)
    text = whole.run("drill", "production", "report", report["id"]).stdout
    assert text.startswith("# database-primary-lost killed: passed")
    page = whole.run("drill", "production", "report", report["id"], "--format", "html").stdout
    assert page.startswith("<!doctype html>")
    rows = whole.json("status", "production", "--recovery")["recovery"]
    assert next(row for row in rows if row["procedure"] == "database failure")["report"] == report["id"]
    secret = Ground(whole).variables["DATABASE_URL"].partition("://")[2].partition(":")[2].partition("@")[0]
    for file in (whole.root / "drills").iterdir():
        assert secret not in file.read_text()


def begin_pair(live: Live, *words: str) -> subprocess.Popen[str]:
    """The drill that keeps two database nodes away, until its fault is on."""
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "asbuilt",
            "drill",
            "production",
            "database-and-standby-lost",
            *YES,
            *words,
            "--json",
        ],
        cwd=live.project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: state(live) == "on" and held(live), what="the fault to be on", within=90, every=0.1)
    return child


def state(live: Live) -> str:
    try:
        return str(json.loads((live.root / "drills" / "fault.json").read_text())["state"])
    except FileNotFoundError:
        return ""


def held(live: Live) -> list[str]:
    return [name for name, one in Ground(live).client().raw_status()["workloads"].items() if one["held"]]


def test_ctrl_c_takes_the_fault_away_and_says_aborted(whole: Live) -> None:
    child = begin_pair(whole)
    begun = time.monotonic()
    child.send_signal(signal.SIGINT)
    until(lambda: state(whole) == "removed" and not held(whole), what="the fault to be off", within=5)
    print(f"off after {time.monotonic() - begun:.1f} s")
    out, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    report = json.loads(out)
    assert report["verdict"] == "aborted"
    assert report["reasons"][0] == "interrupted"


def test_killed_with_its_fault_on_it_leaves_nothing_that_recover_does_not_take_away(whole: Live) -> None:
    child = begin_pair(whole)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate(timeout=60)
    until(lambda: state(whole) == "removed" and not held(whole), what="the fault to be off", within=10)
    begun = time.monotonic()
    removed = whole.json("drill", "production", "recover")["removed"]
    assert time.monotonic() - begun < 60
    assert "the schema asbuilt_drill" in removed
    assert whole.json("drill", "production", "recover")["removed"] == []
    assert not schema_there(whole)


@pytest.mark.slow
def test_a_stop_condition_ends_it(whole: Live) -> None:
    report = drill(whole, "database-and-standby-lost", "--patience", "3")
    assert report["verdict"] == "aborted"
    assert "no acknowledged write for more than 3 s" in report["reasons"][0]
    whole.healthy()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), SLOW)
def test_a_slow_drill_passes(whole: Live, name: str, variant: str) -> None:
    assert drill(whole, name, *(("--variant", variant) if variant else ()))["verdict"] == "passed"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_everything_passes_in_the_example(home: Path, tmp_path: Path) -> None:
    assert home.is_dir()
    with running(copy_example("shop", tmp_path), "production") as shop:
        Ground(shop).redundant()
        reports = shop.json("drill", "production", "--all", *YES, check=False)["reports"]
    print([(one["drill"], one["variant"], one["verdict"], one["reasons"]) for one in reports])
    assert len(reports) == 11
    assert {one["verdict"] for one in reports} == {"passed"}
