from __future__ import annotations

import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from asbuilt.engines.haproxy.engine import HaproxyEngine
from asbuilt.engines.redis import admin
from asbuilt.engines.redis.config import ADMIN, describe_members, render_url
from asbuilt.engines.redis.engine import RedisEngine
from asbuilt.engines.redis.members import parse_members
from asbuilt.engines.redis.succession import ask_opinions
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.graph.model import Architecture
from asbuilt.plan.site import Entry, Site
from asbuilt.plan.workload import Workload
from support import until
from support.launcher import Launcher, answers
from support.places import free_port, site_of
from support.specs import spec_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


pytestmark = pytest.mark.stack
SLOT = 217
NODES = ("cache-1", "cache-2", "cache-3")


@dataclass
class Cluster:
    architecture: Architecture
    site: Site
    workloads: dict[str, Workload]
    launcher: Launcher

    def start_all(self) -> None:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda n: self.launcher.up(self.workloads[n], attempts=60), NODES))
            list(pool.map(lambda n: self.launcher.up(self.workloads[f"{n}.sentinel"]), NODES))

    def stop_all(self, *, kill: bool) -> None:
        with ThreadPoolExecutor(6) as pool:
            if kill:
                list(pool.map(self.launcher.kill, self.workloads))
            else:
                list(pool.map(lambda name: self.launcher.end(self.workloads[name]), self.workloads))

    def client(self, node: str, user: str | None = None) -> redis.Redis:
        name = "cache.password" if user is None else "cache.admin"
        return redis.Redis(
            self.site.addresses[node],
            self.site.ports["redis"],
            username=user,
            password=self.site.secret(name).reveal(),
            socket_timeout=1,
            socket_connect_timeout=1,
            retry=Retry(NoBackoff(), 0),
        )

    def primaries(self) -> list[str]:
        found = []
        for node in NODES:
            role = self.workloads[node].role
            if role is not None and answers(role.primary):
                found.append(node)
        return found

    def primary(self) -> str:
        until(lambda: len(self.primaries()) == 1, what="one primary")
        return self.primaries()[0]

    def named(self) -> set[str]:
        """Whom the sentinels name."""
        members = parse_members(describe_members(self.architecture, self.site))
        return {opinion.node for opinion in ask_opinions(members).values()}

    def whole(self) -> bool:
        return len(self.primaries()) == 1 and all(
            (probe := self.workloads[n].ready.exchange) is not None and answers(probe) for n in NODES
        )


@dataclass
class Writer:
    """Writes numbered keys to whoever is primary, and remembers what was acknowledged."""

    cluster: Cluster
    acked: list[int] = field(default_factory=list)
    gap: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        assert self._thread
        self._thread.join(10)

    def _run(self) -> None:
        number, node, last = 0, NODES[0], time.monotonic()
        while not self._over.is_set():
            client = self.cluster.client(node)
            with suppress(redis.RedisError, OSError):
                if client.info("replication")["role"] == "master":
                    while not self._over.is_set():
                        client.set(f"key-{number}", number)
                        self.acked.append(number)
                        self.gap = max(self.gap, time.monotonic() - last)
                        last = time.monotonic()
                        number += 1
                        time.sleep(0.001)
            client.close()
            node = NODES[(NODES.index(node) + 1) % 3]
            time.sleep(0.01)

    def lost(self) -> list[int]:
        with self.cluster.client(self.cluster.primary()) as client:
            found = client.mget([f"key-{n}" for n in self.acked])
        return [n for n, value in zip(self.acked, found, strict=True) if value is None]


