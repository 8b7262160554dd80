"""What numbered writes and samples tell of a fault: what was lost, for how long, in which legs. Pure.

All moments are of one monotonic clock, in seconds. Invariant: only what was acknowledged can be lost, and a
write that was never acknowledged is neither lost nor doubled by being there.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Samples = Mapping[str, Sequence[tuple[float, float]]]
    Denials = Mapping[str, Sequence[float]]

BEFORE: Final = 1.0
"""Seconds before the fault from which a gap counts: the last good write is before it."""
GRACE: Final = 0.2
"""Seconds after the fault in which an answer that was on its way may still arrive."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What became of the acknowledged writes.

    Args:
        acknowledged: how many there were.
        lost: numbers that are gone.
        outside: those of them that the mode of the store does not allow to be lost.
        doubled: numbers that are there more than once.
        seconds: how long before the fault the oldest lost write was acknowledged: the measured RPO.
    """

    acknowledged: int
    lost: tuple[int, ...]
    outside: tuple[int, ...]
    doubled: tuple[int, ...]
    seconds: float


def count_losses(
    acknowledged: Iterable[tuple[float, int]], stored: Iterable[int], moment: float, bound: float = 0.0
) -> Losses:
    """Compare what was acknowledged with what is there.

    Args:
        acknowledged: when, and which number.
        stored: every number that is there, as often as it is.
        moment: of the fault.
        bound: seconds before the fault whose writes may be lost; 0 where none may.
    """
    wanted = {number: at for at, number in acknowledged}
    counted = Counter(stored)
    lost = sorted(number for number in wanted if number not in counted)
    outside = [n for n in lost if not bound or not moment - bound <= wanted[n] <= moment + GRACE]
    doubled = sorted(number for number, times in counted.items() if times > 1)
    seconds = max((moment - wanted[n] for n in lost), default=0.0)
    return Losses(len(wanted), tuple(lost), tuple(outside), tuple(doubled), max(0.0, seconds))


@dataclass(frozen=True, slots=True)
class Gap:
    """The longest time without anything good. `closed`: something good came after it."""

    begin: float
    end: float
    closed: bool

    @property
    def seconds(self) -> float:
        """How long."""
        return self.end - self.begin


def find_gap(good: Iterable[float], moment: float, now: float) -> Gap | None:
    """The longest gap from just before `moment` to `now`; None where nothing good was seen before it."""
    times = sorted(at for at in good if at > moment - BEFORE)
    if not times:
        return None
    gaps = [Gap(a, b, closed=True) for a, b in pairwise(times)]
    gaps.append(Gap(times[-1], max(now, times[-1]), closed=False))
    return max(gaps, key=lambda gap: gap.seconds)


def measure_rto(good: Iterable[float], moment: float, now: float) -> float | None:
    """Seconds that nothing good came; None when it did not come back."""
    gap = find_gap(good, moment, now)
    return gap.seconds if gap is not None and gap.closed else None


def find_overlaps(writable: Samples, denied: Denials | None = None) -> list[str]:
    """Nodes whose writable samples interleave.

    A sample says that a node was writable at some moment between the question and the answer. A node that was
    seen writable before and after another one was, and was never seen not to be between them, did not stop
    in between as far as anybody could see.

    Args:
        writable: when each node was asked and answered that it takes writes.
        denied: when each was asked and did not say so.
    """
    return sorted({f"{a} and {b}" for a, b, _ in _overlaps(writable, denied or {})})


def count_overlaps(writable: Samples, denied: Denials | None = None) -> int:
    """Samples of a node that was writable while another one was."""
    return len({(b, at) for _, b, at in _overlaps(writable, denied or {})})


def _overlaps(writable: Samples, denied: Denials) -> list[tuple[str, str, float]]:
    return [
        (name, other, asked)
        for name in sorted(writable)
        for first, last in _spans(writable[name], sorted(denied.get(name, ())))
        for other in sorted(writable)
        if other != name
        for asked, answered in writable[other]
        if first < asked and last > answered
    ]


def _spans(samples: Sequence[tuple[float, float]], denied: Sequence[float]) -> list[tuple[float, float]]:
    """From when to when a node took writes for certain, for each series that no denial breaks."""
    found = []
    for _, series in groupby(sorted(samples), key=lambda sample: bisect(denied, sample[0])):
        one = list(series)
        found.append((min(end for _, end in one), max(begin for begin, _ in one)))
    return found


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of one failover.

    Args:
        moment: of the fault.
        primary: the node that led before.
        broken: when the session that was open on it broke; None when it did not.
        refused: when writes failed.
        connected: when somebody got through the route anew.
        acknowledged: when writes were acknowledged.
        writable: samples of each node that took writes.
        whole: when redundancy was back; None when it was not.
    """

    moment: float
    primary: str
    broken: float | None
    refused: tuple[float, ...]
    connected: tuple[float, ...]
    acknowledged: tuple[float, ...]
    writable: Samples
    whole: float | None


def find_legs(sight: Sight, now: float) -> dict[str, float]:
    """Seconds from the fault to each leg that could be seen, in the order in which they come."""
    moment = sight.moment
    failures = [at for at in (*sight.refused, *((sight.broken,) if sight.broken else ())) if at > moment]
    own = [answered for _, answered in sight.writable.get(sight.primary, ()) if answered > moment]
    others = [
        asked
        for node, samples in sight.writable.items()
        if node != sight.primary
        for asked, _ in samples
        if asked > moment
    ]
    legs: dict[str, float | None] = {
        "detect": min(failures, default=None),
        "promote": min(others, default=None),
    }
    if others:
        before = [at for at in own if at < min(others)]
        legs["fence"] = max(before, default=moment)
        legs["route"] = min((at for at in sight.connected if at > min(others) - GRACE), default=None)
    gap = find_gap(sight.acknowledged, moment, now)
    if gap is not None and gap.closed:
        legs["first write"] = gap.end
        for name in ("promote", "route"):  # a sample comes later than what it shows
            at = legs.get(name)
            legs[name] = None if at is None else min(at, gap.end)
    if legs["promote"] is not None and legs.get("route") is not None:
        legs["route"] = max(legs["promote"], legs["route"] or 0.0)
    legs["full redundancy"] = sight.whole
    order = ("detect", "fence", "promote", "route", "first write", "full redundancy")
    found = {name: legs.get(name) for name in order}
    return {name: round(max(0.0, at - moment), 3) for name, at in found.items() if at is not None}
