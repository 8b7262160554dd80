"""Whether a release that has a share of the users may go on: good, bad, or not yet known. No I/O.

Invariants: a release that is no worse than `Settings` tolerate is called bad with probability `alpha` at
most, over the whole rollout and however often one looks; one that is worse in one respect is called good with
probability `doubt` at most; without traffic nothing is ever called good. Why these hold: `plan/evidence.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from asbuilt.plan.comparison import Comparison, Limit, Praise, Slow, add_up
from asbuilt.plan.evidence import NONE, TIMES, Count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asbuilt.plan.tally import Tally

ERRORS: Final = "errors"
LATENCY: Final = "latency"
_CERTAIN: Final = 1e9
"""Odds are not shown beyond: nobody can imagine them, and the model is not that exact."""
_SLIGHTLY: Final = (1.5, 2.5, 5.0, 15.0)
"""Alternatives where events are nothing rare: a tenth of all requests is slow anyway."""
_MOMENT: Final = 15.0
"""What the times of one second can gain at most: standing still once, for a second or two, proves nothing."""
_SECOND: Final = 0.999


class Verdict(StrEnum):
    """What is known about a release."""

    GOOD = "good"
    BAD = "bad"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Metric:
    """Something counted beside requests, such as orders, compared for each request.

    Args:
        name: as it is reported.
        lower_is_worse: orders; else higher is worse, such as refused payments.
        factor: how many times fewer (or more) still pass.
    """

    name: str
    lower_is_worse: bool = True
    factor: float = 1.25


@dataclass(frozen=True, slots=True)
class Settings:
    """What is tolerated, and how sure a verdict has to be.

    Args:
        alpha: the chance to call a release bad that is not, over the whole rollout, all reasons together.
        doubt: the chance to call a release good that is not, at one step.
        factor: how many times the stable release's odds of an error still pass.
        tolerance: share of errors that is good enough in any case.
        quantile: of the stable release's times on a route: what is slower is slow.
        ratio: how many times as long still passes.
        extra: ms more that still pass.
        slow_factor: how many times the stable release's odds of being slow still pass.
        least: times of the stable release on a route before it is judged.
        warm_up: seconds after a step in which the candidate's times do not count: cold caches are no fault.
        error_limit: share of errors that is bad whatever the stable release does; None: no such limit.
        time_limit: ms that 95 of 100 requests must stay below; None: no such limit.
        metrics: compared as well.
    """

    alpha: float = 0.01
    doubt: float = 0.05
    factor: float = 1.5
    tolerance: float = 0.02
    quantile: float = 0.9
    ratio: float = 1.25
    extra: float = 5.0
    slow_factor: float = 1.0
    least: int = 50
    warm_up: float = 5.0
    error_limit: float | None = None
    time_limit: float | None = None
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict and what it rests on.

    Args:
        verdict: what is known.
        reason: errors, latency, error limit, time limit or a metric's name: what speaks against it the most.
        text: one line for people.
        evidence: the figures, for the record.
    """

    verdict: Verdict
    reason: str
    text: str
    evidence: dict[str, object]


