from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asbuilt.plan.workload import ConfigFile, Limits, Listen, Stop
from asbuilt.targets.local import client as clients
from asbuilt.targets.local import wire
from asbuilt.targets.local.client import begin_agent, ensure_agent, find_agent
from asbuilt.targets.local.ground import read_ground
from asbuilt.targets.local.leftovers import find_processes, leftovers
from asbuilt.targets.local.names import CLAIM_PORT
from asbuilt.targets.local.process import read_process
from asbuilt.values.errors import AsbuiltError
from support import until
from support.yard import Yard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


pytestmark = pytest.mark.stack


@pytest.fixture
def slot(root: Path) -> int:
    """A slot that nobody uses now, above those that environments take first."""
    ground = read_ground(root)
    return next(slot for slot in random.sample(range(200, 210), 10) if not ground.who_uses(slot))


def _place(root: Path, slot: int) -> Path:
    root.mkdir(parents=True)
    (root / "place.json").write_text(json.dumps({"schema": 1, "slot": slot, "addresses": {}}))
    return root


def test_a_slot_belongs_to_one_environment(
    root: Path, slot: int, make_yard: Callable[[Path], Yard], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = _place(root / "one", slot), _place(root / "two", slot)
    yard = make_yard(one)
    yard.host = f"127.{slot}.2.1"
    pid = yard.up(yard.workload())
    assert read_ground(one).who_claims(slot) == ""
    assert f"pid {yard.agent_pid()} " in read_ground(two).who_claims(slot)
    monkeypatch.setattr(clients, "_START_TIMEOUT", 5.0)
    with pytest.raises(AsbuiltError) as caught:
        ensure_agent(two)
    assert caught.value.code == "LOCAL-013"
    assert f":{CLAIM_PORT}" in caught.value.render()
    # the agent is dead, its engines say whose the slot is
    yard.kill_agent()
    assert yard.answer(yard.workload()) == pid
    assert read_ground(one).who_claims(slot) == ""
    assert read_ground(one).who_holds(yard.host, 7000) == ""
    assert f"pid {pid} " in read_ground(two).who_claims(slot)
    ensure_agent(one).stop("app-1", yard.epoch)
    assert read_ground(two).who_holds(yard.host, 7000) == ""


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)), check=True)
    try:
        yield
    finally:
        subprocess.run(("umount", "-l", str(folder)), check=True)


