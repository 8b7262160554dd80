"""When the next backup of each part is due. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_PERIODS: Final = {"hourly": 3600.0, "daily": 86400.0}
_RETRY: Final = 900.0
"""Seconds until a backup that failed is tried again."""


class Tried(NamedTuple):
    """A backup that was begun, in seconds since 1970, and whether it came to be."""

    began: float
    done: bool


def which_due(
    parts: Iterable[str], tried: Mapping[str, Sequence[Tried]], schedule: str, now: float
) -> tuple[str, ...]:
    """The parts whose last backup is so long ago, or failed a while ago.

    Args:
        parts: all of them.
        tried: what was tried of each, newest first.
        schedule: `hourly` or `daily`.
        now: seconds since 1970.
    """
    period = _PERIODS[schedule]
    return tuple(one for one in parts if _is_due(tried.get(one, ()), period, now))


def _is_due(tried: Sequence[Tried], period: float, now: float) -> bool:
    if tried and now - tried[0].began < min(_RETRY, period):
        return False
    done = next((one for one in tried if one.done), None)
    return done is None or now - done.began >= period