class Gate:
    """Judges one rollout: `observe` once for each tick, `begin_step` whenever the share has changed."""

    def __init__(self, settings: Settings, candidate: str = "candidate", stable: str = "stable") -> None:
        self._settings, self._names = settings, (candidate, stable)
        self._seconds = self._since = self._held = 0.0
        self._slow = Slow(settings.quantile, settings.ratio, settings.extra, settings.least)
        self._comparisons = {
            ERRORS: Comparison(settings.factor, TIMES),
            LATENCY: Comparison(settings.slow_factor, _SLIGHTLY, _MOMENT),
            **{one.name: Comparison(one.factor, _SLIGHTLY, by_route=False) for one in settings.metrics},
        }
        self._limits: dict[str, Limit] = {}
        if settings.error_limit is not None:
            self._limits["error limit"] = Limit(settings.error_limit)
        if settings.time_limit is not None:
            self._limits["time limit"] = Limit(0.05)
        self._praise = {
            ERRORS: Praise(settings.tolerance, settings.factor),
            LATENCY: Praise(2 * (1 - settings.quantile), 2 * settings.slow_factor),
        }
        self.weights = _build_weights(settings)
        """Of each reason, how much of `alpha` it may use."""
        self._verdict: Finding | None = None

    def begin_step(self) -> None:
        """The share of the traffic has changed: what was good at less of it is to be shown again."""
        self._since = 0.0
        for comparison in self._comparisons.values():
            comparison.part()
        for praise in self._praise.values():
            praise.again()

    def observe(
        self,
        candidate: Mapping[str, Tally],
        stable: Mapping[str, Tally],
        seconds: float,
        counters: Mapping[str, tuple[int, int]] | None = None,
    ) -> Finding:
        """One tick more. Once bad it stays bad, for the reason that was found first.

        Args:
            candidate: by route, what came of the candidate in this tick.
            stable: the same of the stable release.
            seconds: how long the tick was.
            counters: by name of a metric, how often it happened: candidate, stable release.
        """
        if self._verdict is not None:
            return self._verdict
        warm = self._since >= self._settings.warm_up
        self._seconds += seconds
        self._since += seconds
        failed = {
            route: (_errors(candidate.get(route)), _errors(stable.get(route)))
            for route in sorted({*candidate, *stable})
        }
        slow = self._slow.count(candidate if warm else {}, stable)
        self._held += seconds
        self._comparisons[ERRORS].see(failed)
        self._comparisons[LATENCY].see(slow, wait=self._held < _SECOND)
        self._held = 0.0 if self._held >= _SECOND else self._held
        self._praise[ERRORS].see(*add_up(failed))
        self._praise[LATENCY].see(*add_up(slow))
        ours, theirs = add_up(failed)
        for metric in self._settings.metrics:
            a, b = (counters or {}).get(metric.name, (0, 0))
            pair = (Count(ours.requests, a), Count(theirs.requests, b))
            self._comparisons[metric.name].see({"": pair[::-1] if metric.lower_is_worse else pair})
        self._limit(candidate if warm else {}, ours)
        self._slow.learn(stable)
        return self._conclude()

    def _limit(self, candidate: Mapping[str, Tally], errors: Count) -> None:
        if (limit := self._limits.get("error limit")) is not None:
            limit.see(errors)
        if (limit := self._limits.get("time limit")) is not None and self._settings.time_limit is not None:
            for tally in candidate.values():
                limit.see(Count(tally.times.total, tally.times.above(self._settings.time_limit)))

    def _conclude(self) -> Finding:
        bad = {
            **{name: one.value for name, one in self._comparisons.items()},
            **{name: one.wealth.value for name, one in self._limits.items()},
        }
        good = {name: praise.wealth.value for name, praise in self._praise.items()}
        together = sum(self.weights[name] * value for name, value in bad.items())
        verdict = Verdict.UNDECIDED
        if together >= 1 / self._settings.alpha:
            verdict = Verdict.BAD
        elif all(value >= 1 / self._settings.doubt for value in good.values()):
            verdict = Verdict.GOOD
        reason = max(bad, key=lambda name: self.weights[name] * bad[name])
        evidence: dict[str, object] = {
            "verdict": str(verdict),
            "reason": reason,
            "seconds": round(self._seconds, 3),
            "needed": {"bad": 1 / self._settings.alpha, "good": 1 / self._settings.doubt},
            "bad": {name: _rounded(value) for name, value in bad.items()},
            "together": _rounded(together),
            "good": {name: _rounded(value) for name, value in good.items()},
        }
        if verdict is not Verdict.BAD:
            return Finding(verdict, reason, self._explain_praise(verdict), evidence)
        self._verdict = Finding(verdict, reason, self._explain(reason, evidence), evidence)
        return self._verdict

    def _explain(self, reason: str, evidence: dict[str, object]) -> str:
        ours, theirs = self._names
        settings = self._settings
        if (limit := self._limits.get(reason)) is not None:
            evidence["candidate"] = limit.count._asdict()
            did = "failed" if reason == "error limit" else f"took longer than {settings.time_limit:g} ms"
            return (
                f"{reason}: {limit.count.events:,} of {limit.count.requests:,} requests of {ours} {did}: "
                f"{_shown(limit.wealth.value)} to 1 that more than {100 * limit.share:g} % do"
            )
        route, odds = self._comparisons[reason].strongest()
        swapped = any(one.name == reason and one.lower_is_worse for one in settings.metrics)
        candidate, stable = (odds.stable, odds.candidate) if swapped else (odds.candidate, odds.stable)
        evidence |= {"route": route, "candidate": candidate._asdict(), "stable": stable._asdict()}
        where = f" on {route}" if route else ""
        less = "less than 1 /" if swapped else "more than"
        said = {
            ERRORS: f"more than {odds.factor:g} x as bad",
            LATENCY: f"slower by more than {settings.ratio:g} x and {settings.extra:g} ms",
        }.get(reason, f"{less} {odds.factor:g} x as often")
        return (
            f"{reason}{where}: {candidate.events:,} of {candidate.requests:,} requests of {ours} against "
            f"{stable.events:,} of {stable.requests:,} of {theirs}: "
            f"{_shown(odds.value)} to 1 that {ours} is {said}"
        )

    def _explain_praise(self, verdict: Verdict) -> str:
        ours, _ = self._names
        said = [
            f"{_shown(praise.wealth.value)} to 1 that less than {100 * praise.limit:.2g} % are {word}"
            for praise, word in ((self._praise[ERRORS], "errors"), (self._praise[LATENCY], "slow"))
        ]
        count = self._comparisons[ERRORS].pooled.candidate
        start = f"{verdict}: {count.events:,} errors in {count.requests:,} requests of {ours}"
        return f"{start}; {', '.join(said)}"


def _build_weights(settings: Settings) -> dict[str, float]:
    """How the allowed false alarms are shared out among the reasons."""
    parts = {ERRORS: 4.0, LATENCY: 3.0, **{one.name: 1.0 for one in settings.metrics}}
    if settings.error_limit is not None:
        parts["error limit"] = 1.0
    if settings.time_limit is not None:
        parts["time limit"] = 1.0
    return {name: part / sum(parts.values()) for name, part in parts.items()}


def _errors(tally: Tally | None) -> Count:
    return Count(tally.requests, tally.errors) if tally else NONE


def _rounded(value: float) -> float:
    """For the record: not more exact than it is."""
    return float(f"{min(value, _CERTAIN):.4g}")


def _shown(value: float) -> str:
    odds = min(value, _CERTAIN)
    return f"{float(f'{odds:.2g}'):,.0f}" if odds >= 1 else f"{odds:.2g}"
