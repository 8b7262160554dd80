"""Judges one fault of the cache: what was lost of what was acknowledged, and never two primaries.

The cache copies after it acknowledged, so a killed primary may lose the very last writes: nothing that was
acknowledged more than BOUND seconds before the fault, and nothing after the failover.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from asbuilt.engines.redis.members import parse_members
from asbuilt.engines.redis.succession import ask_opinions
from asbuilt.plan.ledger import find_overlaps
from support import until
from support.ledger import Ground, Writers

BOUND = 1.0
_BUSY = """
local function now() local t = redis.call('TIME') return t[1] * 1000000 + t[2] end
local till = now() + tonumber(ARGV[1])
while now() < till do end
"""


@dataclass
class CacheOracle:
    """What the clients and an observer of every node saw."""

    ground: Ground
    name: str
    moment: float = 0.0
    primary: str = ""
    seen: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.redundant()
        self.primary = self.ground.live.primary("cache")
        self.route().flushdb()
        for node in self.nodes():
            self.seen[node] = []
            thread = threading.Thread(target=self._observe, args=(node,), daemon=True)
            thread.start()
            self._threads.append(thread)
        self.writers = Writers(self.ground, "cache")
        self.writers.__enter__()
        self.writers.under_way()
        return self

    def __exit__(self, *_: object) -> None:
        self.writers.__exit__()
        self._over.set()
        for thread in self._threads:
            thread.join(10)

    def nodes(self) -> list[str]:
        return [f"cache-{n}" for n in (1, 2, 3)]

    def route(self) -> redis.Redis:
        """A client that goes where the app goes."""
        return redis.Redis.from_url(self.ground.variables["REDIS_URL"], socket_timeout=5)

    def direct(self, node: str) -> redis.Redis:
        """A client of one node."""
        url = urllib.parse.urlsplit(self.ground.variables["REDIS_URL"])
        host = self.ground.addresses[node]
        return redis.Redis.from_url(
            url._replace(netloc=f"{url.netloc.rpartition('@')[0]}@{host}").geturl(),
            socket_timeout=2,
            socket_connect_timeout=2,
            retry=Retry(NoBackoff(), 0),
        )

    def _observe(self, node: str) -> None:
        client = self.direct(node)
        while not self._over.wait(0.2):
            asked = time.monotonic()
            try:
                said = client.info("replication")
            except (redis.RedisError, OSError):
                client.connection_pool.disconnect()
                continue
            if said["role"] == "master":
                self.seen[node].append((asked, time.monotonic()))

    def redundant(self, within: float = 90) -> None:
        """Wait until one is primary and both others are in step with it, whoever is asked."""

        def look() -> bool:
            try:
                said = self.route().info("replication")
            except (redis.RedisError, OSError):
                return False
            states = [
                value["state"] for key, value in said.items() if isinstance(value, dict) and "state" in value
            ]
            return said["role"] == "master" and states == ["online", "online"]

        until(look, what="both replicas of the cache", within=within, every=0.2)
        self.ground.live.healthy(within)

    def wait_for_change(self) -> None:
        """Until another node than the one at the start says that it is primary: seen within milliseconds."""
        others = [self.direct(node) for node in self.nodes() if node != self.primary]

        def changed() -> bool:
            for client in others:
                with suppress(redis.RedisError, OSError):
                    if client.info("replication")["role"] == "master":
                        return True
            return False

        until(changed, what="the roles to change", every=0.005)

    def occupy(self, seconds: float) -> None:
        """Have the primary do one command for so long; it does nothing else meanwhile."""
        client = self.direct(self.primary)
        client.connection_pool.connection_kwargs["socket_timeout"] = seconds + 20
        client.eval(_BUSY, 0, int(seconds * 1_000_000))

    def is_deaf(self) -> bool:
        """Whether the primary does not answer within half a second."""
        client = self.direct(self.primary)
        client.connection_pool.connection_kwargs["socket_timeout"] = 0.5
        try:
            client.ping()
        except redis.RedisError:
            return True
        return False

    def agreed(self) -> bool:
        """Whether every sentinel names the node that the route leads to."""
        text = (self.ground.live.root / "nodes/cache-1/conf/server.json").read_text()
        opinions = ask_opinions(parse_members(json.loads(text)))
        routed = self.route().info("server")["run_id"]
        named = {self.direct(one.node).info("server")["run_id"] for one in opinions.values()}
        return len(opinions) == len(self.nodes()) and named == {routed}

    def fault(self) -> None:
        """Now it happens."""
        self.moment = time.monotonic()

    def settle(self) -> None:
        """Wait until writes flow and redundancy is back."""
        self.writers.steady(1.5)
        self.redundant()
        whole = time.monotonic() - self.moment
        gap = self.writers.gap(self.moment)
        print(f"\n{self.name}: gap {gap:.2f} s, whole after {whole:.1f} s")

    def judge(self, *, bound: float = BOUND) -> None:
        """After the end of the clients; `bound` 0: nothing at all may be lost."""
        wanted = {number: at for at, number in self.writers.acknowledged}
        assert len(wanted) > 100
        stored = {int(key.rpartition(b":")[2]) for key in self.route().scan_iter("ledger:*", count=1000)}
        lost = {number: wanted[number] - self.moment for number in wanted if number not in stored}
        print(f"{self.name}: {len(lost)} of {len(wanted)} acknowledged writes lost")
        # a write whose answer was on its way at the moment of the fault came a little later
        outside = {number: f"{at:+.2f} s" for number, at in lost.items() if not (-bound < at < 0.2)}
        assert not outside, f"{len(outside)} lost: {dict(list(outside.items())[:8])}"
        assert bound or not lost
        assert find_overlaps(self.seen) == []
        until(self.agreed, what="the sentinels to agree with the route")
        sizes = {node: self.direct(node).dbsize() for node in self.nodes()}
        until(
            lambda: len({self.direct(node).dbsize() for node in self.nodes()}) == 1,
            what=f"all copies to be equal: {sizes}",
        )
