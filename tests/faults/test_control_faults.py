"""The control plane broken: killed at every step, its memory spoiled, two at once, bad surroundings."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import until
from support.killing import killed_at
from support.live import TINY_APP, Live, make_tiny

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.faults

SMALL = """\
name: small
app:
  command: python3 app.py
  migrate: python3 migrate.py
  instances: 1
  env: {COUNTER: "FOLDER/count"}
environments:
  staging: {database: none, cache: none, objects: none}
"""
MIGRATE = "import os\nopen(os.environ['COUNTER'], 'a').write('x')\n"


def make_small(folder: Path, app: str = TINY_APP) -> Live:
    project = folder / "project"
    project.mkdir(parents=True)
    (project / "app.py").write_text(app)
    (project / "migrate.py").write_text(MIGRATE)
    (project / "asbuilt.yaml").write_text(SMALL.replace("FOLDER", str(folder)))
    return Live(project, "staging")


@contextmanager
def ended(live: Live) -> Iterator[Live]:
    """The environment is gone after the block, whatever state it was left in."""
    try:
        yield live
    finally:
        live.run("down", live.name, "--delete-data", "--confirm", live.name, check=False)


@pytest.fixture
def small(home: Path, tmp_path: Path) -> Iterator[Live]:
    assert home.is_dir()
    with ended(make_small(tmp_path)) as live:
        yield live


@pytest.fixture(scope="module")
def shared(module_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One running environment for the tests that leave it as it was."""
    assert module_home.is_dir()
    with ended(make_small(tmp_path_factory.mktemp("shared"))) as live:
        live.up()
        yield live


def moments(said: str) -> int:
    return int(said.splitlines()[-1].split()[0])


def pids(live: Live) -> dict[str, int]:
    return {name: node["pid"] for name, node in live.nodes().items()}


def started(live: Live, name: str) -> list[int]:
    """The processes of a node that the agent started, without their children."""
    tree = live.tree(name)
    parents = {pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in tree}
    return [pid for pid, parent in parents.items() if parent not in tree]


def count(live: Live) -> int:
    return len((live.project.parent / "count").read_text())


# -- killed --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_up_killed_at_every_step_boundary_goes_on_and_does_nothing_twice(home: Path, tmp_path: Path) -> None:
    assert home.is_dir()
    with ended(make_small(tmp_path / "whole")) as live:
        _, said = killed_at(live, 0, "up", "staging")
        total = moments(said)
    assert total > 10
    for moment in range(1, total + 1):
        with ended(make_small(tmp_path / str(moment))) as live:
            status, said = killed_at(live, moment, "up", "staging")
            assert status in (-signal.SIGKILL, 0), said  # the last moments of fewer steps may not come
            outcome = live.up()
            assert outcome["release"] == "r1", f"moment {moment}"
            assert count(live) == 1, f"moment {moment}: migrated twice"
            for name in ("app-1", "lb-1"):
                assert len(started(live, name)) == 1, f"moment {moment}: {name} runs twice"
            assert live.get("/x")[0] == 200
            assert moment % 4 or live.up()["steps"] == 0, f"moment {moment}"
    print(f"up was killed at {total} moments")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_down_killed_at_every_step_boundary_ends_when_run_again(small: Live) -> None:
    small.up()
    _, said = killed_at(small, 0, "down", "staging")
    for moment in range(1, moments(said) + 1):
        small.up()
        status, said = killed_at(small, moment, "down", "staging")
        assert status == -signal.SIGKILL, said
        small.down()
        assert not [pid for name in ("app-1", "lb-1") for pid in small.tree(name)], f"moment {moment}"
        assert small.status()["nodes"] == []
    assert count(small) == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_production_killed_anywhere_has_one_database_and_is_made_smaller_only_when_told(
    home: Path, tmp_path: Path
) -> None:
    assert home.is_dir()
    seed = int(os.environ.get("ASBUILT_TEST_SEED") or random.randrange(10**6))
    print(f"seed {seed}: ASBUILT_TEST_SEED={seed} repeats it")
    chance = random.Random(seed)
    project = make_tiny(
        tmp_path / "tiny",
        "name: tiny\napp:\n  command: python3 app.py\n  instances: 1\nenvironments:\n"
        "  production: {objects: none, cache: none, database: {replicas: 2}}\n",
    )
    with ended(Live(project, "production")) as live:
        for moment in (chance.randint(8, 16), chance.randint(2, 14), chance.randint(2, 8)):
            status, said = killed_at(live, moment, "up", "production")
            assert status in (-signal.SIGKILL, 0), said
        live.up()
        assert live.up()["steps"] == 0
        replicas = "select count(*) from pg_stat_replication"
        told = live.run("connect", "production", "psql", "--admin", "--", "-XAtc", replicas).stdout
        assert told.strip() == "2", "all three are copies of one database"
        (project / "asbuilt.yaml").write_text(
            (project / "asbuilt.yaml").read_text().replace("replicas: 2", "replicas: 1")
        )
        refused = live.run("up", "production", check=False)
        assert refused.returncode == 3
        assert "db-3" in refused.stderr
        assert "CONFIRM-001" in refused.stderr
        assert len([n for n in live.nodes() if n.startswith("db-")]) == 3, "refused: nothing was touched"
        live.run("up", "production", "--confirm", "production")
        live.healthy()
        assert sorted(n for n in live.nodes() if n.startswith("db-")) == ["db-1", "db-2"]
        assert (live.root / "nodes" / "db-3" / "data").is_dir(), "files are kept"
        assert live.primary("database") in ("db-1", "db-2")