@pytest.fixture
def cluster(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    # the sentinels are alone here: what they do after ten seconds they may do sooner
    monkeypatch.setattr("asbuilt.engines.redis.config._DOWN_AFTER", 4000)
    architecture = build(spec_of(production={}), "production")
    runner = Runner((launcher := Launcher()).identity)
    tools = {
        "redis": RedisEngine().find(architecture, runner),
        "haproxy": HaproxyEngine().find(architecture, runner),
    }
    entry = Entry("127.0.0.1", free_port("127.0.0.1"), free_port("127.0.0.1"))
    site = site_of(architecture, home, tools, slot=SLOT, entry=entry)
    realization = RedisEngine().realize(architecture, site, runner)
    cluster = Cluster(architecture, site, {w.id: w for w in realization.workloads}, launcher)
    try:
        begun = time.monotonic()
        cluster.start_all()
        print(f"up {time.monotonic() - begun:.1f} s")
        yield cluster
    finally:
        launcher.stop_all()


def test_a_killed_primary_is_replaced_and_comes_back_as_a_replica(cluster: Cluster) -> None:
    for _ in range(2):
        with Writer(cluster) as writer:
            until(lambda: len(writer.acked) > 200, what="writes")
            old = cluster.primary()
            cluster.launcher.kill(old)
            before = len(writer.acked)
            begun = time.monotonic()
            cluster.launcher.up(cluster.workloads[old], attempts=60)  # as a target would: at once, and again
            back = time.monotonic() - begun
            until(lambda: len(writer.acked) > before + 100, what="writes after it")  # noqa: B023 - the same
        assert cluster.primary() != old
        assert writer.lost() == []
        until(cluster.whole, what="all to be in step")
        print(f"gap {writer.gap:.2f} s, back {back:.2f} s, {len(writer.acked)} acknowledged")
        assert writer.gap < 4


def test_an_emptied_primary_is_never_accepted(cluster: Cluster) -> None:
    with cluster.client(cluster.primary()) as client:
        client.set("kept", "yes")
        client.wait(2, 1000)
    old = cluster.primary()
    cluster.launcher.kill(old)
    shutil.rmtree(cluster.site.node_dir(old) / "data")
    cluster.launcher.up(cluster.workloads[old], attempts=60)
    until(cluster.whole, what="all to be in step")
    assert cluster.primary() != old
    for node in NODES:
        with cluster.client(node) as client:
            assert client.get("kept") == b"yes"


def test_a_planned_switchover_loses_nothing(cluster: Cluster) -> None:
    old = cluster.primary()
    with Writer(cluster) as writer:
        until(lambda: len(writer.acked) > 200, what="writes")
        new = admin.switch_over(cluster.architecture, cluster.site, within=10)
        before = len(writer.acked)
        until(lambda: len(writer.acked) > before + 200, what="writes after it")
    print(f"gap {writer.gap:.2f} s")
    assert new == cluster.primary() != old
    assert writer.lost() == []


def test_a_change_that_the_sentinels_were_not_told_of_is_made_known(cluster: Cluster) -> None:
    """Whoever changed the roles was killed before it told them: they take the change back after 30 s."""
    old = cluster.primary()
    new = next(node for node in NODES if node != old)
    with cluster.client(old, ADMIN) as client:
        client.execute_command("FAILOVER", "TO", cluster.site.addresses[new], cluster.site.ports["redis"])
    until(lambda: cluster.primaries() == [new], what="the roles to change")
    assert cluster.named() == {old}
    third = admin.switch_over(cluster.architecture, cluster.site)
    assert cluster.named() == {third} == set(cluster.primaries())
    cluster.launcher.kill(third)
    with cluster.client(new, ADMIN) as client:
        client.replicaof("NO", "ONE")
    cluster.launcher.up(cluster.workloads[third], attempts=60)
    until(lambda: cluster.named() == {new}, what="the sentinels to know", within=10)
    until(cluster.whole, what="all to be in step")
    assert cluster.primary() == new


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_everything_comes_back_from_rest_with_its_data(cluster: Cluster, kill: bool) -> None:
    old = cluster.primary()
    cluster.launcher.kill(old)  # so that the last primary is not the first node
    until(lambda: cluster.primaries() and cluster.primaries() != [old], what="another primary")
    cluster.launcher.up(cluster.workloads[old], attempts=60)
    until(cluster.whole, what="all to be in step")
    last = cluster.primary()
    with cluster.client(last) as client:
        client.set("kept", "yes")
        client.wait(2, 1000)
    time.sleep(1.1 if kill else 0)  # the log of writes is flushed every second: that bound is declared
    cluster.stop_all(kill=kill)
    begun = time.monotonic()
    cluster.start_all()
    print(f"cold start {time.monotonic() - begun:.1f} s")
    until(cluster.whole, what="all to be in step")
    with cluster.client(cluster.primary()) as client:
        assert client.get("kept") == b"yes"
    assert cluster.primary() == last


def test_an_emptied_disk_is_not_started_from_when_all_come_from_rest(cluster: Cluster) -> None:
    old = cluster.primary()
    with cluster.client(old) as client:
        client.set("kept", "yes")
        client.wait(2, 1000)
    cluster.stop_all(kill=False)
    shutil.rmtree(cluster.site.node_dir(old) / "data")
    cluster.start_all()
    until(cluster.whole, what="all to be in step", within=60)
    for node in NODES:
        with cluster.client(node) as client:
            assert client.get("kept") == b"yes"


def test_the_sentinels_alone_replace_a_frozen_primary(cluster: Cluster) -> None:
    """Nobody fences and restarts it here, as when the agent is dead."""
    old = cluster.primary()
    with Writer(cluster) as writer:
        until(lambda: len(writer.acked) > 200, what="writes")
        cluster.launcher.kill(old, signal.SIGSTOP)
        until(lambda: cluster.primaries() and old not in cluster.primaries(), what="another primary")
        cluster.launcher.kill(old, signal.SIGCONT)
        until(cluster.whole, what="all to be in step")
    print(f"gap {writer.gap:.2f} s")
    assert cluster.primary() != old


def test_the_app_may_use_it_but_not_administer_it(cluster: Cluster) -> None:
    with cluster.client(cluster.primary()) as client:
        client.client_setname("app")
        assert client.info()["role"] == "master"
        client.eval("return redis.call('set', KEYS[1], '1')", 1, "a")
        client.flushdb()
        for words in (
            ("CONFIG", "GET", "masterauth"),
            ("SHUTDOWN",),
            ("REPLICAOF", "NO", "ONE"),
            ("ACL", "LIST"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*words)
    with redis.Redis(cluster.site.addresses["cache-1"], 6379) as stranger, pytest.raises(redis.RedisError):
        stranger.ping()


def test_the_route_follows_the_primary(cluster: Cluster) -> None:
    realization = HaproxyEngine().realize(
        cluster.architecture, cluster.site, Runner(cluster.launcher.identity)
    )
    for setup in realization.setups:
        setup.run()
    cluster.launcher.up(realization.workloads[0])
    client = redis.Redis.from_url(
        render_url(cluster.architecture, cluster.site), socket_timeout=1, retry=Retry(NoBackoff(), 0)
    )

    def write(number: int) -> bool:
        try:
            return bool(client.set(f"key-{number}", number))
        except redis.RedisError:
            return False

    until(lambda: write(0), what="the first write")
    old = cluster.primary()
    acked, last, gap = [0], time.monotonic(), 0.0
    cluster.launcher.kill(old)
    with ThreadPoolExecutor(1) as pool:  # as a target would: what runs before its start promotes another one
        pool.submit(cluster.launcher.up, cluster.workloads[old], attempts=60)
        while len(acked) < 500:
            if write(acked[-1] + 1):
                gap = max(gap, time.monotonic() - last)
                last = time.monotonic()
                acked.append(acked[-1] + 1)
            else:
                time.sleep(0.02)
            assert time.monotonic() - last < 20
    print(f"gap through the route {gap:.2f} s")
    assert client.mget([f"key-{n}" for n in acked]) == [str(n).encode() for n in acked]
    client.close()
    assert gap < 4
