"""What a drill proved: one pure function, so that no drill can pass by its own words.

Invariants: nothing passes whose fault was not seen to be on; harm (a lost or doubled write, two primaries) is
never hidden behind another word; making anything worse never turns another verdict into `passed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

RATE: Final = 50.0
"""Acknowledged writes a second that a fault must meet, or it proves little."""


class Verdict(StrEnum):
    """How a drill ended."""

    PASSED = "passed"
    FAILED = "failed"
    ABORTED = "aborted"
    INCONCLUSIVE = "inconclusive"


_WORST: Final = (Verdict.FAILED, Verdict.ABORTED, Verdict.INCONCLUSIVE, Verdict.PASSED)


@dataclass(frozen=True, slots=True)
class Promise:
    """What is promised for a kind of failure.

    Args:
        procedure: the recovery procedure, in words.
        rto: seconds until users are served again.
        rpo: seconds of acknowledged writes that may be lost; None where nothing is written.
    """

    procedure: str
    rto: float
    rpo: float | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold, whether it did, and what was seen."""

    name: str
    good: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of one round.

    Args:
        fault_on: there is evidence that the fault was on.
        rto: the longest time without service; None when service did not come back.
        rpo: seconds of acknowledged writes that were lost; None where nothing was written or it is unknown.
        lost: acknowledged writes that are gone and had to stay.
        doubled: writes that are there more than once.
        two_primaries: moments at which two nodes took writes.
        rate: acknowledged writes a second before the fault; None where nothing is written.
        counted: what is stored could be compared with what was acknowledged.
        removed: the fault is off again.
        whole: redundancy is back.
        left: what the drill left behind.
        checks: what else had to hold.
        aborted: why it was stopped; empty when it was not.
    """

    fault_on: bool
    rto: float | None
    rpo: float | None = None
    lost: int = 0
    doubled: int = 0
    two_primaries: int = 0
    rate: float | None = None
    counted: bool = True
    removed: bool = True
    whole: bool = True
    left: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    aborted: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict, and why. A passed drill has no reasons."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()


def decide(promise: Promise, observed: Observed) -> Decision:
    """The verdict on one round."""
    harm = _find_harm(promise, observed)
    if harm:
        return Decision(Verdict.FAILED, (*harm, *_told(observed)))
    if observed.aborted:
        return Decision(Verdict.ABORTED, (observed.aborted, *_find_remains(observed)))
    doubts = _find_doubts(observed)
    if doubts:
        return Decision(Verdict.INCONCLUSIVE, doubts)
    broken = (*_find_broken(promise, observed), *_find_remains(observed))
    return Decision(Verdict.FAILED, broken) if broken else Decision(Verdict.PASSED)


def combine(decisions: Iterable[Decision]) -> Decision:
    """The verdict on all rounds: that of the worst, with every reason once. No round proves nothing."""
    found = tuple(decisions)
    if not found:
        return Decision(Verdict.INCONCLUSIVE, ("nothing was tried",))
    worst = min((one.verdict for one in found), key=_WORST.index)
    reasons = dict.fromkeys(reason for one in found for reason in one.reasons)
    return Decision(worst, tuple(reasons))


def _find_harm(promise: Promise, seen: Observed) -> tuple[str, ...]:
    said = []
    if seen.lost > 0:
        said.append(f"{seen.lost} acknowledged writes lost")
    if seen.rpo is not None and promise.rpo is not None and seen.rpo > promise.rpo:
        said.append(f"writes of {seen.rpo:.2f} s lost, promised at most {promise.rpo:g} s")
    if seen.doubled > 0:
        said.append(f"{seen.doubled} writes are there twice")
    if seen.two_primaries > 0:
        said.append(f"two writable primaries at {seen.two_primaries} moments")
    return tuple(said)


def _find_doubts(seen: Observed) -> tuple[str, ...]:
    said = []
    if not seen.fault_on:
        said.append("nothing shows that the fault was on")
        said += _find_bad_checks(seen)  # they tell why it was not
    if seen.rate is not None and seen.rate < RATE:
        said.append(f"only {seen.rate:.0f} writes a second before the fault, at least {RATE:g} are needed")
    return tuple(said)


def _find_broken(promise: Promise, seen: Observed) -> tuple[str, ...]:
    said = []
    if seen.rto is None:
        said.append("it did not come back")
    elif seen.rto > promise.rto:
        said.append(f"it took {seen.rto:.1f} s, promised at most {promise.rto:g} s")
    if not seen.counted:
        said.append("what is stored could not be compared with what was acknowledged")
    if not seen.whole:
        said.append("redundancy did not come back")
    return (*said, *_find_bad_checks(seen))


def _find_bad_checks(seen: Observed) -> tuple[str, ...]:
    return tuple(f"{one.name}: {one.detail or 'no'}" for one in seen.checks if not one.good)


def _find_remains(seen: Observed) -> tuple[str, ...]:
    said = [] if seen.removed else ["the fault could not be removed: asbuilt drill recover tries again"]
    return (*said, *(f"left behind: {one}" for one in seen.left))


def _told(seen: Observed) -> tuple[str, ...]:
    return (seen.aborted,) if seen.aborted else ()
