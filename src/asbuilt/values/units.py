"""Quantities as owners write them: `16GB`, `30s`, `3..20`, `70%`.

Sizes are binary (1 GB = 1024 MB), as database and cache settings count them. A value is always kept
in its base unit (bytes, seconds) and prints in the largest unit that loses nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_SIZE_UNITS: Final = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40, "PB": 2**50}
_TIME_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(B|KB|MB|GB|TB|PB|K|M|G|T|KiB|MiB|GiB|TiB)", re.IGNORECASE)
_TIME = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(ms|s|m|h|d)")
MAX_SIZE: Final = 2**60
"""The largest size taken, in bytes: beyond it a number is a typing error."""
MAX_DURATION: Final = 100 * 365 * 86400.0
"""The longest duration taken, in seconds (a hundred years)."""


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """An amount of memory or storage in bytes."""

    bytes: int

    @staticmethod
    def parse(text: str) -> Size:
        """`16GB`, `512 MB`, `1.5TB`. Raises ValueError saying what was expected."""
        match = _SIZE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a size; write a number and a unit, like 512MB or 16GB")
        unit = match[2].upper().replace("IB", "B")
        value = round(float(match[1]) * _SIZE_UNITS[unit if unit.endswith("B") else unit + "B"])
        if not 0 < value <= MAX_SIZE:
            raise ValueError(f"{text!r} is not between 1B and 1024PB")
        return Size(value)

    def __str__(self) -> str:
        for unit in ("PB", "TB", "GB", "MB", "KB"):
            if self.bytes % _SIZE_UNITS[unit] == 0:
                return f"{self.bytes // _SIZE_UNITS[unit]}{unit}"
        return f"{self.bytes}B"


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A span of time in seconds."""

    seconds: float

    @staticmethod
    def parse(text: str) -> Duration:
        """`30s`, `500ms`, `5m`, `12h`, `30d`. Raises ValueError saying what was expected."""
        match = _TIME.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a duration; write a number and ms, s, m, h or d, like 30s")
        value = round(float(match[1]) * _TIME_UNITS[match[2]], 6)
        if value > MAX_DURATION:
            raise ValueError(f"{text!r} is longer than a hundred years")
        return Duration(value)

    def __str__(self) -> str:
        milliseconds = round(self.seconds * 1000)
        for unit in ("d", "h", "m", "s"):
            each = round(_TIME_UNITS[unit] * 1000)
            if milliseconds and milliseconds % each == 0:
                return f"{milliseconds // each}{unit}"
        return f"{milliseconds}ms"


@dataclass(frozen=True, slots=True)
class Count:
    """How many: at least `minimum`, at most `maximum`. A plain number has both the same."""

    minimum: int
    maximum: int

    @staticmethod
    def parse(text: str) -> Count:
        """`5` or `3..20`. Raises ValueError when it is neither, or the wrong way round."""
        match = re.fullmatch(r"(\d{1,9})(?:\s*\.\.\s*(\d{1,9}))?", text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a number or a range; write 5 or 3..20")
        low = int(match[1])
        high = int(match[2]) if match[2] is not None else low
        if low > high:
            raise ValueError(f"minimum {low} is above maximum {high}; write the range as {high}..{low}")
        return Count(low, high)

    def __str__(self) -> str:
        return str(self.minimum) if self.minimum == self.maximum else f"{self.minimum}..{self.maximum}"


@dataclass(frozen=True, slots=True, order=True)
class Percent:
    """A part of a whole, in hundredths."""

    percent: float

    @staticmethod
    def parse(text: str) -> Percent:
        """`70%`, `12.5%`. Raises ValueError saying what was expected."""
        match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,4})?)\s*%", text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a percentage; write a number and %, like 70%")
        value = float(match[1])
        if value > 100:  # noqa: PLR2004 - said in the message
            raise ValueError(f"{text!r} is more than 100%")
        return Percent(value)

    @property
    def share(self) -> float:
        """As a part of one."""
        return self.percent / 100

    def __str__(self) -> str:
        return f"{self.percent:g}%"


@dataclass(frozen=True, slots=True)
class SizeRange:
    """Storage that starts at `initial` and may grow to `maximum`."""

    initial: Size
    maximum: Size

    @staticmethod
    def parse(text: str) -> SizeRange:
        """`500GB` or `500GB..2TB`. Raises ValueError when it is neither, or the wrong way round."""
        first, dots, second = text.partition("..")
        low = Size.parse(first)
        high = Size.parse(second) if dots else low
        if low > high:
            raise ValueError(f"{low} is above {high}; write the range as {high}..{low}")
        return SizeRange(low, high)

    def __str__(self) -> str:
        return str(self.initial) if self.initial == self.maximum else f"{self.initial}..{self.maximum}"
