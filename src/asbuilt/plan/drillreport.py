"""What a drill found, as a value: its rounds, their figures together, and the table of recoveries. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from asbuilt.plan.verdict import Check, Decision, Observed, Promise, Verdict, combine, decide

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Round:
    """One time that the fault was injected.

    Args:
        observed: what was seen.
        decision: the verdict on it.
        legs: seconds from the fault to each leg.
        evidence: what shows that the fault was on, and what users saw.
        figures: numbers that are worth to be kept, like requests and writes.
        began: UTC.
        seconds: how long the round took.
    """

    observed: Observed
    decision: Decision
    legs: Mapping[str, float]
    evidence: tuple[str, ...]
    figures: Mapping[str, float]
    began: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """One drill, however often it was repeated.

    Args:
        id: its name; names sort by time.
        drill: which.
        variant: in which way; empty where there is only one.
        title: in words.
        system: name of the system.
        environment: where.
        owner: who asked for it.
        began: UTC.
        ended: UTC.
        promise: what is promised.
        blast: nodes that were meant to be hurt.
        preflight: what was found before it.
        not_tested: what this drill does not show.
        rounds: each time.
    """

    id: str
    drill: str
    variant: str
    title: str
    system: str
    environment: str
    owner: str
    began: str
    ended: str
    promise: Promise
    blast: tuple[str, ...]
    preflight: Mapping[str, Any]
    not_tested: tuple[str, ...]
    rounds: tuple[Round, ...] = field(default=())

    @property
    def decision(self) -> Decision:
        """The verdict on all rounds."""
        return combine(one.decision for one in self.rounds)


def make_round(
    promise: Promise,
    observed: Observed,
    *,
    legs: Mapping[str, float],
    evidence: Sequence[str],
    figures: Mapping[str, float],
    began: str,
    seconds: float,
) -> Round:
    """A round with its verdict."""
    return Round(
        observed, decide(promise, observed), dict(legs), tuple(evidence), dict(figures), began, seconds
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summarize(values: Sequence[float]) -> dict[str, float]:
    """Middle, 95th percentile and worst."""
    return {
        "p50": round(percentile(values, 0.5), 3),
        "p95": round(percentile(values, 0.95), 3),
        "max": round(max(values), 3),
    }


def find_figures(report: Report) -> dict[str, dict[str, float]]:
    """RTO, RPO and each leg over all rounds that have it, in the order in which they come."""
    columns: dict[str, list[float]] = {}
    for one in report.rounds:
        for name, value in (("RTO", one.observed.rto), ("RPO", one.observed.rpo), *one.legs.items()):
            if value is not None:
                columns.setdefault(name, []).append(value)
    return {name: {**summarize(values), "rounds": len(values)} for name, values in columns.items()}


def to_json(report: Report) -> dict[str, Any]:
    """As JSON values."""
    decision, figures = report.decision, find_figures(report)
    return {
        "schema": SCHEMA,
        "id": report.id,
        "drill": report.drill,
        "variant": report.variant or None,
        "title": report.title,
        "name": report.system,
        "environment": report.environment,
        "owner": report.owner,
        "began": report.began,
        "ended": report.ended,
        "verdict": str(decision.verdict),
        "reasons": list(decision.reasons),
        "promised": asdict(report.promise),
        "measured": {
            "rto": figures.get("RTO"),
            "rpo": figures.get("RPO"),
            "lost": sum(one.observed.lost for one in report.rounds),
            "doubled": sum(one.observed.doubled for one in report.rounds),
            "two_primaries": sum(one.observed.two_primaries for one in report.rounds),
        },
        "legs": {name: value for name, value in figures.items() if name not in {"RTO", "RPO"}},
        "blast": list(report.blast),
        "preflight": dict(report.preflight),
        "not_tested": list(report.not_tested),
        "rounds": [_round_to_json(one) for one in report.rounds],
    }


def _round_to_json(one: Round) -> dict[str, Any]:
    return {
        "verdict": str(one.decision.verdict),
        "reasons": list(one.decision.reasons),
        "began": one.began,
        "seconds": one.seconds,
        "observed": asdict(one.observed),
        "legs": dict(one.legs),
        "figures": dict(one.figures),
        "evidence": list(one.evidence),
    }


def from_json(raw: Mapping[str, Any]) -> Report:
    """What `to_json` made. The verdicts are worked out again from what was seen."""
    promise = Promise(**raw["promised"])
    rounds = []
    for one in raw["rounds"]:
        seen = dict(one["observed"])
        checks = tuple(Check(**check) for check in seen.pop("checks"))
        left = tuple(seen.pop("left"))
        observed = Observed(**seen, checks=checks, left=left)
        rounds.append(
            make_round(
                promise,
                observed,
                legs=one["legs"],
                evidence=one["evidence"],
                figures=one["figures"],
                began=str(one["began"]),
                seconds=float(one["seconds"]),
            )
        )
    return Report(
        str(raw["id"]),
        str(raw["drill"]),
        str(raw["variant"] or ""),
        str(raw["title"]),
        str(raw["name"]),
        str(raw["environment"]),
        str(raw["owner"]),
        str(raw["began"]),
        str(raw["ended"]),
        promise,
        tuple(raw["blast"]),
        dict(raw["preflight"]),
        tuple(raw["not_tested"]),
        tuple(rounds),
    )


def is_proof(report: Report) -> bool:
    """Whether it says something about the promise."""
    return report.decision.verdict in {Verdict.PASSED, Verdict.FAILED}