# -- its memory ----------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def spoil(path: Path) -> None:
    path.write_bytes(random.Random(7).randbytes(8192))


@pytest.mark.parametrize("harm", [truncate, spoil, Path.unlink], ids=["truncated", "garbage", "deleted"])
def test_a_lost_journal_is_rebuilt_and_nothing_restarts(shared: Live, harm: Callable[[Path], None]) -> None:
    before, release, migrations = pids(shared), shared.status()["release"], count(shared)
    for extra in ("journal.sqlite-wal", "journal.sqlite-shm"):
        (shared.root / extra).unlink(missing_ok=True)
    harm(shared.root / "journal.sqlite")
    status = shared.json("status", "staging")
    assert status["healthy"]
    outcome = shared.up()
    assert outcome["release"] == release
    assert pids(shared) == before
    assert count(shared) == migrations, "the migration is not done again"
    assert shared.up()["steps"] == 0


def test_a_journal_that_was_rolled_back_does_not_reuse_an_epoch(shared: Live) -> None:
    journal = shared.root / "journal.sqlite"
    with sqlite3.connect(journal) as db:
        db.execute("pragma wal_checkpoint(truncate)")
        old = db.execute("select epoch from lock").fetchone()[0]
    db.close()
    copy = journal.read_bytes()
    for _ in range(3):
        shared.up("--confirm", "staging")
    shared.run("up", "staging")
    before = pids(shared)
    for extra in ("journal.sqlite-wal", "journal.sqlite-shm"):
        (shared.root / extra).unlink(missing_ok=True)
    journal.write_bytes(copy)
    (shared.project / "app.py").write_text(TINY_APP + "# later\n")
    try:
        outcome = shared.up()
        assert outcome["changed"]
        with sqlite3.connect(journal) as db:
            assert db.execute("select epoch from lock").fetchone()[0] > old
        db.close()
        after = pids(shared)
        assert after["lb-1"] == before["lb-1"]
        assert after["app-1"] != before["app-1"]
    finally:
        (shared.project / "app.py").write_text(TINY_APP)
        shared.up()


