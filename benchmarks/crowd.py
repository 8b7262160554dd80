"""Simulated users for the canary benchmark: requests of two releases, by tick and route, from a seed.

Requests arrive as a Poisson process and fail independently; times are lognormal, by route. Poisson numbers
come from a table and times as buckets, because rollouts are simulated by the thousand.
"""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from asbuilt.plan.histogram import Histogram, bucket_of, upper
from asbuilt.plan.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of request.

    Args:
        name: method and path.
        part: of all requests.
        median: ms to the first byte.
        sigma: of the logarithm of the time.
        errors: share that fails.
    """

    name: str
    part: float
    median: float
    sigma: float
    errors: float


SHOP = (
    Route("GET /", 0.35, 12, 0.5, 0.002),
    Route("GET /products/*", 0.30, 25, 0.6, 0.002),
    Route("GET /search", 0.15, 60, 0.7, 0.002),
    Route("POST /cart", 0.10, 35, 0.5, 0.002),
    Route("POST /orders", 0.07, 90, 0.6, 0.002),
    Route("GET /reports/*", 0.03, 180, 0.5, 0.002),
)
"""A web shop with two slow routes; 99 of 100 requests take less than 400 ms."""


def failing(routes: tuple[Route, ...], errors: float, only: str | None = None) -> tuple[Route, ...]:
    """The same, with this share of errors: on all routes or on one only."""
    return tuple(replace(one, errors=errors) if only in {None, one.name} else one for one in routes)


def slower(routes: tuple[Route, ...], times: float, only: str | None = None) -> tuple[Route, ...]:
    """The same, so many times as slow: on all routes or on one only."""
    return tuple(
        replace(one, median=times * one.median) if only in {None, one.name} else one for one in routes
    )


@cache
def build_poisson(mean: float) -> list[float]:
    """Cumulative probabilities, as far as a random number can tell them apart."""
    found, chance, number = [math.exp(-mean)], math.exp(-mean), 0
    while found[-1] < 1 - 1e-12 and number < 10 * mean + 100:
        number += 1
        chance *= mean / number
        found.append(found[-1] + chance)
    return found


@cache
def build_lognormal(median: float, sigma: float) -> tuple[list[int], list[float]]:
    """Buckets of a histogram and their cumulative weights."""

    def below(ms: float) -> float:
        return 0.5 * (1 + math.erf(math.log(ms / median) / sigma / math.sqrt(2)))

    first, last = bucket_of(median * math.exp(-4 * sigma)), bucket_of(median * math.exp(4.5 * sigma))
    buckets = list(range(first, last + 1))
    edges = [0.0, *(below(upper(bucket)) for bucket in buckets)]
    return buckets, list(accumulate(b - a for a, b in pairwise(edges)))


@dataclass
class Crowd:
    """Users of one release: `tick` gives what they ask within a second.

    Args:
        rate: requests a second.
        routes: what they ask for, and how it is answered.
        source: of randomness.
    """

    rate: float
    routes: tuple[Route, ...]
    source: random.Random
    _tables: list[tuple[Route, list[float], list[float], list[int], list[float]]] = field(init=False)

    def __post_init__(self) -> None:
        self._tables = []
        for route in self.routes:
            mean = self.rate * route.part
            # a Poisson process splits into two independent ones
            fine, bad = build_poisson(mean * (1 - route.errors)), build_poisson(mean * route.errors)
            self._tables.append((route, fine, bad, *build_lognormal(route.median, route.sigma)))

    def tick(self) -> dict[str, Tally]:
        """One second of all routes."""
        found = {}
        draw, choices = self.source.random, self.source.choices
        for route, fine, bad, buckets, weights in self._tables:
            errors = min(bisect(bad, draw()), len(bad) - 1)
            requests = errors + min(bisect(fine, draw()), len(fine) - 1)
            if requests:
                times = Counter(choices(buckets, cum_weights=weights, k=requests))
                found[route.name] = Tally(requests, errors, Histogram(dict(times)))
        return found


PAUSE = 1.0
"""Seconds that a server stands still, as with a collection of garbage."""


def pausing(crowd: Crowd, every: float, servers: int) -> Iterator[dict[str, Tally]]:
    """The same users, at servers that stand still for `PAUSE` now and then: what falls into it waits.

    Args:
        crowd: whose requests they are, shared out evenly.
        every: seconds between two pauses of one server on average; 0: it never pauses.
        servers: how many there are; each pauses by itself.
    """
    source = crowd.source
    while True:
        found = crowd.tick()
        pauses = sum(source.random() < 1 / every for _ in range(servers)) if every else 0
        for tally in found.values() if pauses else ():
            waited: Counter[int] = Counter()
            for bucket, count in tally.times.counts.items():
                for _ in range(count):
                    held = source.random() < pauses / servers * PAUSE
                    wait = 1000 * PAUSE * source.random() if held else 0.0
                    waited[bucket_of(upper(bucket) + wait) if held else bucket] += 1
            tally.times = Histogram(dict(waited))
        yield found
