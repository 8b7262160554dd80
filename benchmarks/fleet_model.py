"""A fleet of app servers under a changing load, second by second, for the benchmark of the autoscaler.

Each server works on `WORKERS` requests at a time, each takes `SERVICE` seconds of a worker in the mean; what
comes in beyond that waits at the load balancer. How long a request waits is the backlog's time plus the 95th
percentile of the waiting time of an M/M/c queue (A. K. Erlang, 1917). Everything random has a seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

WORKERS = 8
SERVICE = 0.1
EACH = WORKERS / SERVICE
"""Requests that one server can answer each second."""
PATIENCE = 2 * SERVICE
"""Seconds that 95 of 100 requests may wait for a worker; a second in which they wait longer is overloaded."""
FLOOR, CEILING = 3, 20


@dataclass(frozen=True, slots=True)
class Measured:
    """What a controller can see; `gone` are the names of the signals that are missing."""

    at: float
    wanted: int
    ready: int
    settled: int
    rate: float
    cpu: float
    in_flight: float
    gone: frozenset[str]


class Controller(Protocol):
    """Something that says how many servers there should be."""

    every: int
    """Seconds between two decisions."""

    def want(self, seen: Measured) -> int:
        """Servers from now on."""


@dataclass(slots=True)
class Outcome:
    """What one run cost."""

    overload: int = 0
    server_seconds: int = 0
    changes: int = 0
    lost_in_gap: int = 0
    """Servers removed while a signal was missing."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests each second by second, and when which signals are missing."""

    name: str
    rates: list[float]
    gaps: tuple[tuple[int, int, frozenset[str]], ...] = ()

    def gone(self, at: int) -> frozenset[str]:
        """Signals that are missing at a second."""
        return frozenset().union(*(names for begin, end, names in self.gaps if begin <= at < end))


@cache
def calm_share(servers: int) -> float:
    """Part of what the servers can do up to which 95 of 100 requests wait no longer than `PATIENCE`."""
    workers = servers * WORKERS
    share = 1.0
    for hundredth in range(50, 100):
        offered = workers * hundredth / 100
        blocked = 1.0
        for number in range(1, workers + 1):
            blocked = offered * blocked / (number + offered * blocked)
        waits = blocked / (1 - hundredth / 100 * (1 - blocked))
        if waits > 0.05 and math.log(waits / 0.05) * SERVICE / (workers - offered) > PATIENCE:
            return share
        share = hundredth / 100
    return share


def arrivals(trace: Trace, chance: random.Random) -> list[float]:
    """Requests that come in each second: Poisson, by its normal approximation."""
    return [max(0.0, chance.gauss(rate, math.sqrt(rate))) for rate in trace.rates]


def run(trace: Trace, come: Sequence[float], controller: Controller, start_time: int) -> Outcome:
    """Play what comes in against a controller."""
    found = Outcome()
    ready_at = [0] * FLOOR
    backlog = 0.0
    for begin in range(0, len(come) - controller.every + 1, controller.every):
        now = begin + controller.every
        arrived = work = crowd = 0.0
        for at in range(begin, now):
            ready = sum(when <= at for when in ready_at) if ready_at[-1] > at else len(ready_at)
            most = ready * EACH
            asked = backlog + come[at]
            done = min(asked, most)
            backlog = asked - done
            found.overload += asked > most * calm_share(ready)
            arrived += come[at]
            work += done / most
            crowd += done * SERVICE + backlog
        found.server_seconds += len(ready_at) * controller.every
        number = controller.want(_measure(trace, controller.every, ready_at, now, (arrived, work, crowd)))
        if number > len(ready_at):
            ready_at += [now + start_time] * (number - len(ready_at))
            found.changes += 1
        elif number < len(ready_at):
            found.lost_in_gap += (len(ready_at) - number) if trace.gone(now - 1) else 0
            del ready_at[number:]
            found.changes += 1
    return found


def _measure(
    trace: Trace, every: int, ready_at: list[int], now: int, sums: tuple[float, float, float]
) -> Measured:
    arrived, work, crowd = (total / every for total in sums)
    ready = sum(when <= now for when in ready_at)
    settled = sum(when == 0 or when + every <= now for when in ready_at)
    return Measured(now, len(ready_at), ready, settled, arrived, work, crowd, trace.gone(now - 1))
