"""A database that writes, fails over, is restored and archived: every byte has an owner, every commit a time.

The archive is judged by what is known here for sure. The rule of who owns a byte on a timeline is that of
PostgreSQL (`tliOfPointInHistory`), taken byte by byte from the histories.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hypothesis import strategies as st

from asbuilt.plan.archive import Archive, Watermark, build_archive
from asbuilt.plan.basebackup import BaseBackup, Verification
from asbuilt.plan.stored import SegmentName, Stored, parse_key, render_piece_key, render_segment_key
from asbuilt.plan.timelines import Fork, Timelines
from asbuilt.plan.wal import Lsn, Segment

SIZE = 16
"""Bytes of a segment: small, so that bytes can be counted."""
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)


class Commit(NamedTuple):
    """A record of the log: where it is, who wrote it, and when."""

    timeline: int
    start: int
    end: int
    at: datetime
    xid: int


@dataclass
class World:
    """The database, and what is archived of it. Every method is one thing that happens."""

    clock: datetime = BEGIN
    timeline: int = 1
    end: int = SIZE
    shipped: int = SIZE
    ends: dict[int, int] = field(default_factory=lambda: {1: SIZE})
    histories: dict[int, tuple[Fork, ...]] = field(default_factory=dict)
    commits: list[Commit] = field(default_factory=list)
    stored: dict[str, Stored] = field(default_factory=dict)
    backups: list[BaseBackup] = field(default_factory=list)
    watermark: Watermark | None = None

    def wait(self, seconds: float) -> None:
        self.clock += timedelta(seconds=seconds)

    def write(self, count: int) -> None:
        """A commit."""
        self.wait(1)
        xid = 100 + len(self.commits)
        self.commits.append(Commit(self.timeline, self.end, self.end + count, self.clock, xid))
        self.end += count
        self.ends[self.timeline] = self.end

    def ship(self) -> None:
        """Everything is archived: whole segments, and a piece of the last."""
        self.wait(1)
        while self.shipped < self.end:
            segment = Segment.at(self.timeline, Lsn(self.shipped), SIZE)
            upto = min(int(segment.end), self.end)
            if upto == segment.end:
                self.keep(render_segment_key(segment))
            else:
                self.keep(render_piece_key(segment, self.shipped - segment.start, upto - segment.start))
            self.shipped = upto

    def keep(self, key: str) -> None:
        self.stored[key] = Stored(key, 100, None, self.clock)

    def mark(self) -> None:
        """The archiver looks how far the database is, and has all of it."""
        self.wait(1)
        at = self.clock
        self.ship()
        self.watermark = Watermark(self.timeline, Lsn(self.end), at)

    def back_up(self, count: int, *, busy: bool = False) -> None:
        """A base backup. `busy`: somebody commits between its ends and the moments that are noted of them."""
        self.wait(1)
        began = self.clock
        if busy:
            self.write(1)
        start = self.end
        self.write(count)
        stop, xid = self.end, 100 + len(self.commits)
        if busy:
            self.write(1)
        self.wait(1)
        name = began.strftime("%Y%m%dT%H%M%SZ")
        self.backups.append(
            BaseBackup(
                name,
                f"label-{len(self.backups)}",
                self.timeline,
                Lsn(start),
                Lsn(stop),
                began,
                self.clock,
                1,
                1,
                "",
                "16.14",
                "7",
                "m",
                next_xid=xid,
            )
        )

    def judge(self, index: int, *, good: bool) -> None:
        """A backup was tried."""
        if self.backups:
            index %= len(self.backups)
            tried = Verification(self.clock, good, 1.0, "tried")
            self.backups[index] = replace(self.backups[index], verified=tried)

    def lose(self, index: int) -> None:
        """A stored object is gone."""
        if self.stored:
            del self.stored[sorted(self.stored)[index % len(self.stored)]]

    def fork(self, parent: int, at: int) -> None:
        """A promotion, or the end of a restore: the log goes on under a new number."""
        self.wait(1)
        new = max(self.ends) + 1
        self.histories[new] = (*self.histories.get(parent, ()), Fork(parent, Lsn(at)))
        self.timeline, self.end, self.ends[new] = new, at, at
        self.shipped = at // SIZE * SIZE

    def fail_over(self, lost: int) -> None:
        """The last bytes of the primary had not reached the replica."""
        self.fork(self.timeline, max(self.end - lost, SIZE))

    def restore(self, parent: int, at: int) -> None:
        """Back to somewhere on the way to any timeline."""
        known = sorted(self.ends)
        chosen = known[parent % len(known)]
        self.fork(chosen, SIZE + at % (self.ends[chosen] - SIZE + 1))

    @property
    def timelines(self) -> Timelines:
        return Timelines(dict(self.histories))

    def archive(self) -> Archive:
        return build_archive(self.stored.values(), self.backups, self.timelines, self.watermark, SIZE)

    def owner(self, timeline: int, position: int) -> int:
        """Who wrote the byte that a timeline has at a position."""
        forks = self.histories.get(timeline, ())
        begins = [0, *(int(fork.at) for fork in forks)]
        names = [*(fork.timeline for fork in forks), timeline]
        for index in reversed(range(len(names))):
            end = int(forks[index].at) if index < len(forks) else None
            if begins[index] <= position and (end is None or position < end):
                return names[index]
        raise AssertionError("nobody")

    def held(self, timeline: int, number: int) -> int:
        """Bytes of a segment that its files give from the front, counted one by one."""
        names = [parse_key(key, SIZE) for key in self.stored]
        ranges = [
            range(name.offset, name.end)
            for name in names
            if isinstance(name, SegmentName) and (name.timeline, name.number) == (timeline, number)
        ]
        return next(byte for byte in range(SIZE + 1) if not any(byte in one for one in ranges))

    def find_available(self, timeline: int) -> frozenset[int]:
        """Every byte of a timeline that is stored in a file that a restore to it could read."""
        legs = [leg.timeline for leg in self.timelines.path(timeline).legs]
        found = set()
        for number in range(max(self.ends.values()) // SIZE + 1):
            for one in legs:
                held = self.held(one, number)
                found |= {
                    byte
                    for byte in range(number * SIZE, number * SIZE + held)
                    if self.owner(one, byte) == self.owner(timeline, byte)
                }
        return frozenset(found)

    def find_commits(self, timeline: int, upto: int) -> list[Commit]:
        """The commits of a timeline that end by a position, in its order."""
        found = [
            one
            for one in self.commits
            if one.end <= upto and self.owner(timeline, one.end - 1) == one.timeline
        ]
        return sorted(found, key=lambda one: one.end)


def _happen(world: World, what: str, one: int, two: int) -> None:
    match what:
        case "write":
            world.write(1 + one % (2 * SIZE))
        case "ship":
            world.ship()
        case "mark":
            world.mark()
        case "wait":
            world.wait((one % 100) * 6000)
        case "back up":
            world.back_up(1 + one % (2 * SIZE), busy=bool(two % 2))
        case "fail over":
            world.fail_over(one % 12)
        case "restore":
            world.restore(one, two)
        case "lose":
            world.lose(one)
        case _:
            world.judge(one, good=bool(two % 3))


_ORDINARY = (
    "write",
    "write",
    "write, ship",
    "write, ship",
    "ship",
    "mark",
    "wait",
    "back up",
    "back up, ship",
)
_TROUBLE = ("fail over", "ship, fail over", "restore", "ship, restore", "lose", "judge")
_numbers = st.integers(0, 200)


def worlds(*, trouble: bool = True, least: int = 8, most: int = 30) -> st.SearchStrategy[World]:
    """Worlds in which some things have happened."""
    whats = st.sampled_from([*_ORDINARY, *(_TROUBLE if trouble else ())])

    def build(events: list[tuple[str, int, int]]) -> World:
        world = World()
        if trouble:
            world.back_up(SIZE + 3)
            world.ship()
        for whats, one, two in events:
            for what in whats.split(", "):
                _happen(world, what, one, two)
        return world

    return st.lists(st.tuples(whats, _numbers, _numbers), min_size=least, max_size=most).map(build)
