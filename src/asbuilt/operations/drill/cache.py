"""The ledger in the cache: numbered SETs through the app's own route, and an observer of every node.

The cache copies after it acknowledged, so a primary that dies may lose the very last writes. That bound is
declared, and what was lost is reported.
"""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Final, Self

from asbuilt.engines.redis.resp import Client, ReplyError
from asbuilt.graph.model import Kind
from asbuilt.operations.drill.ground import Ground
from asbuilt.operations.drill.sampler import CacheQuestion, Sampler
from asbuilt.operations.drill.track import LateError, Track
from asbuilt.operations.drill.writers import Writers
from asbuilt.plan.ledger import Sight, count_losses, find_legs, measure_rto
from asbuilt.plan.verdict import RATE

BOUND: Final = 1.0
"""Seconds before a failure whose writes the cache may lose."""
_PREFIX: Final = "asbuilt_drill"
_KEEP: Final = "1800"
"""Seconds after which what is left of a drill goes by itself."""
_BASELINE: Final = 2.0
_AT_ONCE: Final = 500


@dataclass
class CacheBook:
    """One client's way to the cache."""

    ground: Ground
    drill: str
    errors: tuple[type[Exception], ...] = (OSError, ReplyError)
    _client: Client | None = field(default=None)

    def open(self) -> bool:
        """Connect if it is not."""
        if self._client is not None:
            return False
        self._client = self.ground.cache_client()
        return True

    def write(self, number: int) -> None:
        """One SET."""
        self.open()
        if self._client is not None:
            self._client.ask("SET", f"{_PREFIX}:{self.drill}:{number}", str(number), "EX", _KEEP)

    def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            with suppress(OSError):
                self._client.close()
        self._client = None


@dataclass
class CacheClients:
    """Everybody who uses the cache during a drill."""

    track: Track
    ended: float | None = None
    primary: str = ""

    def __post_init__(self) -> None:
        self._stack = ExitStack()
        self.writers = Writers(lambda: CacheBook(self.ground, self.track.drill), itertools.count(1))
        self.sampler = Sampler(
            {
                node: CacheQuestion(lambda node=node: self.ground.cache_client(node))  # type: ignore[misc]
                for node in self.ground.nodes(Kind.CACHE)
            }
        )

    @property
    def ground(self) -> Ground:
        """Where."""
        return self.track.ground

    def __enter__(self) -> Self:
        self.primary = self.ground.primary(Kind.CACHE)
        self.track.judges.append(self.judge)
        self.track.writes = True
        try:
            self._stack.enter_context(self.sampler)
            self._stack.enter_context(self.writers)
            with suppress(LateError):  # then there is too little load, and the verdict says so
                self.track.until(
                    "writes to flow", lambda: self.writers.since(time.monotonic() - 1) >= RATE, 30.0
                )
            began = time.monotonic()
            self.track.rest("the baseline", _BASELINE)
            self.track.rate = round(self.writers.since(began) / (time.monotonic() - began), 1)
            self.track.note(f"baseline: {self.track.rate:.0f} acknowledged writes a second")
            self.track.probes["acknowledged write"] = lambda: self.writers.last(began)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = self.ended or time.monotonic()
        self.track.probes.pop("acknowledged write", None)
        self._stack.close()

    def wait_back(self, within: float = 150.0) -> None:
        """Until writes flow again after the fault was felt."""
        moment = self.track.moment
        self.track.until(
            "the fault to be felt",
            lambda: any(at > moment for at, _ in self.writers.refused[-50:]),
            60.0,
            every=0.02,
        )
        felt_at = time.monotonic()
        self.track.until("writes to flow again", lambda: self.writers.steady(felt_at), within, every=0.05)

    def judge(self) -> None:
        """Count what is there of what was acknowledged, and take it away."""
        track, now = self.track, self.ended or time.monotonic()
        good = [at for at, _ in self.writers.acknowledged]
        track.two_primaries = self.sampler.count_two()
        track.figures |= {
            "writes acknowledged": len(good),
            "writes refused": len(self.writers.refused),
            "writes a second before": track.rate or 0.0,
        }
        if track.moment:
            track.rto = measure_rto(good, track.moment, now)
            refused = tuple(at for at, _ in self.writers.refused)
            sight = Sight(
                track.moment,
                self.primary,
                None,
                refused,
                tuple(self.writers.connected),
                tuple(good),
                self.sampler.writable,
                None,
            )
            track.legs = {**find_legs(sight, now), **track.legs}
        try:
            stored = self._stored_and_gone([number for _, number in self.writers.acknowledged])
        except (OSError, ReplyError) as error:
            track.note(f"the cache cannot be read: {error}")
            return
        losses = track.losses = count_losses(self.writers.acknowledged, stored, track.moment, BOUND)
        track.figures["writes lost"] = len(losses.lost)

    def _stored_and_gone(self, numbers: list[int]) -> list[int]:
        found: list[int] = []
        with self.ground.cache_client(timeout=10.0) as client:
            for first in range(0, len(numbers), _AT_ONCE):
                found += self._take(client, numbers[first : first + _AT_ONCE])
        return found

    def _take(self, client: Client, numbers: list[int]) -> list[int]:
        keys = [f"{_PREFIX}:{self.track.drill}:{number}" for number in numbers]
        said = client.ask("MGET", *keys)
        client.ask("UNLINK", *keys)
        return [int(value) for value in said if isinstance(value, str)] if isinstance(said, list) else []
