"""The autoscaler against the algorithm of the Kubernetes HorizontalPodAutoscaler, on simulated loads."""

from __future__ import annotations

import math
import random
import statistics
import sys
from typing import TYPE_CHECKING

from common import Row, print_rows, say
from fleet_model import CEILING, FLOOR, WORKERS, Measured, Outcome, Trace, arrivals, run

from asbuilt.plan.autoscale import Memory, decide
from asbuilt.plan.demand import Sample, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_model import Controller

TARGET = 0.7
START_TIMES = (3, 10, 30)
"""Seconds an app server takes to get ready."""
MOST_HOURS = 0.9
"""Server-hours of the peer that the day may take."""
DAYS = 4
"""Times as many days as other traces: a second now and then would be chance in a few of them."""
FIRST_SEED = 500


class Ours:
    """The autoscaler with the spec's defaults, a sample every five seconds."""

    every = 5

    def __init__(self) -> None:
        self.memory = Memory()
        self.settings = Settings(FLOOR, CEILING)

    def want(self, seen: Measured) -> int:
        """Servers from now on."""
        sample = Sample(
            seen.at,
            seen.wanted,
            seen.ready,
            starting=seen.wanted - seen.ready,
            in_flight=None if "in_flight" in seen.gone else seen.in_flight,
            rate=None if "rate" in seen.gone else seen.rate,
            cpu=None if "cpu" in seen.gone else seen.cpu,
        )
        decision = decide(sample, self.memory, self.settings)
        self.memory = decision.memory
        return decision.servers


class Kubernetes:
    """The HorizontalPodAutoscaler, autoscaling/v2 with its defaults.

    Written from its documentation: a sync every 15 s, 10 % tolerance, servers that are not ready for a whole
    metrics window set aside and counted as idle when the rest asks for more, the highest recommendation of
    300 s on the way down, at most twice as many servers or four more each 15 s on the way up. A metric that
    is missing stops the way down. Its metrics are not delayed, and their window is the sync period: its best
    case.
    """

    every = 15

    def __init__(self, *, crowd: bool = False) -> None:
        self.crowd = crowd
        self.past: list[tuple[float, int]] = [(0.0, FLOOR)]
        self.raised: tuple[float, int] = (-math.inf, 0)

    def want(self, seen: Measured) -> int:
        """Servers from now on."""
        proposals = [] if "cpu" in seen.gone else [self._by_cpu(seen)]
        if self.crowd and "in_flight" not in seen.gone:
            proposals.append(self._by_crowd(seen))
        whole = len(proposals) == 1 + self.crowd
        if not proposals or (not whole and max(proposals) < seen.wanted):
            return seen.wanted
        asked = min(max(*proposals, FLOOR), CEILING)
        highest = max([asked, *(number for at, number in self.past if at > seen.at - 300)])
        self.past = [*((at, n) for at, n in self.past if at > seen.at - 300), (seen.at, asked)]
        number = max(asked, min(seen.wanted, highest))
        if number <= seen.wanted:
            return number
        begun = seen.wanted - (self.raised[1] if self.raised[0] > seen.at - 15 else 0)
        number = max(min(number, max(2 * begun, begun + 4)), seen.wanted)
        self.raised = (seen.at, number - seen.wanted)
        return number

    def _by_cpu(self, seen: Measured) -> int:
        if not seen.settled:
            return seen.wanted
        ratio, counted = seen.cpu / TARGET, seen.settled
        if seen.settled < seen.wanted and ratio > 1:
            idle = ratio * seen.settled / seen.wanted
            if idle < 1:
                return seen.wanted
            ratio, counted = idle, seen.wanted
        return seen.wanted if abs(1 - ratio) <= 0.1 else math.ceil(ratio * counted)

    def _by_crowd(self, seen: Measured) -> int:
        """An object metric of the load balancer with an average value: queued requests count too."""
        target = TARGET * WORKERS
        ratio = seen.in_flight / (target * seen.wanted)
        return seen.wanted if abs(1 - ratio) <= 0.1 else math.ceil(seen.in_flight / target)


def wander(chance: random.Random, seconds: int, spread: float, over: float) -> list[float]:
    """Noise around 1 that remembers itself for about `over` seconds (a first-order autoregression)."""
    keep = math.exp(-1 / over)
    step = spread * math.sqrt(1 - keep * keep)
    value, found = 0.0, []
    for _ in range(seconds):
        value = keep * value + chance.gauss(0, step)
        found.append(max(0.1, 1 + value))
    return found


def make_step(chance: random.Random) -> Trace:
    """Three to four times the load at once, and back."""
    low, high = chance.uniform(120, 180), chance.uniform(500, 700)
    begin = 600 + chance.randrange(60)
    noise = wander(chance, 3600, 0.05, 60)
    return Trace("step", [(high if begin <= at < 2000 else low) * noise[at] for at in range(3600)])


def make_flash(chance: random.Random) -> Trace:
    """Six times the load within half a minute, minutes of that, a slow end."""
    low, top = chance.uniform(120, 170), chance.uniform(5, 7)
    begin, rise, stay = 900 + chance.randrange(60), chance.uniform(15, 45), chance.uniform(240, 480)
    noise = wander(chance, 3600, 0.05, 60)
    rates = []
    for at in range(3600):
        since = at - begin
        grown = min(max(since / rise, 0), 1) * math.exp(-max(since - rise - stay, 0) / 300)
        rates.append(low * (1 + (top - 1) * grown) * noise[at])
    return Trace("flash crowd", rates)


