"""What a sample of the app servers' signals says about the load, counted in servers at their target.

Pure. A signal may be missing or wrong: what cannot be true counts as missing, and signals that contradict
each other are named, so that nobody removes a server because of them. Invariant: more load in every signal
never means fewer servers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

LEARN_OVER: Final = 600.0
"""Seconds over which what a request costs is averaged."""
LEARNED_AFTER: Final = 6
"""Samples after which what was learned is used."""
NEAR: Final = 0.9
"""Part of the CPU's target from which work, and not waiting for something else, is taken to be the load."""
APART: Final = 4.0
"""Two signals of the same load that differ by more than this factor contradict each other."""
BUSY: Final = 0.95
"""CPU share from which the true demand cannot be seen in it any more."""
CATCH_UP: Final = 1.5
"""Most servers for the requests that wait, over those for the requests that come in."""


class Signal(StrEnum):
    """What is measured."""

    CPU = "CPU"
    IN_FLIGHT = "requests in flight"
    RATE = "requests/s"


@dataclass(frozen=True, slots=True)
class Settings:
    """What is wanted.

    Args:
        floor: fewest servers.
        ceiling: most servers.
        cpu: share of its CPU limit that a server should use, in the mean.
        in_flight: requests that one server should work on at a time; None: learned from the CPU they need.
        latency: milliseconds that 95 of 100 requests may take; None: not looked at.
        down_after: seconds for which fewer servers must have been enough.
        start_time: seconds a server takes to get ready, until the app's own time is known.
        start_timeout: seconds after which one that is not ready counts as failed.
        stale_after: seconds after which a measurement says nothing any more.
        expected: signals that the environment can measure: without one of them no server is removed.
    """

    floor: int
    ceiling: int
    cpu: float = 0.7
    in_flight: float | None = None
    latency: float | None = None
    down_after: float = 120.0
    start_time: float = 10.0
    start_timeout: float = 60.0
    stale_after: float = 30.0
    expected: frozenset[Signal] = frozenset(Signal)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one moment; None where it could not be measured.

    Args:
        at: seconds on a clock that never goes back.
        wanted: servers on record.
        ready: servers in rotation.
        starting: servers that are not ready yet.
        crashing: servers that crash again and again.
        in_flight: requests at the load balancer that are not answered yet, queued ones included: mean since
            the sample before.
        rate: requests that came in, each second.
        p95: milliseconds in which 95 of 100 requests were answered.
        cpu: share of its limit that a ready server uses, in the mean.
        age: seconds since the signals were measured.
        releasing: a release is on its way.
        by_hand: servers that the operator asked for.
        failing_over: the database changes its primary.
    """

    at: float
    wanted: int
    ready: int
    starting: int = 0
    crashing: int = 0
    in_flight: float | None = None
    rate: float | None = None
    p95: float | None = None
    cpu: float | None = None
    age: float = 0.0
    releasing: bool = False
    by_hand: int | None = None
    failing_over: bool = False


@dataclass(frozen=True, slots=True)
class Learned:
    """What the app's requests cost, as far as it was seen.

    Args:
        samples: how many it was learned from.
        cost: servers at full CPU for one request each second.
        crowd: requests in flight on a server at full CPU.
    """

    samples: int = 0
    cost: float = 0.0
    crowd: float = 0.0

    @property
    def known(self) -> bool:
        """Whether there is enough to go by."""
        return self.samples >= LEARNED_AFTER


UNKNOWN: Final = Learned()
"""Nothing is known about the app's requests yet."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The load of one sample.

    Args:
        servers: servers that would carry it, each at its target; None where nothing says.
        words: the signal that asks for the most, for people.
        doubt: why no server must be removed because of this sample; empty where it can be trusted.
    """

    servers: float | None
    words: str
    doubt: str = ""


def clean(seen: Sample, settings: Settings) -> Sample:
    """The sample without the signals that are too old or cannot be true."""
    if not 0 <= seen.age <= settings.stale_after:
        return replace(seen, in_flight=None, rate=None, p95=None, cpu=None)
    return replace(
        seen,
        in_flight=_possible(seen.in_flight),
        rate=_possible(seen.rate),
        p95=_possible(seen.p95),
        cpu=_possible(seen.cpu),
    )


def _possible(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value >= 0 else None


def find_demand(seen: Sample, learned: Learned, settings: Settings) -> Demand:
    """The load of a clean sample: the largest that one of its signals shows.

    The load of a CPU target is `ready x share / target`, as the Kubernetes autoscaler counts it; requests in
    flight over their target likewise. What was learned counts once the CPU is at its target, or is missing:
    before, cheap requests or a slow database would look like load.
    """
    found: list[tuple[float, str]] = []
    if seen.cpu is not None:
        share = f"{seen.cpu:.0%} CPU on {_servers(seen.ready)}, target {settings.cpu:.0%}"
        found.append((seen.ready * seen.cpu / settings.cpu, share))
        if seen.cpu >= BUSY and not (learned.known and seen.rate is not None):
            found.append((2.0 * seen.ready, f"{share}: how much more is wanted cannot be seen"))
    working = seen.cpu is None or seen.cpu >= NEAR * settings.cpu
    by_rate = None
    if learned.known and working and seen.rate is not None:
        by_rate = seen.rate * learned.cost / settings.cpu
        each = settings.cpu / learned.cost if learned.cost else 0.0
        found.append((by_rate, f"{seen.rate:.0f} requests/s, {each:.0f} on a server at its target"))
    found += _find_crowd(seen, learned, settings, by_rate, working=working)
    found += _find_slowness(seen, settings, working=working)
    doubt = _find_doubt(seen, learned, settings)
    if not found:
        return Demand(None, "no signal says how much load there is", doubt)
    servers, words = max(found)
    return Demand(servers, words, doubt)


def _find_crowd(
    seen: Sample, learned: Learned, settings: Settings, by_rate: float | None, *, working: bool
) -> list[tuple[float, str]]:
    """The load that the requests in flight show, not more than they can show while they pile up."""
    if seen.in_flight is None or seen.failing_over:
        return []
    target = settings.in_flight
    if target is None:
        if not (learned.known and working and learned.crowd > 0):
            return []
        target = learned.crowd * settings.cpu
    most = max(2.0 * seen.wanted, seen.wanted + 4.0)
    if by_rate is not None and settings.in_flight is None:
        most = min(most, CATCH_UP * by_rate)
    words = f"{seen.in_flight:.0f} requests in flight on {_servers(seen.ready)}, target {target:.3g} each"
    return [(min(seen.in_flight / target, most), words)]


def _find_slowness(seen: Sample, settings: Settings, *, working: bool) -> list[tuple[float, str]]:
    """The load that slow answers show: only where the servers have work, and at most half as many more."""
    if seen.p95 is None or settings.latency is None or seen.failing_over:
        return []
    crowded = (
        settings.in_flight is not None
        and seen.in_flight is not None
        and seen.in_flight >= NEAR * settings.in_flight * seen.ready
    )
    busy = seen.cpu is not None and working
    if seen.p95 <= settings.latency or not (busy or crowded):
        return []
    words = f"p95 {seen.p95:.0f} ms on {_servers(seen.ready)} with work, target {settings.latency:.0f} ms"
    return [(seen.ready * min(seen.p95 / settings.latency, 1.5), words)]


def _find_doubt(seen: Sample, learned: Learned, settings: Settings) -> str:
    """Why this sample is no reason to remove a server."""
    values = {Signal.CPU: seen.cpu, Signal.IN_FLIGHT: seen.in_flight, Signal.RATE: seen.rate}
    missing = [str(signal) for signal in Signal if signal in settings.expected and values[signal] is None]
    if missing:
        return f"{len(missing)} of {len(settings.expected)} signals missing ({', '.join(missing)})"
    if seen.failing_over:
        return f"the database changes its primary: {_servers(seen.ready)} slow for one reason"
    if settings.latency is not None and seen.p95 is not None and seen.p95 > settings.latency:
        return f"p95 is {seen.p95:.0f} ms, target {settings.latency:.0f} ms"
    return _find_contradiction(seen, learned)


def _find_contradiction(seen: Sample, learned: Learned) -> str:
    """Two signals that cannot both be true; empty for none."""
    rate, crowd, cpu = seen.rate, seen.in_flight, seen.cpu
    if rate is not None and crowd == 0 and rate >= 10 * max(seen.ready, 1):
        return f"contradiction: {rate:.0f} requests/s, but 0 in flight"
    if rate == 0 and crowd is not None and crowd >= max(seen.ready, 1):
        return f"contradiction: 0 requests/s, but {crowd:.0f} in flight"
    if not learned.known or learned.crowd <= 0:
        return ""
    loads = {
        Signal.CPU: None if cpu is None else cpu * seen.ready,
        Signal.IN_FLIGHT: None if crowd is None else crowd / learned.crowd,
        Signal.RATE: None if rate is None else rate * learned.cost,
    }
    told = sorted((load, str(signal)) for signal, load in loads.items() if load is not None)
    if len(told) > 1 and told[-1][0] >= 1 and told[0][0] * APART < told[-1][0]:
        (low, quiet), (high, loud) = told[0], told[-1]
        return f"contradiction: {loud} show work for {high:.1f} servers, {quiet} for {low:.1f}"
    return ""


def learn(learned: Learned, seen: Sample, seconds: float, demand: Demand) -> Learned:
    """What is known after a clean sample that covers `seconds`; only from calm samples without a doubt."""
    if seen.releasing:
        # the next release may cost something else
        return UNKNOWN
    calm = seen.ready == seen.wanted and not seen.starting and not seen.crashing and not demand.doubt
    rate, crowd, cpu = seen.rate, seen.in_flight, seen.cpu
    if not (calm and seen.ready and rate and crowd) or cpu is None or not 0.1 <= cpu <= NEAR:  # noqa: PLR2004 - enough, not all
        return learned
    weight = max(1 - math.exp(-seconds / LEARN_OVER), 1 / (learned.samples + 1))
    cost, each = cpu * seen.ready / rate, crowd / seen.ready / cpu
    return Learned(
        learned.samples + 1,
        learned.cost + weight * (cost - learned.cost),
        learned.crowd + weight * (each - learned.crowd),
    )


def _servers(count: int) -> str:
    return f"{count} server" if count == 1 else f"{count} servers"
