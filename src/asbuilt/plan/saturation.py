"""Whether the servers of a candidate run into a limit that those of the stable release do not. Pure.

What hurts both alike is no fault of the candidate: every rule compares with the worst of the stable servers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FULL: Final = 0.9
"""Share of the memory, or of the open files, that is too much."""
BUSY: Final = 0.95
"""Share of the CPU that is too much when it lasts."""
LASTS: Final = 10.0
"""Seconds that a server must be busy without a pause."""
HORIZON: Final = 3600.0
"""Seconds: a leak that would take longer until the limit is left to the watch over the running release."""
_LEAST: Final = 10
"""Readings that show a trend."""
_STRAIGHT: Final = 0.9
"""Part of the variance that a straight line has to explain (R squared)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a server.

    Args:
        at: seconds on a clock that only goes forward.
        cpu: share of its limit, 0..1; None where it has none or is not known.
        memory: the same of the memory.
        files: the same of the files it may open.
        restarts: how often it was started again since the step began.
    """

    at: float
    cpu: float | None = None
    memory: float | None = None
    files: float | None = None
    restarts: int = 0


if TYPE_CHECKING:
    Servers = Mapping[str, Sequence[Reading]]
    """By server, its readings of this step, oldest first."""


def check_saturation(candidate: Servers, stable: Servers, horizon: float = HORIZON) -> str | None:
    """What is wrong with the candidate's servers, in one line; None where nothing is."""
    return (
        _find_restarts(candidate, stable)
        or _find_full(candidate, stable, "memory", lambda one: one.memory)
        or _find_full(candidate, stable, "open files", lambda one: one.files)
        or _find_busy(candidate, stable)
        or _find_leak(candidate, stable, horizon)
    )


def _find_restarts(candidate: Servers, stable: Servers) -> str | None:
    """Bad when a server was started again more often than any stable one in the same time.

    One restart is enough where the stable servers had none: they run for days without one, and a step takes a
    minute. Where they restart as well, something that all of them need has failed.
    """
    worst, server = max(((_last(seen), name) for name, seen in sorted(candidate.items())), default=(0, ""))
    usual = max((_last(seen) for seen in stable.values()), default=0)
    if worst <= usual:
        return None
    return f"restarts: {server} was started again {worst} x, no stable server more than {usual} x"


def _last(readings: Sequence[Reading]) -> int:
    return readings[-1].restarts if readings else 0


def _find_full(
    candidate: Servers, stable: Servers, what: str, share: Callable[[Reading], float | None]
) -> str | None:
    usual = max((share(seen[-1]) or 0.0 for seen in stable.values() if seen), default=0.0)
    if usual >= FULL:
        return None
    for name, seen in sorted(candidate.items()):
        part = share(seen[-1]) if seen else None
        if part is not None and part >= FULL:
            return f"{what}: {name} is at {part:.0%} of its limit, no stable server above {usual:.0%}"
    return None


def _find_busy(candidate: Servers, stable: Servers) -> str | None:
    """Bad when the CPU was at its limit for `LASTS` seconds: a peak is no fault."""
    if any(_is_busy(seen) for seen in stable.values()):
        return None
    for name, seen in sorted(candidate.items()):
        if _is_busy(seen):
            return f"CPU: {name} was at {BUSY:.0%} of its limit or more for {LASTS:g} s, no stable server was"
    return None


def _is_busy(readings: Sequence[Reading]) -> bool:
    if not readings or readings[-1].at - readings[0].at < LASTS:
        return False
    since = readings[-1].at - LASTS
    return all(one.cpu is not None and one.cpu >= BUSY for one in readings if one.at >= since)


def _find_leak(candidate: Servers, stable: Servers, horizon: float) -> str | None:
    """Bad when the open files grow along a straight line that meets their limit within the horizon."""
    left = {name: find_time_left([(one.at, one.files) for one in seen]) for name, seen in stable.items()}
    if any(time is not None and time <= horizon for time in left.values()):
        return None
    for name, seen in sorted(candidate.items()):
        time = find_time_left([(one.at, one.files) for one in seen])
        if time is not None and time <= horizon:
            return f"open files: {name} opens ever more, and meets its limit in {time / 60:.0f} min"
    return None


def find_time_left(readings: Sequence[tuple[float, float | None]]) -> float | None:
    """Seconds until a share (0..1) that grows steadily reaches 1; None where it does not grow steadily.

    A least-squares line over the later half of the readings, because what a server opens when it starts is no
    leak; steady means that the line explains them and that they never fell below where the half began.
    """
    later = [(at, share) for at, share in readings[len(readings) // 2 :] if share is not None]
    if len(later) < _LEAST:
        return None
    middle = sum(at for at, _ in later) / len(later)
    mean = sum(share for _, share in later) / len(later)
    spread = sum((at - middle) ** 2 for at, _ in later)
    varied = sum((share - mean) ** 2 for _, share in later)
    together = sum((at - middle) * (share - mean) for at, share in later)
    if not spread or not varied or together <= 0 or together**2 < _STRAIGHT * spread * varied:
        return None
    if min(share for _, share in later) < later[0][1]:
        return None
    return max(0.0, (1 - later[-1][1]) / (together / spread))
