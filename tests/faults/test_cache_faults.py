"""The cache fails under load: it is primary again on another node, and what was acknowledged is there."""

from __future__ import annotations

import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from asbuilt.context import choose_stage
from asbuilt.engines.redis.admin import switch_over
from asbuilt.operations.prepare import prepare
from asbuilt.operations.progress import silent
from asbuilt.targets.local.process import read_process
from support import until
from support.cache_oracle import CacheOracle
from support.ledger import Ground, inconclusive, make_ledger, require
from support.live import Live, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

GAP = 30.0
"""Seconds: far more than any of these takes, so that a busy machine doesn't fail the test."""
SLOW = 4.5
"""Seconds without an answer: a cache does that in the middle of a command that goes through all keys."""
STARVED = 1.75
"""Seconds: a process that stands still for 2 s is replaced."""
PATIENCE = 35.0
"""Seconds after which a sentinel that waits for a primary to be one again has given up."""


@pytest.fixture(scope="module")
def live(module_home: Path) -> Iterator[Live]:
    with running(make_ledger(module_home / "project"), "production") as one:
        yield one


@pytest.fixture
def ground(live: Live) -> Ground:
    return Ground(live)


def kill(oracle: CacheOracle, number: signal.Signals = signal.SIGKILL) -> int:
    """Signal the primary's server; it must feel it."""
    pid = int(oracle.ground.live.nodes()[oracle.primary]["pid"])
    oracle.fault()
    os.kill(pid, number)
    require(lambda: (one := read_process(pid)) is None or one.state in "ZXT", "the server went on")
    return pid


def judged(oracle: CacheOracle, *, bound: float = 1.0) -> None:
    oracle.judge(bound=bound)
    assert oracle.writers.gap(oracle.moment) < GAP
    # the agent asks each node for its role every 2 s
    until(lambda: oracle.ground.live.primary("cache") != oracle.primary, what="status to show it")


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_d1_the_primary_is_killed_again_and_again(ground: Ground, turn: int) -> None:
    with CacheOracle(ground, f"D1 cache killed, {turn}") as oracle:
        kill(oracle)
        oracle.settle()
    judged(oracle)


def test_d1_the_primary_is_frozen(ground: Ground) -> None:
    with CacheOracle(ground, "cache frozen") as oracle:
        pid = kill(oracle, signal.SIGSTOP)
        oracle.settle()
        process = read_process(pid)
        assert process is None or process.state in "ZX"  # fenced: it never wakes
    judged(oracle, bound=1.0)


def test_d1_the_primary_is_only_slow(ground: Ground) -> None:
    """Who promotes another one beside it loses what it acknowledges when it goes on."""
    with CacheOracle(ground, "cache slow") as oracle, ThreadPoolExecutor(1) as pool:
        oracle.fault()
        busy = pool.submit(oracle.occupy, SLOW)
        require(oracle.is_deaf, "the primary answered all the time", within=SLOW)
        busy.result()
        oracle.settle()
        primary = oracle.ground.live.primary("cache")
    oracle.judge(bound=0.0)
    assert primary == oracle.primary


def test_d3_a_planned_switchover_loses_nothing(ground: Ground) -> None:
    prepared = prepare(
        choose_stage(ground.live.project / "asbuilt.yaml", "production"), touch=False, tell=silent
    )
    with CacheOracle(ground, "D3 switchover") as oracle:
        oracle.fault()
        assert switch_over(prepared.architecture, prepared.site) != oracle.primary
        oracle.settle()
    judged(oracle, bound=0.0)


def sentinels(ground: Ground) -> list[int]:
    """The main process of each sentinel."""
    seen = ground.client().snapshot().workloads
    pids = [one.pid for name, one in seen.items() if name.endswith(".sentinel")]
    assert len(pids) == 3
    return [pid for pid in pids if pid is not None]


def test_d3_the_sentinels_get_no_time_while_the_roles_change(ground: Ground) -> None:
    """A sentinel that misses the change takes it back half a minute later: acknowledged writes would go."""
    prepared = prepare(
        choose_stage(ground.live.project / "asbuilt.yaml", "production"), touch=False, tell=silent
    )
    pids = sentinels(ground)
    with CacheOracle(ground, "D3 starved sentinels") as oracle, ThreadPoolExecutor(1) as pool:
        oracle.fault()
        switch = pool.submit(switch_over, prepared.architecture, prepared.site)
        oracle.wait_for_change()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(STARVED)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        switch.result()
        oracle.settle()
        until(lambda: time.monotonic() - oracle.moment > PATIENCE, what="their patience to end", within=60)
        oracle.settle()
    judged(oracle, bound=0.0)


def test_d4_the_primary_restarts_with_an_empty_disk(ground: Ground) -> None:
    with CacheOracle(ground, "D4 primary with an empty disk") as oracle:
        data = ground.live.root / "nodes" / oracle.primary / "data"
        for one in data.iterdir():
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        if any(data.rglob("*.aof")):
            inconclusive("the disk was not empty")
        kill(oracle)
        oracle.settle()
    judged(oracle)


def test_d4_all_restart_and_the_last_primary_has_an_empty_disk(ground: Ground) -> None:
    with CacheOracle(ground, "filling") as oracle:
        oracle.fault()
        oracle.writers.steady()
    wanted = {number for _, number in oracle.writers.acknowledged}
    client, nodes = ground.client(), oracle.nodes()
    epoch = client.raw_status()["epoch"]
    # the replicas first: nobody is promoted meanwhile
    order = [*(node for node in nodes if node != oracle.primary), oracle.primary]
    for node in order:
        client.hold(node, epoch)
    try:
        pids = ground.pids()
        if any(pids[node] for node in nodes):
            inconclusive("a server still ran")
        shutil.rmtree(ground.live.root / "nodes" / oracle.primary / "data")
    finally:
        for node in reversed(order):
            client.release(node, epoch)
    oracle.redundant()
    stored = {int(key.rpartition(b":")[2]) for key in oracle.route().scan_iter("ledger:*", count=1000)}
    assert wanted <= stored, f"{len(wanted - stored)} of {len(wanted)} lost"
    until(lambda: ground.live.status()["healthy"], what="the environment to be healthy", within=60)
