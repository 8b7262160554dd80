"""Environments beside each other on one machine: kinds, users, ports that others have, hostile specs."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from support import until
from support.live import TINY_APP, Live, make_tiny, running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.stack

BARE = "database: none, cache: none, objects: none, files: none"
SPEC = f"""\
name: side
app:
  command: python3 app.py
  instances: 1
environments:
  development: {{{BARE}}}
  staging: {{{BARE}}}
  production: {{{BARE}}}
"""


def project(folder: Path, spec: str = SPEC) -> Path:
    return make_tiny(folder / "project", spec)


def held(address: str, *ports: int) -> ExitStack:
    """Sockets of ours that listen there."""
    with ExitStack() as stack:
        for port in ports:
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((address, port))
            one.listen()
        return stack.pop_all()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(live: Live) -> None:
    live.run("down", live.name, "--delete-data", "--confirm", live.name, check=False)


def test_environments_that_start_at_once_do_not_meet(home: Path, tmp_path: Path) -> None:
    """Each has a home of its own, as those of different users: only the machine knows of all."""
    everybody = []
    for number in range(4):
        own = home / f"home-{number}"
        own.mkdir()
        text = SPEC.replace("name: side", f"name: side-{number}")
        everybody.append(
            (Live(project(tmp_path / str(number), text), "production"), {"ASBUILT_HOME": str(own)})
        )
    try:
        with ThreadPoolExecutor() as pool:
            done = list(pool.map(lambda one: one[0].run("up", "production", "--json", env=one[1]), everybody))
        points = [json.loads(one.stdout)["entrypoints"] for one in done]
        assert len({one["https"] for one in points}) == len({one["http"] for one in points}) == len(everybody)
    finally:
        for live, env in everybody:
            live.run("down", "production", "--delete-data", "--confirm", "production", check=False, env=env)


def test_development_serves_the_working_tree_and_reloads_it(home: Path, tmp_path: Path) -> None:
    assert home.is_dir()
    folder = make_tiny(tmp_path / "tree")
    with running(folder, "development") as live:
        kinds = {node["kind"] for node in live.status()["nodes"]}
        assert {"app", "database", "cache"} <= kinds
        assert not kinds & {"load-balancer", "consensus"}
        assert live.status()["entrypoints"].keys() == {"http"}
        told = live.run("connect", "development", "psql", "--", "-XAtc", "select 6 * 7")
        assert told.stdout.strip() == "42"
        assert live.run("connect", "development", "redis", "--", "ping").stdout.strip() == "PONG"
        (folder / "app.py").write_text(TINY_APP.replace("{self.path}", "{self.path} changed"))

        def changed() -> bool:
            try:
                return "changed" in live.get("/x")[1]
            except OSError:
                return False  # it restarts just now

        until(changed, what="the edited file to answer", within=20)
        assert live.up()["steps"] == 0


def test_two_environments_of_one_project_and_two_users_run_side_by_side(tmp_path: Path, home: Path) -> None:
    folder = project(tmp_path)
    other_home = home / "other"
    with ExitStack() as stack:
        lives = [stack.enter_context(running(folder, name)) for name in ("staging", "production")]
        twin = Live(folder, "production")
        there = {"ASBUILT_HOME": str(other_home)}
        stack.callback(
            lambda: twin.run(
                "down", "production", "--delete-data", "--confirm", "production", check=False, env=there
            )
        )
        twin.run("up", "production", env=there)
        statuses = [live.status() for live in lives]
        statuses.append(json.loads(twin.run("status", "production", "--json", env=there).stdout))
        assert all(status["healthy"] for status in statuses)
        addresses = [node["address"] for status in statuses for node in status["nodes"]]
        assert len(addresses) == len(set(addresses))
        points = [point for status in statuses for point in status["entrypoints"].values()]
        assert len(points) == len(set(points))
        before = statuses[1]
        twin.run("down", "production", env=there)
        assert lives[1].status() == before, "the twin is another user's: its end is nobody else's"
        assert lives[0].get("/x")[1].startswith("app-1 ")


def ordinary_user() -> list[str]:
    """Words that take root's uid away; the machine's own Python may be closed to a real other user."""
    if os.geteuid() != 0:
        return []
    words = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
    if subprocess.run([*words, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("root without user namespaces")
    return words


def test_an_ordinary_user_needs_nothing_more(home: Path, tmp_path: Path) -> None:
    """All commands in one user namespace, because processes of another one are not ours to look at."""
    assert home.is_dir()
    folder = make_tiny(tmp_path / "own")
    said = tmp_path / "said"
    said.mkdir()
    script = """
        asbuilt() { "$PYTHON" -m asbuilt "$@"; }
        trap 'asbuilt down staging --delete-data --confirm staging' EXIT
        set -ex
        asbuilt up staging
        asbuilt status staging --json > "$SAID/status"
        asbuilt doctor staging --json > "$SAID/doctor"
        asbuilt connect staging psql -- -XAtc 'select current_user' > "$SAID/user"
        asbuilt up staging --json > "$SAID/again"
    """
    done = subprocess.run(
        [*ordinary_user(), "sh", "-c", script],
        cwd=folder,
        text=True,
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHON": sys.executable, "SAID": str(said)},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((said / "status").read_text())["healthy"]
    findings = json.loads((said / "doctor").read_text())["findings"]
    assert next(one["found"] for one in findings if one["about"] == "identity") == "user"
    assert (said / "user").read_text() == "app\n"
    assert json.loads((said / "again").read_text())["steps"] == 0
    assert not (home / "tiny" / "staging").exists()


def test_usual_ports_that_others_have_are_left_to_them(home: Path, tmp_path: Path) -> None:
    assert home.is_dir()
    wanted = [port for port in (8443, 8080) if not listens(port)]
    live = Live(project(tmp_path), "staging")
    with held("127.0.0.1", *wanted):
        try:
            told = live.run("up", "staging")
            points = live.status()["entrypoints"]
            for name, port in (("https", 8443), ("http", 8080)):
                assert not points[name].endswith(f":{port}")
                assert re.search(rf"{name} is on port \d+: .+ has {port}", told.stderr)
                if port in wanted:
                    assert f"pid {os.getpid()}" in told.stderr
            assert live.get("/x")[0] == 200
            place = points
            assert live.up()["entrypoints"] == place, "what was given once is kept"
        finally:
            end(live)


def test_a_port_that_the_spec_asks_for_is_not_taken_from_anybody(home: Path, tmp_path: Path) -> None:
    assert home.is_dir()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        spec = SPEC.replace("staging: {", f"staging: {{load_balancer: {{https_port: {port}}}, ")
        live = Live(project(tmp_path, spec), "staging")
        refused = live.run("up", "staging", check=False)
        assert refused.returncode == 1
        assert "LOCAL-011" in refused.stderr
        assert f"pid {os.getpid()}" in refused.stderr
        assert live.status()["nodes"] == []


def test_a_standard_port_held_on_every_address_moves_the_service(home: Path, tmp_path: Path) -> None:
    assert home.is_dir()
    spec = SPEC.replace("staging: {database: none, ", "staging: {")
    live = Live(project(tmp_path, spec), "staging")
    with ExitStack() as stack:
        try:
            stack.enter_context(held("0.0.0.0", 5432))
        except OSError:
            pass  # somebody holds 5432 on some address: then only the note is missing
        else:
            stack.callback(end, live)
            told = live.run("up", "staging")
            assert re.search(r"postgresql is on port \d+ instead of 5432: pid \d+", told.stderr)
            assert not live.nodes()["db-1"]["address"].endswith(":5432")
            asked = live.run("connect", "staging", "psql", "--", "-XAtc", "select 6 * 7")
            assert asked.stdout.strip() == "42"
            return
    pytest.skip("port 5432 is in use by another environment on this machine")


HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned #",
    "a\nb: c",
    "a' \" \\ % {} #",
    "../../pwned",
    "/etc/pwned",
    "%[env(HOME)]",
    "x" * 5000,
    "99999999999999999999",
    "-1",
    "\u202e\U0001f4a9",
    "--option",
]
FIELDS = [
    ("name",),
    ("app", "command"),
    ("app", "directory"),
    ("app", "health"),
    ("app", "env", "VALUE"),
    ("app", "instances"),
    ("app", "memory"),
    ("environments", "staging", "load_balancer", "domains", 0),
    ("environments", "staging", "load_balancer", "address"),
    ("environments", "staging", "load_balancer", "https_port"),
    ("environments", "staging", "objects", "bucket"),
]


def hostile_spec(field: tuple[str | int, ...], value: str) -> str:
    spec: dict[str, object] = {
        "name": "hostile",
        "app": {"command": "python3 app.py", "env": {"VALUE": "fine"}},
        "environments": {"staging": {"load_balancer": {"domains": ["shop.example"]}, "objects": {}}},
    }
    place: object = spec
    for step in field[:-1]:
        place = place[step]  # type: ignore[index] # dictionaries and lists of our own making
    place[field[-1]] = value  # type: ignore[index]
    return yaml.safe_dump(spec)


@pytest.fixture
def quiet_folder(home: Path, tmp_path: Path) -> Iterator[Path]:
    folder = make_tiny(tmp_path / "hostile", "name: x\n")
    before = {path.name for path in folder.iterdir()}
    yield folder
    assert {path.name for path in folder.iterdir()} == before, "nothing was made beside the spec"
    assert {path.name for path in tmp_path.iterdir()} == {"hostile"}
    assert not Path("/etc/pwned").exists()
    assert not list(home.rglob("pwned"))


def test_hostile_values_are_refused_or_harmless(
    quiet_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from asbuilt.cli.main import run  # noqa: PLC0415 - the only test that runs it inside

    monkeypatch.chdir(quiet_folder)
    accepted: list[tuple[str | int, ...]] = []
    for field in FIELDS:
        for value in HOSTILE:
            (quiet_folder / "asbuilt.yaml").write_text(hostile_spec(field, value))
            status = run(["check"])
            told = capsys.readouterr()
            assert status in (0, 2), (field, value, told.err)
            assert "Traceback" not in told.err
            assert "BUG-" not in told.err
            if status == 0:
                accepted.append(field)
                assert run(["diagram", "staging", "--format", "svg"]) == 0
                capsys.readouterr()
    assert {("app", "env", "VALUE"), ("app", "command")} <= set(accepted), "free text stays free"
    assert not {("name",), ("app", "directory")} & {f for f in accepted if f == ("name",)}


def test_a_running_environment_takes_hostile_text_as_text(home: Path, tmp_path: Path) -> None:
    assert home.is_dir()
    value = "$(touch pwned) `id` ; ' \" \\ % %[env(HOME)] {} # \u202e"
    app = TINY_APP.replace("{self.path}", "{os.environ['VALUE']}")
    folder = project(tmp_path)
    (folder / "app.py").write_text(app)
    spec = yaml.safe_load(SPEC)
    spec["app"]["env"] = {"VALUE": value}
    spec["app"]["health"] = "/health?a=%20'$(id)"
    (folder / "asbuilt.yaml").write_text(yaml.safe_dump(spec))
    with running(folder, "staging") as live:
        _, said = live.get("/")
        assert said == f"app-1 r1 {value}\n"
        assert not (*home.rglob("pwned"), *tmp_path.rglob("pwned"))
        config = live.root / "nodes" / "lb-1" / "conf" / "haproxy.cfg"
        program = Path(f"/proc/{live.nodes()['lb-1']['pid']}/exe").readlink()
        checked = subprocess.run(
            [program, "-c", "-f", str(config)],
            cwd=config.parents[1],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr
