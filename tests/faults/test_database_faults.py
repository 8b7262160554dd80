"""The database fails in every way that is known, under load; what was acknowledged stays, once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from asbuilt.targets.local.client import find_agent
from asbuilt.targets.local.process import read_process
from asbuilt.targets.local.spawn import read_record
from support import until
from support.database_oracle import DatabaseOracle
from support.ledger import Ground, inconclusive, make_ledger, require
from support.live import Live, running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

GAP = 30.0
"""Seconds: far more than any of these takes, so that a busy machine doesn't fail the test."""
LEASE = 60.0
"""The same where only the lease of 20 s ends the primary."""


@pytest.fixture(scope="module")
def live(module_home: Path) -> Iterator[Live]:
    with running(make_ledger(module_home / "project"), "production") as one:
        yield one


@pytest.fixture
def ground(live: Live) -> Ground:
    found = Ground(live)
    if find_agent(live.root) is None:  # a test before this one failed half-way
        live.up()
    found.redundant()
    return found


def postmaster(ground: Ground, node: str) -> int:
    return int((ground.live.root / "nodes" / node / "data" / "postmaster.pid").read_text().split()[0])


def patroni(ground: Ground, node: str) -> int:
    """Patroni itself: the child of the node's main process that has the same words."""
    record = read_record(ground.live.root / "agent" / "pids" / node)
    assert record is not None
    main = record.ident.pid
    words = Path(f"/proc/{main}/cmdline").read_bytes()
    return next(
        pid
        for pid in ground.live.tree(node)
        if (found := read_process(pid)) is not None
        and found.ppid == main
        and Path(f"/proc/{pid}/cmdline").read_bytes() == words
    )


def gone(pid: int) -> bool:
    process = read_process(pid)
    return process is None or process.state in "ZX"


def frozen(pid: int) -> bool:
    process = read_process(pid)
    return process is not None and process.state == "T"


def judged(oracle: DatabaseOracle, *, moved: bool | None = True, within: float = GAP) -> None:
    """What holds after every fault that took the primary away."""
    oracle.judge()
    assert oracle.writers.gap(oracle.moment) < within
    assert oracle.held.broken is not None or not moved
    assert moved is None or (oracle.ground.leader() != oracle.primary) is moved


def test_a1_the_primarys_postmaster_is_killed(ground: Ground) -> None:
    with DatabaseOracle(ground, "A1 postmaster killed") as oracle:
        pid = postmaster(ground, oracle.primary)
        oracle.fault()
        os.kill(pid, signal.SIGKILL)
        require(lambda: gone(pid), "the postmaster did not die")
        oracle.settle()
    judged(oracle)


def test_h9_the_primary_is_killed_while_a_release_is_on_its_way(ground: Ground) -> None:
    app = ground.live.project / "app.py"
    app.write_text(f"{app.read_text()}\n# another release\n")
    words = [sys.executable, "-m", "asbuilt", "deploy", "production", "--json"]
    with DatabaseOracle(ground, "H9 release and failover") as oracle:
        before = ground.live.nodes()["app-1"]["release"]
        pid = postmaster(ground, oracle.primary)
        run = subprocess.Popen(words, cwd=ground.live.project, stdout=subprocess.PIPE, text=True)
        try:
            until(lambda: _releases(ground) != {before}, what="the release to be on its way", within=60)
            oracle.fault()
            os.kill(pid, signal.SIGKILL)
            require(lambda: gone(pid), "the postmaster did not die")
        finally:
            out, _ = run.communicate(timeout=300)
        oracle.settle()
    judged(oracle)
    end = json.loads(out.splitlines()[-1])
    # it may well find that the new release cannot be told from a bad one just then, but it must end, whole
    assert end["exit"] in {0, 3}, end
    assert len(_releases(ground)) == 1
    assert _releases(ground) == {before} or end["exit"] == 0


def _releases(ground: Ground) -> set[str]:
    return {node["release"] for node in ground.live.nodes().values() if node["kind"] == "app"}