@pytest.mark.parametrize("file", ["workloads/app-1.json", "epoch", "pids/app-1"])
def test_spoilt_state_of_a_killed_agent_is_survived(shared: Live, file: str) -> None:
    agent = int((shared.root / "agent" / "pid").read_text().split()[0])
    target = shared.root / "agent" / file
    assert target.exists()
    os.kill(agent, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{agent}/fd/0").exists(), what="the agent to end")
    spoil(target)
    assert shared.get("/x")[0] == 200, "traffic needs no agent"
    shared.up()
    shared.healthy()
    assert shared.get("/x")[0] == 200
    assert len(started(shared, "app-1")) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_told_and_more_space_is_all_it_takes(home: Path, tmp_path: Path) -> None:
    disk = home / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "small", str(disk)], check=True)
    live = make_small(tmp_path)
    there = {"ASBUILT_HOME": str(disk)}
    try:
        failed = live.run("up", "staging", check=False, env=there)
        assert failed.returncode in (1, 4)
        assert "error[" in failed.stderr
        assert "BUG-" not in failed.stderr
        assert "space" in failed.stderr
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        live.run("up", "staging", env=there)
        assert live.run("status", "staging", env=there).returncode == 0
    finally:
        live.run("down", "staging", "--delete-data", "--confirm", "staging", check=False, env=there)
        subprocess.run(["umount", "-l", str(disk)], check=False)


# -- two at once ---------------------------------------------------------------------------------------------

SLOW_APP = "import time\ntime.sleep(4)\n" + TINY_APP


