"""How soon a canary that fails is found, and how often one that does not is sent back: simulated, from seeds.

The release under test has 10 % of the users, later 50 %. Beside our gate, on the very same requests, stand
the rules of Flagger and of Argo Rollouts with the settings of their own documentation, as their sources apply
them:

- Flagger asks every `interval` (10 s at least) for the share of good answers and the 99th percentile of the
  times, both over the last minute, of the candidate alone. A failed check is counted and never forgotten; at
  the check after the count has reached `threshold` (by default 1) it rolls back.
- Argo Rollouts measures every `interval` and aborts at once when more than `failureLimit` (by default 0)
  measurements have failed.

Scrape intervals, which would make both slower, are left out, and so is the delay of our own log reader.
"""

from __future__ import annotations

import math
import random
import statistics
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from common import Row, percentile, print_rows, say
from crowd import PAUSE, SHOP, Crowd, Route, failing, pausing, slower

from asbuilt.plan.comparison import POOLED
from asbuilt.plan.evidence import LATER, TIMES
from asbuilt.plan.gate import ERRORS, Gate, Settings, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from asbuilt.plan.tally import Tally

SHARES = (0.1, 0.5)
STEP = 60
"""Seconds at each share."""
RATE = 100.0
"""Requests a second, of both releases together."""
USUAL = 0.002
"""Share of errors of the stable release."""
TARGETS = {1.0: (6.0, 25.0), 0.2: (10.0, 12.0), 0.05: (30.0, 10.0)}
"""By share of errors of the release: seconds and bad responses until it is found."""
FALSE = 0.01
"""Share of good releases that may be sent back."""
NEAR = 0.2
"""How far the mean time may be from what theory says."""
GIVE_UP = 600


class Rule(Protocol):
    """Somebody who watches a rollout, second by second."""

    def begin_step(self) -> None:
        """The share has changed."""

    def rejects(self, candidate: Mapping[str, Tally], stable: Mapping[str, Tally], seconds: float) -> bool:
        """Whether it sends the release back now."""


class Ours:
    """The gate as `deploy` uses it."""

    def __init__(self) -> None:
        self._gate = Gate(Settings())

    def begin_step(self) -> None:
        """The share has changed."""
        self._gate.begin_step()

    def rejects(self, candidate: Mapping[str, Tally], stable: Mapping[str, Tally], seconds: float) -> bool:
        """Whether it is bad."""
        return self._gate.observe(candidate, stable, seconds).verdict is Verdict.BAD


@dataclass
class Windowed:
    """Fixed limits on the last minute of the candidate.

    Args:
        interval: seconds between checks.
        allowed: failed checks that are still no reason.
        patient: acts at the check after the one that was too many (Flagger), else at once (Argo Rollouts).
        success: share of good answers that passes.
        slowest: ms that 99 of 100 must not exceed; None: times are not looked at.
    """

    interval: int
    allowed: int
    patient: bool
    success: float
    slowest: float | None = None
    _seconds: int = 0
    _failed: int = 0
    _last: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=60))

    def begin_step(self) -> None:
        """It goes on counting."""

    def rejects(self, candidate: Mapping[str, Tally], _stable: Mapping[str, Tally], _seconds: float) -> bool:
        """Whether it sends the release back now."""
        self._seconds += 1
        tallies, limit = candidate.values(), self.slowest
        self._last.append(
            (
                sum(tally.requests for tally in tallies),
                sum(tally.errors for tally in tallies),
                sum(tally.times.above(limit) for tally in tallies) if limit is not None else 0,
            )
        )
        if self._seconds % self.interval:
            return False
        if self.patient and self._failed > self.allowed:
            return True
        self._failed += self._fails()
        return not self.patient and self._failed > self.allowed

    def _fails(self) -> bool:
        requests = sum(one for one, _, _ in self._last)
        errors = sum(one for _, one, _ in self._last)
        slow = sum(one for _, _, one in self._last)
        # the 99th percentile is above the limit where more than one of 100 is
        return errors > (1 - self.success) * requests or slow > 0.01 * requests


