"""Timelines: each time a replica is promoted or a restore ends, the log goes on under a new number. Pure.

A timeline's history file says where it and each of its ancestors left the one before. A restore follows it:
what an ancestor wrote after it was left is not on the way, and is reached only by naming that ancestor.

What PostgreSQL does, and this follows (`timeline.c`, `xlog.c`, `xlogrecovery.c` of version 16):

- The first segment of a new timeline begins with a copy of what the old one had of it, up to the fork. So a
  fork in the middle of a segment needs one file, the newer one; PostgreSQL asks for that first.
- The fork of a restore is written below the timeline that was asked for, even when it stopped before that
  one began. So the positions in a history need not grow: a timeline lasts until the earliest later fork, and
  one that would end before it began is not on the way at all.
- Without a history file a timeline has no ancestors.

Invariant, property-tested: a path has no hole and no overlap, and ends open.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from asbuilt.plan.wal import ORIGIN, Lsn, first_number
from asbuilt.values.errors import AsbuiltError

FIRST: Final = 1
"""The timeline of a new database."""
_LINE: Final = re.compile(r"\s*(\d{1,10})\s+([0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})(?:\s.*)?")


@dataclass(frozen=True, slots=True)
class Fork:
    """Where an ancestor was left: the next timeline of the history begins at `at`."""

    timeline: int
    at: Lsn


@dataclass(frozen=True, slots=True)
class Leg:
    """The part of a path that one timeline wrote.

    Args:
        timeline: which one.
        start: the position of its first own byte.
        end: the position after its last one; None for the timeline that the path leads to.
    """

    timeline: int
    start: Lsn
    end: Lsn | None

    def has(self, position: Lsn) -> bool:
        """Whether what ends at this position was written by then on this leg."""
        return self.start <= position and (self.end is None or position <= self.end)


@dataclass(frozen=True, slots=True)
class Path:
    """What a restore to a timeline goes through.

    Args:
        legs: oldest first, from the origin without a hole; the last is that of the timeline itself, and open.
    """

    legs: tuple[Leg, ...]

    @property
    def timeline(self) -> int:
        """Where it leads to."""
        return self.legs[-1].timeline

    def has(self, timeline: int, position: Lsn) -> bool:
        """Whether it goes through this position of a timeline."""
        index = bisect_left(self.legs, timeline, key=_by_timeline)
        return (
            index < len(self.legs)
            and self.legs[index].timeline == timeline
            and self.legs[index].has(position)
        )

    def find_files(self, number: int, size: int) -> tuple[Leg, ...]:
        """The legs whose files of this number begin as the log on this path does, in PostgreSQL's order.

        More than one where there is a fork in the segment. Only what an older one has before its end counts.
        """
        newest = bisect_right(self.legs, number, key=lambda leg: first_number(leg.start, size)) - 1
        found = [self.legs[newest]]
        for leg in reversed(self.legs[:newest]):
            if leg.end is not None and leg.end <= number * size:
                break
            found.append(leg)
        return tuple(found)

    def find_parting(self, other: Path) -> Lsn:
        """The position up to which both are the same."""
        at = ORIGIN
        for mine, theirs in zip(self.legs, other.legs, strict=False):
            ends = [leg.end for leg in (mine, theirs) if leg.end is not None]
            if mine.timeline != theirs.timeline or not ends:
                break
            at = min(ends)
            if mine.end != theirs.end:
                break
        return at


def _by_timeline(leg: Leg) -> int:
    return leg.timeline


def parse_history(text: str, timeline: int) -> tuple[Fork, ...]:
    """The ancestors of `timeline`, oldest first, from its history file.

    Raises:
        AsbuiltError: RESTORE-011, it is damaged: PostgreSQL would refuse it too, or take it for another one.
    """
    forks: list[Fork] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise _damaged(timeline, f"line {number} is not a timeline and a position")
        parent = int(match[1])
        if not (forks[-1].timeline if forks else 0) < parent < timeline:
            raise _damaged(timeline, f"line {number} names timeline {parent} out of order")
        at = Lsn.parse(match[2])
        if at == ORIGIN:
            raise _damaged(timeline, f"line {number} has no position")
        forks.append(Fork(parent, at))
    if not forks:
        raise _damaged(timeline, "it names no ancestor")
    return tuple(forks)


def render_history(forks: tuple[Fork, ...]) -> str:
    """The text of a history file, for one that was lost and is known from a later one."""
    return "".join(f"{fork.timeline}\t{fork.at}\tknown from a later history\n" for fork in forks)


def _damaged(timeline: int, why: str) -> AsbuiltError:
    return AsbuiltError(
        "RESTORE-011",
        f"the history of timeline {timeline} is damaged: {why}",
        where=f"{timeline:08X}.history",
        hint="every server that has followed this timeline has the same file in its pg_wal",
    )


@dataclass(frozen=True, slots=True)
class Timelines:
    """Every history that is known. A lost one is taken from any later timeline that came through it.

    Args:
        histories: ancestors, oldest first, by timeline. The first timeline needs none.
    """

    histories: Mapping[int, tuple[Fork, ...]]

    @property
    def known(self) -> tuple[int, ...]:
        """Every timeline that has a history or is named in one, ascending."""
        named = {fork.timeline for forks in self.histories.values() for fork in forks}
        return tuple(sorted(named | self.histories.keys()))

    def find_history(self, timeline: int) -> tuple[Fork, ...] | None:
        """Its ancestors, oldest first; empty for the first timeline, None where they are not known."""
        own = self.histories.get(timeline)
        if own is not None or timeline == FIRST:
            return own or ()
        for later in sorted(self.histories):
            forks = self.histories[later]
            for index, fork in enumerate(forks):
                if fork.timeline == timeline:
                    return forks[:index]
        return None

    def path(self, timeline: int) -> Path:
        """What a restore to this timeline goes through."""
        forks = self.find_history(timeline) or ()
        limit = forks[-1].at if forks else ORIGIN
        legs = [Leg(timeline, limit, None)]
        for index in reversed(range(len(forks))):
            start = forks[index - 1].at if index else ORIGIN
            if start < limit:
                legs.append(Leg(forks[index].timeline, start, limit))
                limit = start
        return Path(tuple(reversed(legs)))
