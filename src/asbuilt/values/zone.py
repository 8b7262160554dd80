"""The time zone of this machine, with its changes between summer and winter."""

from __future__ import annotations

import os
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

_LOCAL = Path("/etc/localtime")


def find_zone() -> tzinfo:
    """That of TZ, else that of the system, else UTC."""
    name = os.environ.get("TZ", "").removeprefix(":")
    try:
        if name:
            return ZoneInfo(name)
        with _LOCAL.open("rb") as file:
            return ZoneInfo.from_file(file, key=_LOCAL.resolve().name)
    except (OSError, ValueError):
        return UTC
