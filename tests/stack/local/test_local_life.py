from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asbuilt.plan.workload import ConfigFile, Exchange, Limits, Listen, Probe, Stop
from asbuilt.targets.local.client import AgentClient, ensure_agent, find_agent
from asbuilt.targets.local.leftovers import find_processes, leftovers
from asbuilt.targets.local.process import read_process
from asbuilt.values.errors import AsbuiltError, RefusedError
from support import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.yard import Yard


pytestmark = pytest.mark.stack


def _gone(pid: int) -> bool:
    process = read_process(pid)
    return process is None or process.state in "ZX"


def test_start_ready_stop_leaves_nothing(yard: Yard) -> None:
    workload = yard.workload(files=(ConfigFile(f"{yard.root}/nodes/app-1/conf/x.conf", "hello\n"),))
    pid = yard.up(workload)
    seen = yard.client.snapshot().workloads["app-1"]
    assert (seen.pid, seen.health, seen.digest, seen.problem) == (pid, "ready", workload.digest, "")
    assert seen.since.endswith("Z")
    assert yard.client.start(workload, yard.epoch) == "unchanged"
    assert yard.answer(workload) == pid
    yard.client.stop("app-1", yard.epoch)
    assert _gone(pid)
    assert yard.client.snapshot().workloads["app-1"].health == "stopped"
    yard.client.stop("app-1", yard.epoch, forget=True)
    assert yard.client.snapshot().workloads == {}
    yard.client.shutdown(yard.epoch)
    assert leftovers(yard.root) == ()


def test_other_digest_replaces(yard: Yard) -> None:
    first = yard.up(yard.workload())
    changed = yard.workload(env=(("X", "1"),))
    yard.client.start(changed, yard.epoch)
    yard.client.wait_ready("app-1", 10)
    assert yard.answer(changed) != first
    assert _gone(first)


def test_crash_is_restarted(yard: Yard) -> None:
    workload = yard.workload()
    first = yard.up(workload)
    os.kill(first, signal.SIGKILL)
    begun = time.monotonic()
    second = until(lambda: yard.answer(workload), what="an answer after the crash", every=0.01)
    assert second != first
    assert time.monotonic() - begun < 1.5
    assert yard.seen()["restarts"] == 1


def test_crash_loop_is_told_with_evidence(yard: Yard) -> None:
    yard.client.start(yard.workload("app-1", "exit=7"), yard.epoch)
    with pytest.raises(AsbuiltError) as caught:
        yard.client.wait_ready("app-1", 20)
    assert caught.value.code == "LOCAL-031"
    text = caught.value.render()
    assert "exited with status 7" in text
    assert "going away at once" in text
    assert yard.seen()["health"] == "failing"
    restarts = yard.seen()["restarts"]
    assert restarts == 5
    # whoever starts it again has mended it: no waiting for the 30 s
    yard.client.start(yard.workload(), yard.epoch)
    yard.client.wait_ready("app-1", 10)


def test_never_ready_shows_question_answer_and_log(yard: Yard) -> None:
    exchange = Exchange(yard.host, 7000, expect="^never", timeout=0.3, shown="the pid question")
    yard.client.start(yard.workload(ready=Probe(exchange, start_timeout=1)), yard.epoch)
    with pytest.raises(AsbuiltError) as caught:
        yard.client.wait_ready("app-1", 1.0)
    text = caught.value.render()
    assert caught.value.code == "LOCAL-030"
    assert "the pid question" in text
    assert "answered 'pid " in text
    assert "log: listening" in text


def test_killed_agent_changes_nothing_and_is_followed(yard: Yard) -> None:
    workload, other = yard.workload(), yard.workload("app-2", port=7001)
    pids = yard.up(workload), yard.up(other)
    yard.kill_agent()
    assert (yard.answer(workload), yard.answer(other)) == pids
    assert find_agent(yard.root) is None
    client = ensure_agent(yard.root)
    client.wait_ready("app-1", 5)
    client.wait_ready("app-2", 5)
    assert (yard.answer(workload), yard.answer(other)) == pids
    assert client.start(workload, yard.epoch) == "unchanged"
    assert [seen.restarts for seen in client.snapshot().workloads.values()] == [0, 0]
    # an adopted process is still watched, and still stopped
    os.kill(pids[0], signal.SIGKILL)
    assert until(lambda: yard.answer(workload), what="the restart of an adopted process") != pids[0]
    client.stop("app-2", yard.epoch)
    assert _gone(pids[1])


