"""Moments as text: UTC, to the second, ISO 8601 with Z."""

from __future__ import annotations

from datetime import UTC, datetime


def render_utc(at: datetime) -> str:
    """A moment that is in UTC already."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def now_text() -> str:
    """This moment."""
    return render_utc(datetime.now(UTC))