def test_a_full_disk_stops_neither_agent_nor_restarts(root: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    with _small_disk(root / "small"):
        yard = Yard(root / "small" / "env")
        try:
            workload = yard.workload()
            first = yard.up(workload)
            filler = root / "small" / "filler"
            with pytest.raises(OSError, match="space"):
                filler.write_bytes(b"x" * 4 * 2**20)
            big = ConfigFile(f"{yard.root}/nodes/app-2/conf/big", "y" * 10**6)
            with pytest.raises(AsbuiltError) as caught:
                yard.client.start(yard.workload("app-2", port=7001, files=(big,)), yard.epoch)
            assert caught.value.code == "LOCAL-024"
            assert "space" in caught.value.what
            os.kill(first, signal.SIGKILL)
            second = until(lambda: yard.answer(workload), what="a restart on a full disk")
            assert second != first
            filler.unlink()
            yard.up(yard.workload("app-2", port=7001))
            yard.kill_agent()
            yard.client = ensure_agent(yard.root)
            assert yard.answer(workload) == second
        finally:
            yard.clean()


def test_a_wholly_detached_child_is_found_by_its_cgroup(yard: Yard) -> None:
    script = (
        "import os, subprocess, sys, time\n"
        "if os.fork() == 0:\n"
        "    subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'], env={}, cwd='/',"
        " start_new_session=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "time.sleep(600)\n"
    )
    workload = yard.workload(
        argv=(sys.executable, "-S", "-c", script), listens=(), limits=Limits(processes=20, memory=2**28)
    )
    yard.client.start(workload, yard.epoch)
    if until(lambda: yard.seen()["pid"] and yard.seen(), what="the start")["limited_by"] != "cgroup":
        pytest.skip("no cgroup may be made here")
    until(lambda: len(find_processes(yard.root)) == 2, what="the detached child")
    child = max(ident.pid for ident in find_processes(yard.root))
    yard.client.stop("app-1", yard.epoch)
    process = read_process(child)
    assert process is None or process.state == "Z"
    assert leftovers(yard.root) == (f"socket {yard.root}/agent/agent.sock",)


def test_agent_killed_during_a_stop(yard: Yard) -> None:
    yard.up(yard.workload("app-1", "stubborn", "children", stop=Stop(grace=30)))
    pid = yard.agent_pid()

    def stop() -> None:
        with pytest.raises(AsbuiltError):
            clients.AgentClient(yard.root, revive=False).stop("app-1", 1)

    stopping = threading.Thread(target=stop)
    stopping.start()
    state = yard.root / "agent" / "workloads" / "app-1.json"
    until(lambda: '"wanted": false' in state.read_text(), what="the intent on disk")
    os.kill(pid, signal.SIGKILL)
    stopping.join()
    main = json.loads((yard.root / "agent" / "pids" / "app-1").read_text())["pid"]
    os.kill(main, signal.SIGKILL)
    yard.client = ensure_agent(yard.root)
    assert until(lambda: not find_processes(yard.root), what="the end of what was left")
    assert yard.seen()["health"] == "stopped"


def test_revived_in_mid_wait(yard: Yard) -> None:
    go = yard.root / "go"
    workload = yard.workload("app-1", f"wait={go}")
    yard.client.start(workload, yard.epoch)
    said: list[str] = []
    seen: list[object] = []
    waiting = threading.Thread(target=lambda: seen.append(yard.client.wait_ready("app-1", 20, said.append)))
    waiting.start()
    until(lambda: said, what="the first word of progress")
    yard.kill_agent()
    go.touch()
    waiting.join(20)
    assert seen
    assert find_agent(yard.root) is not None


def test_strangers_and_nonsense_on_the_socket(yard: Yard) -> None:
    for line in (
        b"\n",
        b"[]\n",
        b'{"schema": 2}\n',
        b'{"schema": 1, "op": "start", "epoch": true}\n',
        b"{" * 5000,
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(yard.root / "agent" / "agent.sock"))
            sock.sendall(line)
            sock.shutdown(socket.SHUT_WR)
            answer = sock.makefile().readline()
            assert not answer or json.loads(answer)["error"]["code"] == "LOCAL-023"
    assert yard.client.snapshot().workloads == {}


def test_secrets_are_only_in_private_files(yard: Yard) -> None:
    from asbuilt.values.secret import Secret  # noqa: PLC0415 - used here alone

    workload = yard.workload(secret_env=(("PASSWORD", Secret("hunter22")),))
    pid = yard.up(workload)
    assert b"PASSWORD=hunter22" in Path(f"/proc/{pid}/environ").read_bytes()
    holding = [path for path in yard.root.rglob("*") if path.is_file() and b"hunter22" in path.read_bytes()]
    assert [path.name for path in holding] == ["app-1.json"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in yard.root.rglob("*"))
    assert yard.root.joinpath("agent").stat().st_mode & 0o777 == 0o700


def test_ports_of_two_services(yard: Yard) -> None:
    listens = (Listen(yard.host, 7000, "main"), Listen(yard.host, 7999, "never opened"))
    assert yard.up(yard.workload(listens=listens))


def test_after_a_boot_the_order_of_starting_is_kept(yard: Yard) -> None:
    go = yard.root / "go"
    first = yard.workload("app-1", f"wait={go}")
    second = yard.workload("us-east/app-2", port=7001, needs=("app-1", "database.seed"))
    yard.client.start(first, yard.epoch)
    go.touch()
    yard.client.wait_ready("app-1", 10)
    yard.up(second)
    pid = yard.agent_pid()
    os.kill(pid, signal.SIGKILL)
    for record in (yard.root / "agent" / "pids").iterdir():
        old = json.loads(record.read_text())
        os.kill(old["pid"], signal.SIGKILL)
        record.write_text(json.dumps({**old, "boot": "an earlier one"}))
    go.unlink()
    yard.client = ensure_agent(yard.root)
    until(lambda: yard.seen("app-1")["pid"], what="the first")
    assert until(lambda: yard.seen("us-east/app-2")["problem"], what="words") == "waiting for app-1"
    assert yard.seen("us-east/app-2")["pid"] is None
    go.touch()
    yard.client.wait_ready("us-east/app-2", 10)


def test_a_place_settled_late_is_claimed(yard: Yard, slot: int) -> None:
    (yard.root / "place.json").write_text(json.dumps({"schema": 1, "slot": slot}))
    other = yard.root.parent / "no-such-environment"
    agent = f"pid {yard.agent_pid()} "
    until(lambda: agent in read_ground(other).who_claims(slot), what="the claim")


def test_a_stopped_agent_is_named(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = yard.agent_pid()
    monkeypatch.setattr(wire, "_ANSWER_TIMEOUT", 0.5)
    monkeypatch.setattr(clients, "_START_TIMEOUT", 1.0)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(AsbuiltError) as caught:
            ensure_agent(yard.root)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert f"pid {pid}" in caught.value.what


def test_an_agent_that_slept_kills_nothing(yard: Yard) -> None:
    workload = yard.workload()
    first = yard.up(workload)
    pid = yard.agent_pid()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(3)  # longer than hang_after: the time itself is what must not count
    os.kill(pid, signal.SIGCONT)
    yard.client.wait_ready("app-1", 10)
    assert yard.answer(workload) == first
    assert yard.seen()["restarts"] == 0


def test_an_agent_whose_folder_is_removed_leaves(root: Path) -> None:
    client = ensure_agent(root / "env")
    pid = client.snapshot().agent or 0
    shutil.rmtree(root / "env")
    until(lambda: (process := read_process(pid)) is None or process.state == "Z", what="its end")


def test_an_agent_begun_early_is_the_one_that_is_used(root: Path, slot: int) -> None:
    assert begin_agent(root / "new") is None
    one = _place(root / "one", slot)
    begun = begin_agent(one)
    assert begun is not None
    client = ensure_agent(one, begun)
    assert client.snapshot().agent == begun.pid
    assert begin_agent(one) is None
    client.shutdown(1)
    begun.wait(5)
    # one that has ended meanwhile is no reason to fail
    assert ensure_agent(one, begun).snapshot().agent != begun.pid
    ensure_agent(one).shutdown(1)