@contextmanager
def begun(live: Live, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command in the background, ended after the block."""
    argv = [sys.executable, "-m", "asbuilt", *words]
    with subprocess.Popen(
        argv, cwd=live.project, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def under_way(live: Live) -> dict[str, Any] | None:
    found: dict[str, Any] | None = live.status()["operation"]
    return found


def app_runs(live: Live) -> bool:
    return bool(live.tree("app-1"))


def test_the_second_of_two_is_refused_and_told_who_is_at_work(home: Path, tmp_path: Path) -> None:
    assert home.is_dir()
    with ended(make_small(tmp_path, SLOW_APP)) as live, begun(live, "up", "staging") as first:
        until(lambda: app_runs(live), what="the first to be at work")
        for verb in ("up", "down"):
            second = live.run(verb, "staging", check=False)
            assert second.returncode == 3
            assert "LOCK-001" in second.stderr
            assert str(first.pid) in second.stderr
        found = under_way(live)
        assert found is not None
        assert (found["verb"], str(first.pid) in found["owner"]) == ("up", True)
        _, said = first.communicate(timeout=60)
        assert first.returncode == 0, said
        assert under_way(live) is None


def test_a_paused_client_whose_lock_was_taken_does_nothing_when_it_wakes(home: Path, tmp_path: Path) -> None:
    assert home.is_dir()
    with ended(make_small(tmp_path, SLOW_APP)) as live, begun(live, "up", "staging") as first:
        until(lambda: app_runs(live), what="the first to be at work")
        first.send_signal(signal.SIGSTOP)
        with sqlite3.connect(live.root / "journal.sqlite") as db:
            db.execute("update lock set expires = 0")  # half a minute of silence
        db.close()
        taking = live.run("up", "staging")
        assert "silent too long" in taking.stderr
        before = pids(live)
        first.send_signal(signal.SIGCONT)
        _, said = first.communicate(timeout=60)
        assert first.returncode in (0, 4), said
        assert "Traceback" not in said
        assert pids(live) == before
        assert live.status()["healthy"]
        assert live.up()["steps"] == 0


def test_ctrl_c_says_that_it_goes_on_from_there(home: Path, tmp_path: Path) -> None:
    assert home.is_dir()
    with ended(make_small(tmp_path, SLOW_APP)) as live:
        with begun(live, "up", "staging") as first:
            until(lambda: app_runs(live), what="the first to be at work")
            first.send_signal(signal.SIGINT)
            _, said = first.communicate(timeout=30)
        assert first.returncode == 130
        assert "goes on from here" in said
        assert "Traceback" not in said
        live.run("up", "staging")
        assert live.status()["healthy"]
        assert count(live) == 1


# -- bad edits, bad engines, bad places, bad apps ------------------------------------------------------------


def edited(live: Live, old: str, new: str) -> None:
    spec = live.project / "asbuilt.yaml"
    assert old in spec.read_text()
    spec.write_text(spec.read_text().replace(old, new))


@pytest.mark.parametrize("version", [None, "1.2.3", "not a version"])
def test_a_wrong_engine_is_told_before_anything_starts(
    small: Live, tmp_path: Path, version: str | None
) -> None:
    folder = tmp_path / "engine"
    folder.mkdir()
    if version is not None:
        fake = folder / "haproxy"
        fake.write_text(f"#!/bin/sh\necho HAProxy version {version} 2001/01/01\n")
        fake.chmod(0o755)
    edited(small, "{database", f'{{engines: {{haproxy: {{path: "{folder}"}}}}, database')
    failed = small.run("up", "staging", check=False)
    assert failed.returncode in (1, 2)
    assert "haproxy" in failed.stderr
    assert "BUG-" not in failed.stderr
    assert small.status()["nodes"] == []


def as_ordinary_user(live: Live, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line without root's power over permissions."""
    prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"] if os.geteuid() == 0 else []
    return subprocess.run(
        [*prefix, sys.executable, "-m", "asbuilt", *words],
        cwd=live.project,
        text=True,
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
    )


@pytest.fixture
def no_user_namespaces() -> None:
    if os.geteuid() == 0 and subprocess.run(["unshare", "--user", "true"], check=False).returncode != 0:
        pytest.skip("root without user namespaces: permissions cannot be tested")


@pytest.mark.usefixtures("no_user_namespaces")
def test_a_read_only_home_is_told(small: Live, home: Path) -> None:
    home.chmod(0o500)
    try:
        failed = as_ordinary_user(small, "up", "staging")
    finally:
        home.chmod(0o700)
    assert failed.returncode == 1
    assert failed.stderr.lstrip().splitlines()[0].startswith("error[")
    assert "BUG-" not in failed.stderr
    assert str(home) in failed.stderr
    assert not list(home.iterdir())


@pytest.mark.usefixtures("no_user_namespaces")
def test_a_read_only_project_is_enough(small: Live) -> None:
    for path in (*small.project.iterdir(), small.project):
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        done = as_ordinary_user(small, "up", "staging")
        assert done.returncode == 0, done.stderr
        small.healthy()
    finally:
        ending = as_ordinary_user(small, "down", "staging", "--delete-data", "--confirm", "staging")
        small.project.chmod(0o700)
    assert ending.returncode == 0, ending.stderr
    assert not small.root.exists()


def test_an_app_that_never_gets_healthy_is_shown_and_a_good_one_follows(small: Live) -> None:
    # buffered: a check that has seen the status line may hang up before a second packet
    sick = (
        TINY_APP.replace("send_response(200)", "send_response(503)")
        .replace("Server((os", "print('I feel sick', flush=True)\nServer((os")
        .replace("    def do_GET", "    wbufsize = -1\n    def do_GET")
    )
    (small.project / "app.py").write_text(sick)
    edited(small, "instances: 1", "instances: 1\n  start_timeout: 3s")
    failed = small.run("up", "staging", check=False)
    assert failed.returncode == 1
    assert "app-1" in failed.stderr
    assert "GET http" in failed.stderr, "the request"
    assert "503" in failed.stderr, "the answer"
    assert "I feel sick" in failed.stderr, "the last words"
    assert small.status()["healthy"] is False
    (small.project / "app.py").write_text(TINY_APP)
    small.run("up", "staging")
    assert small.status()["healthy"]
    assert small.get("/x")[0] == 200


def test_a_failed_migration_starts_no_app_and_shows_why(small: Live) -> None:
    (small.project / "migrate.py").write_text("raise SystemExit('table users is locked')\n")
    failed = small.run("up", "staging", check=False)
    assert failed.returncode == 1
    assert "APP-004" in failed.stderr
    assert "table users is locked" in failed.stderr
    assert "app-1" not in small.nodes()
    said = json.loads(small.run("up", "staging", "--json", check=False).stdout)
    assert said["error"]["code"] == "APP-004"
    (small.project / "migrate.py").write_text(MIGRATE)
    small.run("up", "staging")
    assert small.status()["healthy"]
    assert count(small) == 1


def test_a_second_folder_cannot_take_over_the_first_ones_state(shared: Live, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shared.project, copy)
    refused = Live(copy, "staging").run("up", "staging", check=False)
    assert refused.returncode == 3
    assert "STATE-001" in refused.stderr
    assert str(shared.project) in refused.stderr
