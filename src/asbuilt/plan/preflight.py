"""Whether a drill may begin. Pure: what was found goes in, the refusal comes out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from asbuilt.values.errors import RefusedError

ROOM: Final = 2_000_000_000
"""Bytes that must be free: twice what stops a drill that is under way."""


@dataclass(frozen=True, slots=True)
class Before:
    """What was found before a drill.

    Args:
        environment: its name, for hints.
        obstacle: why this drill cannot be had here; empty when it can.
        interrupted: the drill whose fault is still on record; empty for none.
        missing: what redundancy lacks.
        free: bytes of disk.
        backup: the newest backup that was tried and found good; empty for none.
        verified: when that was.
        backups: the environment has backups.
    """

    environment: str
    obstacle: str
    interrupted: str
    missing: tuple[str, ...]
    free: int
    backup: str = ""
    verified: datetime | None = None
    backups: bool = False


def find_refusal(before: Before) -> RefusedError | None:
    """Why it may not begin; None when it may."""
    if before.obstacle:
        return RefusedError("DRILL-004", before.obstacle, hint="asbuilt drill list says what can be drilled")
    if before.interrupted:
        return RefusedError(
            "DRILL-006",
            f"the drill {before.interrupted} was interrupted, and what it broke may not be whole yet",
            hint=f"asbuilt drill {before.environment} recover takes it away",
        )
    if before.missing:
        return RefusedError(
            "DRILL-005",
            "redundancy is not complete: a drill now would hurt users",
            evidence=before.missing[:8],
            hint=f"asbuilt status {before.environment} shows what is missing; asbuilt up brings it back",
        )
    if before.free < ROOM:
        return RefusedError(
            "DRILL-007",
            f"only {before.free / 1e9:.1f} GB of disk are free, a drill wants {ROOM / 1e9:g} GB",
            hint="free some space, then try again",
        )
    return None


def render_age(seconds: float) -> str:
    """An age in words, like `3 h`."""
    for limit, unit, name in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} days"


def render_safety(before: Before, now: datetime) -> str:
    """What there is to fall back on, in one line."""
    if not before.backups:
        return "this environment has no backups"
    if before.verified is None:
        return "no backup was verified yet"
    age = render_age((now - before.verified).total_seconds())
    return f"the last verified backup is {before.backup}, verified {age} ago"


def describe(before: Before, now: datetime) -> dict[str, Any]:
    """For the report."""
    verified = before.verified
    return {
        "redundancy": "complete" if not before.missing else list(before.missing),
        "backup": before.backup or None,
        "backup_verified": verified.strftime("%Y-%m-%dT%H:%M:%SZ") if verified else None,
        "backup_age_seconds": round((now - verified).total_seconds(), 1) if verified else None,
        "free_bytes": before.free,
    }