def test_a2_the_primarys_postmaster_is_frozen(ground: Ground) -> None:
    with DatabaseOracle(ground, "A2 postmaster frozen") as oracle:
        pid = postmaster(ground, oracle.primary)
        handle = os.pidfd_open(pid)
        try:
            oracle.fault()
            signal.pidfd_send_signal(handle, signal.SIGSTOP)
            require(lambda: frozen(pid), "the postmaster did not stop")
            # it is found and killed long before it could be continued: it never wakes
            until(lambda: gone(pid), what="the frozen postmaster to be fenced", within=GAP)
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGCONT)
            os.close(handle)
        oracle.settle()
    judged(oracle)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a4_the_primarys_whole_node_is_gone(ground: Ground, number: signal.Signals) -> None:
    with DatabaseOracle(ground, f"A4 node {number.name}") as oracle:
        tree = ground.live.tree(oracle.primary)
        oracle.fault()
        ground.live.signal_node(oracle.primary, number)
        require(lambda: all(gone(pid) or frozen(pid) for pid in tree), "the node went on")
        oracle.settle()
        assert all(gone(pid) for pid in tree)
    judged(oracle)


def test_a7_the_new_primary_is_killed_while_the_old_one_returns(ground: Ground) -> None:
    with DatabaseOracle(ground, "A7 double failover") as oracle:
        oracle.fault()
        ground.live.signal_node(oracle.primary)
        second = ground.leader(other_than=oracle.primary)
        until(lambda: time.monotonic() > oracle.moment + 5, what="5 s to pass")
        pid = postmaster(ground, second)
        killed = time.monotonic()
        ground.live.signal_node(second)
        require(lambda: gone(pid), "the second primary did not die")
        oracle.settle()
    oracle.judge()
    assert oracle.writers.gap(oracle.moment) < LEASE
    seen = [
        n for n, times in oracle.sampler.writable.items() if any(asked > killed + 0.1 for asked, _ in times)
    ]
    if not seen:
        inconclusive("nobody was seen writable after the second kill")


def test_b3_the_consensus_store_is_down(ground: Ground) -> None:
    with DatabaseOracle(ground, "B3 store down, policy continue") as oracle:
        client = ground.client()
        epoch = client.raw_status()["epoch"]
        pid = ground.live.nodes()["consensus-1"]["pid"]
        oracle.fault()
        client.hold("consensus-1", epoch)
        try:
            require(lambda: gone(pid), "the store did not end")
            until(lambda: time.monotonic() > oracle.moment + 25, what="more than the lease to pass")
            status = ground.live.status()
            assert not status["healthy"]
            store = next(node for node in status["nodes"] if node["id"] == "consensus-1")
            if store["health"] == "ready":
                inconclusive("the store was up")
            assert oracle.writers.since(time.monotonic() - 2) > 20, oracle.writers.refused[-3:]
            assert oracle.reader.gap(oracle.moment) < 10
        finally:
            client.release("consensus-1", epoch)
        oracle.settle()
    judged(oracle, moved=False)


def test_h1_the_agent_is_dead_and_the_primary_fails(ground: Ground) -> None:
    with DatabaseOracle(ground, "H1 agent dead, postmaster killed") as oracle:
        agent = ground.client().raw_status()["agent"]
        before = ground.pids()
        os.kill(agent, signal.SIGKILL)
        require(lambda: gone(agent), "the agent did not die")
        pid = postmaster(ground, oracle.primary)
        oracle.fault()
        os.kill(pid, signal.SIGKILL)
        # the node's own supervisor is alive: it gives up the lead, or takes it again once it has recovered
        until(lambda: oracle.held.broken, what="the held session to break")
        ground.leader()
        oracle.writers.steady()
        status = ground.live.status()
        assert not status["healthy"]
        assert any("agent" in note for note in status["notes"])
        ground.live.up()
        oracle.settle()
        after = ground.pids()
        assert {n: p for n, p in before.items() if n != oracle.primary} == {
            n: p for n, p in after.items() if n != oracle.primary
        }
    judged(oracle, moved=None)