def test_death_while_nobody_watched_is_mended(yard: Yard) -> None:
    workload = yard.workload()
    first = yard.up(workload)
    yard.kill_agent()
    os.kill(first, signal.SIGKILL)
    client = ensure_agent(yard.root)
    client.wait_ready("app-1", 10)
    assert yard.answer(workload) not in {0, first}
    assert client.snapshot().workloads["app-1"].restarts == 1


def test_a_foreign_process_with_the_recorded_pid_is_not_touched(yard: Yard) -> None:
    workload = yard.workload()
    first = yard.up(workload)
    yard.kill_agent()
    os.kill(first, signal.SIGKILL)
    bystander = subprocess.Popen(("sleep", "60"))
    try:
        record = yard.root / "agent" / "pids" / "app-1"
        record.write_text(record.read_text().replace(f'"pid": {first}', f'"pid": {bystander.pid}'))
        ensure_agent(yard.root).wait_ready("app-1", 10)
        assert bystander.poll() is None
        assert yard.answer(workload) not in {0, first}
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("seed", range(4))
def test_agent_killed_at_any_moment_of_a_start(yard: Yard, seed: int) -> None:
    chance = random.Random(seed)
    workload = yard.workload("app-1", "children", before_start=("sleep", "0.01"))
    for _ in range(6):
        pid = yard.agent_pid()
        yard.client.start(workload, yard.epoch)
        time.sleep(chance.random() * 0.06)  # the moment is what is tried here
        os.kill(pid, signal.SIGKILL)
        yard.client = ensure_agent(yard.root)
        if chance.random() < 0.3:
            yard.client.stop("app-1", yard.epoch)
            assert find_processes(yard.root) == {}
    yard.client.start(workload, yard.epoch)
    yard.client.wait_ready("app-1", 10)
    assert until(lambda: len(find_processes(yard.root)) == 4, what="one engine and its three children")
    yard.client.stop("app-1", yard.epoch)
    assert find_processes(yard.root) == {}


def test_frozen_is_fenced_then_the_lease_is_released(yard: Yard) -> None:
    witness = yard.up(yard.workload("app-2", port=7001))
    told = yard.root / "released"
    release = subprocess.Popen(
        (
            sys.executable,
            "-S",
            "-c",
            _LEASE,
            yard.host,
            "7009",
            str(told),
            f"{yard.root}/nodes/app-1/data/pid",
        )
    )
    try:
        until((yard.root / "released.open").exists, what="the lease keeper")
        workload = yard.workload(
            "app-1",
            "children",
            f"pidfile={yard.root}/nodes/app-1/data/pid",
            after_fence=Exchange(yard.host, 7009, b"go\n", "^released", 1.0, shown="release"),
        )
        first = yard.up(workload)
        assert len(find_processes(yard.root)) == 5
        begun = time.monotonic()
        os.kill(first, signal.SIGSTOP)
        until(told.exists, what="the release of the lease", every=0.01)
        assert 1.9 < time.monotonic() - begun < 4
        assert told.read_text() == "dead"
        assert until(lambda: yard.answer(workload), what="its restart") != first
        assert len(find_processes(yard.root)) == 5
        assert yard.answer(yard.workload("app-2", port=7001)) == witness
    finally:
        release.kill()
        release.wait()


def test_what_comes_after_a_failure_does_not_wait_for_the_next_start(yard: Yard) -> None:
    """Somebody else takes over at once, however long a process that fails often is kept waiting."""
    told = yard.root / "told"
    workload = yard.workload(
        "app-1", after_failure=("sh", "-c", f"test -e {yard.root}/bad && exit 3; date +%s.%N >> {told}")
    )
    yard.up(workload)
    for number in range(1, 6):
        pid = int(until(lambda: yard.answer(workload), what="it to answer", within=60))
        begun = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        until(
            lambda: told.exists() and len(told.read_text().split()) == number,  # noqa: B023 - used at once
            what="the command",
            every=0.01,
        )
        assert time.monotonic() - begun < 1.5  # the fifth start waits for half a minute
    yard.client.stop("app-1", yard.epoch)
    assert len(told.read_text().split()) == 5  # not when it is asked to end
    (yard.root / "bad").touch()
    pid = yard.up(workload)
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: yard.answer(workload), what="its start in spite of that", within=60) != pid


_LEASE = """
import os, socket, sys
host, port, told, pidfile = sys.argv[1:]
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((host, int(port))); s.listen(); open(told + ".open", "w").close()
while True:
    c, _ = s.accept(); c.recv(10)
    pid = int(open(pidfile).read().split()[0])
    state = "dead"
    try:
        state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
        state = "dead" if state in "ZX" else state
    except FileNotFoundError:
        pass
    with open(told + ".new", "w") as f: f.write(state)
    os.rename(told + ".new", told)
    c.sendall(b"released"); c.close()
"""


