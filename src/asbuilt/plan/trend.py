"""Where the load is, where it goes, and how far it was from that: a smoothed level, its slope, its surprises.

Pure. Level and slope are Holt's double exponential smoothing (C. C. Holt, 1957), with weights that follow the
time between samples. Invariants: only the slope may be negative; a larger value never makes level, slope,
forecast or surprise smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

LEVEL_OVER: Final = 15.0
"""Seconds over which the level is smoothed: a few samples, so that it follows what lasts longer than them."""
SLOPE_OVER: Final = 120.0
"""Seconds over which the slope is smoothed."""
SPREAD_OVER: Final = 1800.0
"""Seconds over which the spread is averaged."""
OUTLIER: Final = 3.0
"""An error counts for at most so many times the spread: one crowd is a surprise, no habit."""
FIRST_SPREAD: Final = 0.1
"""Spread as part of the level, until it is seen."""
FORGET_OVER: Final = 900.0
"""Seconds in which a surprise fades to 37 %: who came in a crowd may come back."""
GAP: Final = 30.0
"""Seconds without a sample after which nothing is known about what was between."""


@dataclass(frozen=True, slots=True)
class Trend:
    """The load so far, in any unit.

    Args:
        at: when the last value came.
        level: the smoothed value.
        slope: its change each second.
        spread: usual distance of a value above the level of one lead time before, as a standard deviation.
        surprise: largest such distance, fading.
        past: level by time, oldest first, without a gap.
    """

    at: float
    level: float
    slope: float = 0.0
    spread: float = 0.0
    surprise: float = 0.0
    past: tuple[tuple[float, float], ...] = ()

    def forecast(self, lead: float) -> float:
        """The level after `lead` seconds: only growth counts."""
        return self.level + max(0.0, self.slope) * lead

    def covers(self) -> float:
        """Seconds without a gap until now."""
        return self.at - self.past[0][0] if self.past else 0.0


def begin(at: float, value: float) -> Trend:
    """The first value."""
    return Trend(at, value, spread=FIRST_SPREAD * value, past=((at, value),))


def follow(trend: Trend, at: float, value: float, lead: float, keep: float) -> Trend:
    """The trend with one value more; `lead`: seconds that help needs to come, `keep`: seconds to remember."""
    seconds = at - trend.at
    if seconds <= 0:
        return trend
    expected = trend.level + trend.slope * seconds
    level = max(0.0, expected + _weight(seconds, LEVEL_OVER) * (value - expected))
    change = (level - trend.level) / seconds
    slope = trend.slope + _weight(seconds, SLOPE_OVER) * (change - trend.slope)
    before = [old for when, old in trend.past if when <= at - lead]
    start = before[-1] if before else trend.past[0][1] if trend.past else trend.level
    error = max(value - start, 0.0)
    surprise = max(error, trend.surprise * math.exp(-seconds / FORGET_OVER))
    # what is below the level is left out, and taken to be as far from it as what is above
    counted = 2 * min(error, OUTLIER * max(trend.spread, FIRST_SPREAD * level)) ** 2
    spread = math.sqrt(trend.spread**2 + _weight(seconds, SPREAD_OVER) * (counted - trend.spread**2))
    past = trend.past if seconds <= GAP else ()
    past = tuple(one for one in past if one[0] >= at - keep)
    return Trend(at, level, slope, spread, surprise, (*past, (at, level)))


def _weight(seconds: float, over: float) -> float:
    return 1 - math.exp(-seconds / over)
