"""Times in constant memory: a histogram whose buckets grow by a fixed ratio. Pure.

A value is known to within the width of its bucket, 5 % of it; the idea is that of HdrHistogram and of
DDSketch (Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees", VLDB 2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

LEAST: Final = 0.1
"""Milliseconds; what is shorter counts as this."""
MOST: Final = 1_000_000.0
"""Milliseconds; what is longer counts as this."""
_RATIO: Final = 1.05
_LOG: Final = math.log(_RATIO)
BUCKETS: Final = math.ceil(math.log(MOST / LEAST) / _LOG) + 1


def bucket_of(ms: float) -> int:
    """The bucket of a time in ms."""
    return min(max(math.ceil(math.log(max(ms, LEAST) / LEAST) / _LOG), 0), BUCKETS - 1)


def upper(bucket: int) -> float:
    """The largest time of a bucket, in ms."""
    return LEAST * _RATIO**bucket


@dataclass(slots=True)
class Histogram:
    """Counts by bucket; only buckets that hold something take memory, `BUCKETS` (330) at most."""

    counts: dict[int, int] = field(default_factory=dict)

    def add(self, ms: float, count: int = 1) -> None:
        """Count a time in ms."""
        bucket = bucket_of(ms)
        self.counts[bucket] = self.counts.get(bucket, 0) + count

    def merge(self, other: Histogram) -> None:
        """Count everything of another one too."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count

    @property
    def total(self) -> int:
        """How many times were counted."""
        return sum(self.counts.values())

    def quantile(self, part: float) -> float:
        """The time in ms that `part` (0..1) of all do not exceed; 0 where nothing was counted."""
        total, seen = self.total, 0
        for bucket, count in sorted(self.counts.items()):
            seen += count
            if seen >= part * total:
                return round(upper(bucket), 3)
        return 0.0

    def above(self, ms: float) -> int:
        """How many were longer than `ms`, by whole buckets."""
        limit = bucket_of(ms)
        return sum(count for bucket, count in self.counts.items() if bucket > limit)