PEERS: dict[str, Callable[[], Rule]] = {
    "Flagger, defaults (1 min, threshold 1, success 99 %, p99 500 ms)": lambda: Windowed(
        60, 0, patient=True, success=0.99, slowest=500
    ),
    "Flagger, tutorial (10 s, threshold 10, success 99 %, p99 500 ms)": lambda: Windowed(
        10, 9, patient=True, success=0.99, slowest=500
    ),
    "Flagger, the fastest it allows (10 s, threshold 1, success 99 %, p99 500 ms)": lambda: Windowed(
        10, 0, patient=True, success=0.99, slowest=500
    ),
    "Argo Rollouts (1 min, failureLimit 0, success 99 %)": lambda: Windowed(
        60, 0, patient=False, success=0.99
    ),
    "Argo Rollouts (1 min, failureLimit 0, success 95 %)": lambda: Windowed(
        60, 0, patient=False, success=0.95
    ),
}


@dataclass(frozen=True, slots=True)
class Found:
    """When a release was sent back (infinite: never), and how many bad responses that took."""

    seconds: float
    responses: int


def detect(rule: Rule, release: tuple[Route, ...], seed: str, tick: float = 1.0) -> Found:
    """One rollout of a release at the first share, until the rule has had enough."""
    source = random.Random(seed)
    ours = Crowd(RATE * SHARES[0] * tick, release, source)
    theirs = Crowd(RATE * (1 - SHARES[0]) * tick, SHOP, source)
    rule.begin_step()
    responses = 0
    for number in range(1, round(GIVE_UP / tick) + 1):
        candidate = ours.tick()
        responses += sum(tally.errors for tally in candidate.values())
        if rule.rejects(candidate, theirs.tick(), tick):
            return Found(number * tick, responses)
    return Found(math.inf, responses)


def walk(
    rules: Mapping[str, Rule], rate: float, routes: tuple[Route, ...], seed: str, pause: float
) -> set[str]:
    """One rollout of a release that is like the stable one: who sends it back."""
    source = random.Random(seed)
    rejected: set[str] = set()
    for share in SHARES:
        ours = pausing(Crowd(rate * share, routes, source), pause, servers=1)
        theirs = pausing(Crowd(rate * (1 - share), routes, source), pause, servers=3)
        for rule in rules.values():
            rule.begin_step()
        for _ in range(STEP):
            candidate, stable = next(ours), next(theirs)
            for name, rule in rules.items():
                if name not in rejected and rule.rejects(candidate, stable, 1.0):
                    rejected.add(name)
    return rejected


def bound(errors: float) -> float:
    """Seconds that the test should take on average: what is needed over what a second gives, and the excess.

    Needed is the logarithm of 1 / (alpha x the weight of the best alternative); a second gives that one its
    drift, in the end the Kullback-Leibler divergence; the excess at the boundary is E[X^2] / 2 E[X] of the
    gains X of a second (renewal theory: Lorden, "On excess over the boundary", Ann. Math. Statist. 41, 1970).
    """
    settings = Settings()
    ours, theirs = RATE * SHARES[0], RATE * (1 - SHARES[0])
    weight = Gate(settings).weights[ERRORS] * POOLED * (1 - LATER) / len(TIMES)
    found = []
    for times in TIMES:
        other = math.log((settings.factor * ours + theirs) / (times * settings.factor * ours + theirs))
        own = math.log(times) + other
        drift = ours * errors * own + theirs * USUAL * other
        square = drift**2 + ours * errors * own**2 + theirs * USUAL * other**2
        if drift > 0:
            found.append((math.log(1 / (settings.alpha * weight)) + square / (2 * drift)) / drift)
    return max(1.0, min(found))