def test_hung_is_fenced(yard: Yard) -> None:
    deaf = yard.root / "deaf"
    workload = yard.workload("app-1", f"deaf={deaf}")
    first = yard.up(workload)
    deaf.touch()
    until(lambda: _gone(first), what="the end of the hung process", within=15)
    deaf.unlink()
    yard.client.wait_ready("app-1", 10)
    assert yard.answer(workload) != first


def test_stubborn_is_killed_after_its_grace(yard: Yard) -> None:
    pid = yard.up(yard.workload("app-1", "stubborn", "children", stop=Stop(grace=0.3)))
    begun = time.monotonic()
    yard.client.stop("app-1", yard.epoch)
    assert 0.25 < time.monotonic() - begun < 3
    assert _gone(pid)
    assert find_processes(yard.root) == {}


def test_occupied_port_names_its_holder(yard: Yard) -> None:
    with socket.socket() as squatter:
        squatter.bind((yard.host, 7000))
        squatter.listen()
        yard.client.start(yard.workload(), yard.epoch)
        with pytest.raises(AsbuiltError) as caught:
            yard.client.wait_ready("app-1", 10)
        assert caught.value.code == "LOCAL-032"
        assert f"pid {os.getpid()} " in caught.value.what
    yard.client.start(yard.workload(), yard.epoch)  # asking again is trying again, without a pause
    yard.client.wait_ready("app-1", 5)


def test_a_shared_port_is_found(yard: Yard) -> None:
    go = yard.root / "go"
    yard.client.start(yard.workload("app-1", "reuseport", f"wait={go}"), yard.epoch)
    until(lambda: yard.seen()["pid"], what="the start")
    with socket.socket() as orphan:
        orphan.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        orphan.bind((yard.host, 7000))
        orphan.listen()
        # the orphan answers as well as the real one does
        go.touch()
        orphan.settimeout(0.2)

        def failing() -> bool:
            try:
                connection, _ = orphan.accept()
                connection.sendall(b"pid 1\n")
                connection.close()
            except TimeoutError:
                pass
            return "LOCAL-033" in yard.seen()["problem"]

        until(failing, what="the shared port to be told of", within=15, every=0.01)
        assert yard.seen()["health"] == "failing"
        assert f"pid {os.getpid()} " in yard.seen()["problem"]
    yard.client.wait_ready("app-1", 10)


def test_older_epochs_are_refused_for_good(yard: Yard) -> None:
    workload = yard.workload()
    yard.client.start(workload, 7)
    for again in range(2):
        with pytest.raises(RefusedError) as caught:
            yard.client.stop("app-1", 6)
        assert caught.value.code == "LOCAL-022"
        if not again:
            yard.kill_agent()
            (yard.root / "agent" / "epoch").write_text("{dama")
            yard.client = ensure_agent(yard.root)
    assert yard.client.snapshot().epoch == 7
    yard.client.wait_ready("app-1", 10)