def test_h3_the_agent_dies_together_with_the_primary(ground: Ground) -> None:
    with DatabaseOracle(ground, "H3 agent and node killed") as oracle:
        agent = ground.client().raw_status()["agent"]
        tree = ground.live.tree(oracle.primary)
        oracle.fault()
        os.kill(agent, signal.SIGKILL)
        ground.live.signal_node(oracle.primary)
        require(lambda: gone(agent) and all(gone(pid) for pid in tree), "they did not die")
        ground.leader(other_than=oracle.primary)
        oracle.writers.steady()
        ground.live.up()
        oracle.settle()
    judged(oracle, within=LEASE)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a3_only_the_primarys_patroni_fails(ground: Ground, number: signal.Signals) -> None:
    with DatabaseOracle(ground, f"A3 Patroni {number.name}") as oracle:
        pid = patroni(ground, oracle.primary)
        oracle.fault()
        os.kill(pid, number)
        require(lambda: gone(pid) or frozen(pid), "Patroni went on")
        oracle.settle()
        assert gone(pid)
    judged(oracle, moved=None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_h3_the_agent_is_dead_and_only_patroni_fails(ground: Ground, number: signal.Signals) -> None:
    """Nobody fences: the node itself has to end its PostgreSQL before another one may lead."""
    with DatabaseOracle(ground, f"H3 agent dead, Patroni {number.name}") as oracle:
        pid, postgresql = patroni(ground, oracle.primary), postmaster(ground, oracle.primary)
        os.kill(ground.client().raw_status()["agent"], signal.SIGKILL)
        oracle.fault()
        os.kill(pid, number)
        require(lambda: gone(pid) or frozen(pid), "Patroni went on")
        ground.leader(other_than=oracle.primary)
        oracle.writers.steady()
        assert gone(pid)
        assert gone(postgresql)
        ground.live.up()
        oracle.settle()
    judged(oracle, within=LEASE)


def test_h3_the_agent_hangs_and_the_primarys_postmaster_dies(ground: Ground) -> None:
    with DatabaseOracle(ground, "H3 agent frozen, postmaster killed") as oracle:
        agent = ground.client().raw_status()["agent"]
        os.kill(agent, signal.SIGSTOP)
        try:
            pid = postmaster(ground, oracle.primary)
            oracle.fault()
            os.kill(pid, signal.SIGKILL)
            require(lambda: gone(pid), "the postmaster did not die")
            until(lambda: oracle.held.broken, what="the held session to break")
            ground.leader(within=GAP)
            oracle.writers.steady(within=GAP)
        finally:
            os.kill(agent, signal.SIGCONT)
        oracle.settle()
    judged(oracle, moved=None)


def test_a_frozen_node_that_nobody_fenced_wakes_up_and_takes_no_write(ground: Ground) -> None:
    """The agent is dead: the lease ends the primary, and then it is continued."""
    with DatabaseOracle(ground, "node frozen, agent dead, continued") as oracle:
        os.kill(ground.client().raw_status()["agent"], signal.SIGKILL)
        waking = ground.connect(oracle.primary)
        tree = ground.live.tree(oracle.primary)
        oracle.fault()
        ground.live.signal_node(oracle.primary, signal.SIGSTOP)
        try:
            require(lambda: all(frozen(pid) for pid in tree), "the node went on")
            ground.leader(other_than=oracle.primary)
            oracle.writers.steady()
            require(lambda: all(frozen(pid) for pid in tree), "the node went on before the end")
            woken = time.monotonic()
        finally:
            for pid in tree:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        with pytest.raises(psycopg.Error):
            waking.execute("INSERT INTO ledger VALUES ('woken', 0)")
        ground.live.up()
        oracle.settle()
        assert all(at < woken for at, _ in oracle.held.acknowledged)
    oracle.judge(fenced=False)
    assert oracle.writers.gap(oracle.moment) < LEASE
    with ground.connect(ground.leader()) as connection:
        assert connection.execute("SELECT count(*) FROM ledger WHERE kind = 'woken'").fetchone() == (0,)


def test_b3_without_the_store_the_policy_stop_ends_writing(ground: Ground) -> None:
    spec = ground.live.project / "asbuilt.yaml"
    before = spec.read_text()
    spec.write_text(f"{before}    database: {{without_consensus: stop}}\n")
    try:
        ground.live.up()
        with DatabaseOracle(ground, "B3 store down, policy stop") as oracle:
            client = ground.client()
            epoch = client.raw_status()["epoch"]
            pid = ground.live.nodes()["consensus-1"]["pid"]
            oracle.fault()
            client.hold("consensus-1", epoch)
            try:
                require(lambda: gone(pid), "the store did not end")
                until(
                    lambda: all(
                        not times or times[-1][0] < time.monotonic() - 3
                        for times in oracle.sampler.writable.values()
                    ),
                    what="every node to refuse writes",
                    within=LEASE,
                )
                read = len(oracle.reader.good)
                until(lambda: len(oracle.reader.good) > read + 20, what="reads to go on", within=GAP)
                assert not oracle.writers.since(time.monotonic() - 2)
            finally:
                client.release("consensus-1", epoch)
            oracle.settle()
        judged(oracle, moved=None, within=LEASE + GAP)
    finally:
        spec.write_text(before)
        ground.live.up()