def detection_rows(runs: int, errors: float) -> list[Row]:
    """A release with this share of errors: ours, then the peers."""
    release = failing(SHOP, errors)
    name = f"a release that fails {errors:.0%}"
    ours = [detect(Ours(), release, f"{errors}/{n}") for n in range(runs)]
    seconds = tuple(one.seconds for one in ours)
    responses = tuple(float(one.responses) for one in ours)
    mean, theory = statistics.mean(seconds), bound(errors)
    most, most_responses = TARGETS[errors]
    rows = [
        Row(
            f"{name}: seconds",
            "s",
            seconds,
            f"95 of 100 within {percentile(seconds, 0.95):g} s; mean {mean:.2f} s, theory {theory:.2f} s",
            f"half within {most:g} s, mean within {NEAR:.0%} of theory",
            statistics.median(seconds) <= most and abs(mean / theory - 1) <= NEAR,
        ),
        Row(
            f"{name}: bad responses",
            "responses",
            responses,
            f"95 of 100 within {percentile(responses, 0.95):g}",
            f"half within {most_responses:g}",
            statistics.median(responses) <= most_responses,
        ),
    ]
    quick = [detect(Ours(), release, f"quick/{errors}/{n}", 0.25) for n in range(runs)]
    rows.append(
        Row(
            f"{name}, looked at each 0.25 s: bad responses",
            "responses",
            tuple(float(one.responses) for one in quick),
            f"median {statistics.median(one.seconds for one in quick):g} s",
        )
    )
    for peer, build in PEERS.items():
        found = [detect(build(), release, f"{errors}/{n}") for n in range(max(1, runs // 20))]
        middle = statistics.median(one.seconds for one in found)
        rows.append(
            Row(
                f"{name}: bad responses, {peer}",
                "responses",
                tuple(float(one.responses) for one in found),
                f"median {middle:g} s" if math.isfinite(middle) else f"not found within {GIVE_UP} s",
            )
        )
    return rows


def slow_rows(runs: int) -> list[Row]:
    """Releases that are too slow: twice on all routes, three times on one."""
    return [
        Row(
            f"a release that is {what}: seconds",
            "s",
            tuple(detect(Ours(), release, f"{what}/{n}").seconds for n in range(runs)),
        )
        for what, release in (
            ("twice as slow", slower(SHOP, 2)),
            ("3 x as slow on one route of six", slower(SHOP, 3, "GET /search")),
        )
    ]


def good_row(runs: int, rate: float) -> Row:
    """How long a release that is like the stable one waits at the first share until it is called good."""

    def wait(seed: str) -> float:
        source, gate = random.Random(seed), Gate(Settings())
        ours = Crowd(rate * SHARES[0], SHOP, source)
        theirs = Crowd(rate * (1 - SHARES[0]), SHOP, source)
        for second in range(1, GIVE_UP + 1):
            if gate.observe(ours.tick(), theirs.tick(), 1.0).verdict is Verdict.GOOD:
                return second
        return math.inf

    return Row(
        f"a good release at {SHARES[0]:.0%} of {rate:g} requests/s: seconds until it is called good",
        "s",
        tuple(wait(f"good/{rate}/{number}") for number in range(runs)),
    )


def false_rows(runs: int, rate: float, errors: float, pause: float = 0.0) -> list[Row]:
    """Releases that are like the stable one: how many of each 1,000 are sent back."""
    counts = dict.fromkeys(("asbuilt", *PEERS), 0)
    for number in range(runs):
        rules: dict[str, Rule] = {"asbuilt": Ours(), **{name: build() for name, build in PEERS.items()}}
        for name in walk(rules, rate, failing(SHOP, errors), f"{rate}/{errors}/{pause}/{number}", pause):
            counts[name] += 1
    what = f"{rate:g} requests/s, {errors:.1%} errors" + (
        f", each server stands still for {PAUSE:g} s a minute" if pause else ""
    )
    return [
        Row(
            f"good releases sent back, {what}: {name}",
            "%",
            (100 * count / runs,),
            f"{count:,} of {runs:,}",
            f"at most {FALSE:.0%}" if name == "asbuilt" else "",
            count <= FALSE * runs if name == "asbuilt" else None,
        )
        for name, count in counts.items()
    ]


def rows(runs: int = 5) -> list[Row]:
    """Everything; 200 rollouts of each kind for each run."""
    many = 200 * runs
    table: list[Row] = []
    for errors in TARGETS:
        table += detection_rows(many, errors)
        say(f"canary: {errors:.0%} failing: done")
    table += slow_rows(many // 10)
    table += [good_row(many // 10, rate) for rate in (20.0, 100.0)]
    for rate in (20.0, 100.0):
        for errors in (0.002, 0.005):
            table += false_rows(many, rate, errors)
            say(f"canary: {rate:g} requests/s, {errors:.1%}: done")
    table += false_rows(many, 100.0, USUAL, pause=60.0)
    say("canary: servers that pause: done")
    return table


if __name__ == "__main__":
    everything = rows()
    print_rows(everything)
    sys.exit(any(row.met is False for row in everything))