def _day(chance: random.Random, name: str, spread: float) -> Trace:
    top = chance.uniform(800, 1000)
    noise = wander(chance, 86400, spread, chance.uniform(45, 180))
    rates = [top * (0.58 - 0.42 * math.cos(2 * math.pi * at / 86400)) * noise[at] for at in range(86400)]
    return Trace(name, rates)


def make_day(chance: random.Random) -> Trace:
    """A day and a night, with noise of minutes: a standard deviation of 2 to 6 %."""
    return _day(chance, "day", chance.uniform(0.02, 0.06))


def make_rough_day(chance: random.Random) -> Trace:
    """The same with noise of 10 %."""
    return _day(chance, "rough day", 0.1)


def make_gaps(chance: random.Random) -> Trace:
    """The CPU is not measured while the load rises; later nothing is, while the load falls and comes back."""
    noise = wander(chance, 7200, 0.05, 60)
    high = chance.uniform(600, 800)
    rise = 1200 + chance.randrange(120)
    rates = []
    for at in range(7200):
        up = min(max((at - rise) / 600, 0), 1)
        dip = 0.7 if 3600 <= at < 4500 else 0.0
        rates.append((150 + (high - 150) * up) * (1 - dip) * noise[at])
    everything = frozenset({"cpu", "in_flight", "rate"})
    return Trace("missing metrics", rates, ((1150, 1900, frozenset({"cpu"})), (3550, 4600, everything)))


def make_bursts(chance: random.Random) -> Trace:
    """Bursts of all sizes at any time, as access logs show them: many small ones, few large ones."""
    noise = wander(chance, 10800, 0.07, 60)
    extra = [0.0] * 10800
    at = 300.0
    while at < 10800:
        size, length = min(0.3 * chance.paretovariate(1.5), 2.5), chance.uniform(20, 120)
        for second in range(int(at), min(10800, int(at + 6 * length))):
            extra[second] += size * math.exp(-(second - at) / length)
        at += chance.expovariate(1 / 360)
    return Trace("bursts", [300 * (noise[n] + min(extra[n], 3.5)) for n in range(10800)])


def make_sawtooth(chance: random.Random) -> Trace:
    """Up in a line, down at once, again and again."""
    period, high = chance.randrange(240, 720), chance.uniform(600, 900)
    noise = wander(chance, 7200, 0.04, 60)
    return Trace(
        "sawtooth", [(180 + (high - 180) * (at % period) / period) * noise[at] for at in range(7200)]
    )


TRACES: tuple[Callable[[random.Random], Trace], ...] = (
    make_step,
    make_flash,
    make_day,
    make_rough_day,
    make_gaps,
    make_bursts,
    make_sawtooth,
)
OURS = "ours"
CONTROLLERS: dict[str, Callable[[], Controller]] = {
    OURS: Ours,
    "HPA on CPU": Kubernetes,
    "HPA on CPU and requests": lambda: Kubernetes(crowd=True),
}


def play(trace: Trace, seed: int) -> dict[str, list[Outcome]]:
    """Every controller on the same load, with each start time."""
    come = arrivals(trace, random.Random(seed + 1))
    found: dict[str, list[Outcome]] = {name: [] for name in CONTROLLERS}
    for start in START_TIMES:
        for name, controller in CONTROLLERS.items():
            found[name].append(run(trace, come, controller(), start))
    return found


def judge(name: str, found: dict[str, list[Outcome]]) -> list[Row]:
    """Overload and server-hours on one kind of load, over all seeds and start times."""
    ours = found[OURS]
    peers = {peer: outcomes for peer, outcomes in found.items() if peer != OURS}
    lost = {one: sum(outcome.overload for outcome in outcomes) for one, outcomes in found.items()}
    rows = [
        Row(
            f"{name}: overloaded",
            "s a run",
            tuple(float(outcome.overload) for outcome in ours),
            "in all: " + ", ".join(f"{one} {lost[one]}" for one in found),
            "no more than the better peer",
            lost[OURS] <= min(lost[peer] for peer in peers),
        )
    ]
    for peer, outcomes in peers.items():
        ratios = tuple(
            mine.server_seconds / theirs.server_seconds for mine, theirs in zip(ours, outcomes, strict=True)
        )
        changes = [sum(one.changes for one in each) / len(each) for each in (ours, outcomes)]
        judged = name == "day"
        rows.append(
            Row(
                f"{name}: server-hours",
                f"of {peer}",
                ratios,
                f"changes a run: {changes[0]:.0f}, {peer} {changes[1]:.0f}",
                f"at most {MOST_HOURS:g}" if judged else "",
                statistics.median(ratios) <= MOST_HOURS if judged else None,
            )
        )
    return rows


def rows(runs: int = 5) -> list[Row]:
    """Rows for each kind of load. The constants of the autoscaler were chosen with other seeds than these."""
    table = []
    for make in TRACES:
        found: dict[str, list[Outcome]] = {name: [] for name in CONTROLLERS}
        seeds = DAYS * runs if make is make_day else runs
        traces = [make(random.Random(seed)) for seed in range(FIRST_SEED, FIRST_SEED + seeds)]
        for number, trace in enumerate(traces):
            for name, outcomes in play(trace, FIRST_SEED + number).items():
                found[name] += outcomes
        table += judge(traces[0].name, found)
        removed = sum(outcome.lost_in_gap for outcome in found[OURS])
        if any(trace.gaps for trace in traces):
            table.append(
                Row(
                    f"{traces[0].name}: servers removed while a signal was missing",
                    "servers",
                    (float(removed),),
                    "",
                    "none",
                    removed == 0,
                )
            )
        say(f"autoscale: {traces[0].name}: done")
    return table


if __name__ == "__main__":
    everything = rows()
    print_rows(everything)
    sys.exit(any(row.met is False for row in everything))
