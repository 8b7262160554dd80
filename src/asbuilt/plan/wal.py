"""Positions in PostgreSQL's write-ahead log (WAL), and the segments it is cut into. Pure arithmetic.

A position (LSN) counts the bytes of the log since its beginning. The log is one sequence for a whole family
of timelines: a position means the same place of every timeline that has it. It is written to files of one
size, chosen when the database was made. A file's name is 24 hex digits: 8 of the timeline, 8 of the upper
half of the first position, 8 of the number within the 4 GB that follow (PostgreSQL: `xlog_internal.h`,
`XLogFileName`).

Invariants, property-tested: parsing and writing are inverse; segments cover every position once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

SEGMENT_SIZE: Final = 16 * 2**20
"""Bytes of a segment, unless `initdb --wal-segsize` said otherwise."""
_HALF: Final = 2**32
_LSN: Final = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_SEGMENT: Final = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")


class Lsn(int):
    """A position in the log, in bytes. `0/0` is before everything.

    Positions are compared as numbers; the difference of two is a number of bytes.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """`0/2000028`, as PostgreSQL writes it. Raises ValueError saying what was expected."""
        match = _LSN.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a position in the WAL; write it as PostgreSQL does: 0/2000028")
        return cls(int(match[1], 16) * _HALF + int(match[2], 16))

    def plus(self, count: int) -> Self:
        """The position so many bytes later."""
        return type(self)(self + count)

    def __str__(self) -> str:
        return f"{self // _HALF:X}/{self % _HALF:X}"

    def __repr__(self) -> str:
        return f"Lsn({str(self)!r})"


ORIGIN: Final = Lsn(0)
"""Before everything."""


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One file of the log.

    Args:
        timeline: whose file it is, from 1.
        number: which one, from 0: the position of its first byte divided by its size.
        size: bytes of a full one.
    """

    timeline: int
    number: int
    size: int = SEGMENT_SIZE

    @classmethod
    def parse(cls, text: str, size: int = SEGMENT_SIZE) -> Self:
        """The 24 hex digits of a file's name. Raises ValueError saying what was expected."""
        match = _SEGMENT.fullmatch(text)
        found = None if match is None else (int(match[1], 16), number_of(match[2], match[3], size))
        if found is None or found[1] is None or not found[0]:
            raise ValueError(f"{text!r} is not the name of a WAL segment of {size} bytes")
        return cls(found[0], found[1], size)

    @classmethod
    def at(cls, timeline: int, position: Lsn, size: int = SEGMENT_SIZE) -> Self:
        """The one that holds the byte at this position."""
        return cls(timeline, position // size, size)

    @property
    def start(self) -> Lsn:
        """The position of its first byte."""
        return Lsn(self.number * self.size)

    @property
    def end(self) -> Lsn:
        """The position after its last byte."""
        return Lsn((self.number + 1) * self.size)

    @property
    def next(self) -> Self:
        """The one after it on the same timeline."""
        return type(self)(self.timeline, self.number + 1, self.size)

    def __str__(self) -> str:
        upper, lower = divmod(self.number, _HALF // self.size)
        return f"{self.timeline:08X}{upper:08X}{lower:08X}"


def number_of(upper: str, lower: str, size: int) -> int | None:
    """The number of a segment from the two halves of the digits in its name; None where none has it."""
    within, each = int(lower, 16), _HALF // size
    return int(upper, 16) * each + within if within < each else None


def first_number(position: Lsn, size: int) -> int:
    """The number of the segment that holds the byte at this position."""
    return position // size


def last_number(position: Lsn, size: int) -> int:
    """The number of the segment that holds the byte before this position, the last one of what ends there."""
    return (position - 1) // size