def test_one_agent_for_one_folder(yard: Yard) -> None:
    second = subprocess.run(
        (sys.executable, "-m", "asbuilt.targets.local.agent", str(yard.root)),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 3
    assert "LOCAL-025" in second.stderr


def test_a_long_root(root: Path, make_yard: Callable[[Path], Yard]) -> None:
    yard = make_yard(root / ("d" * 100) / ("e" * 100))
    assert yard.up(yard.workload())
    yard.kill_agent()
    yard.client = ensure_agent(yard.root)
    assert yard.up(yard.workload())


def test_two_folders_at_once(root: Path, make_yard: Callable[[Path], Yard]) -> None:
    one, two = make_yard(root / "one"), make_yard(root / "two")
    pids = one.up(one.workload()), two.up(two.workload())
    one.client.stop("app-1", one.epoch)
    assert two.answer(two.workload()) == pids[1]
    assert find_processes(one.root) == {}


def test_log_is_rotated_while_it_is_written(yard: Yard) -> None:
    workload = yard.workload("app-1", "talk")
    pid = yard.up(workload)
    log = yard.root / "logs" / "app-1.log"
    rotated = log.with_name("app-1.log.1")

    def talk() -> bool:
        yard.answer(workload)
        return bool(rotated.exists())

    until(talk, what="the rotation", every=0.001)
    assert rotated.stat().st_size > 10 * 2**20
    until(lambda: log.stat().st_size < 2**20 * 10, what="the truncation")
    assert yard.answer(workload) == pid
    assert b"\0" not in log.read_bytes()


def test_hold_and_release(yard: Yard) -> None:
    workload = yard.workload()
    first = yard.up(workload)
    yard.client.hold("app-1", yard.epoch)
    assert _gone(first)
    yard.kill_agent()
    yard.client = ensure_agent(yard.root)
    assert yard.seen()["health"] == "stopped"
    yard.client.release("app-1", yard.epoch)
    yard.client.wait_ready("app-1", 10)


def test_shutdown_is_refused_while_something_runs(yard: Yard) -> None:
    pid = yard.up(yard.workload())
    with pytest.raises(RefusedError) as caught:
        yard.client.shutdown(yard.epoch)
    assert caught.value.code == "LOCAL-026"
    yard.client.shutdown(yard.epoch, leave_running=True)
    assert find_agent(yard.root) is None
    assert yard.answer(yard.workload()) == pid


def test_reload_keeps_the_process(yard: Yard) -> None:
    path = f"{yard.root}/nodes/app-1/conf/x.conf"
    reload = Exchange(yard.host, 7000, expect=r"^pid \d+", timeout=1.0, shown="reload")
    before = yard.workload(files=(ConfigFile(path, "one"),), reload=reload)
    pid = yard.up(before)
    after = replace(before, files=(ConfigFile(path, "two"),))
    yard.client.reload(after, yard.epoch)
    assert Path(path).read_text() == "two"
    assert yard.answer(after) == pid
    assert yard.seen()["digest"] == after.digest
    bad = replace(before, env=(("X", "1"),))
    with pytest.raises(AsbuiltError) as caught:
        yard.client.reload(bad, yard.epoch)
    assert caught.value.code == "LOCAL-036"
    yard.kill_agent()
    yard.client = ensure_agent(yard.root)
    yard.client.wait_ready("app-1", 5)
    assert yard.answer(after) == pid


def test_a_file_that_the_engine_rewrites_is_written_once(yard: Yard) -> None:
    path = Path(f"{yard.root}/nodes/app-1/conf/x.conf")
    workload = yard.workload(files=(ConfigFile(str(path), "ours", once=True),))
    pid = yard.up(workload)
    path.write_text("the engine's")
    os.kill(pid, signal.SIGKILL)
    until(lambda: yard.answer(workload), what="its restart")
    assert path.read_text() == "the engine's"


def test_before_start_failure_counts_as_a_failed_start(yard: Yard) -> None:
    yard.client.start(yard.workload(before_start=("sh", "-c", "echo no luck; exit 3")), yard.epoch)
    with pytest.raises(AsbuiltError) as caught:
        yard.client.wait_ready("app-1", 20)
    assert "exited with status 3" in caught.value.render()
    assert "no luck" in caught.value.render()


def test_a_program_that_is_not_there(yard: Yard) -> None:
    yard.client.start(yard.workload(argv=("/no/such/program",), unprivileged=False), yard.epoch)
    with pytest.raises(AsbuiltError) as caught:
        yard.client.wait_ready("app-1", 20)
    assert "No such file" in caught.value.render()


def test_open_files_limit(yard: Yard) -> None:
    pid = yard.up(yard.workload(limits=Limits(open_files=333)))
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert next(line for line in limits.splitlines() if "open files" in line).split()[3] == "333"
    assert yard.seen()["limited_by"] == "rlimit"


def test_root_runs_engines_unprivileged(yard: Yard) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has privileges to drop")
    pid = yard.up(yard.workload())
    own = Path("/proc/self/ns/user").readlink()
    status = Path(f"/proc/{pid}/status").read_text()
    uid = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1]
    capabilities = next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1]
    assert uid != "0" or Path(f"/proc/{pid}/ns/user").readlink() != own
    assert int(capabilities, 16) == 0


def test_cgroup_limits(yard: Yard) -> None:
    pid = yard.up(yard.workload(limits=Limits(cpu=0.5, memory=200 * 2**20, processes=50)))
    seen = yard.seen()
    if seen["limited_by"] != "cgroup":
        pytest.skip("no cgroup may be made here")
    text = Path(f"/proc/{pid}/cgroup").read_text()
    assert text.count("/asbuilt/") >= 1
    yard.client.stop("app-1", yard.epoch)
    assert find_processes(yard.root) == {}


def test_wildcard_listener_is_accepted_where_allowed(yard: Yard) -> None:
    port = 7000
    listens = (Listen(yard.host, port, "main", wildcard_ok=True),)
    assert yard.up(yard.workload(listens=listens))


def test_client_without_agent_says_so(root: Path) -> None:
    with pytest.raises(AsbuiltError) as caught:
        AgentClient(root, revive=False).snapshot()
    assert caught.value.code == "LOCAL-021"
