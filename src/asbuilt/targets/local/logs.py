"""Logs of processes: files that they append to themselves, so that no reader can ever block them.

Rotated by copy and truncate, because the writers keep their descriptors. Invariant: rotation never waits for
a writer, never fails the agent, and frees space even when the disk is full.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 10 * 2**20
"""A log is rotated when it is larger."""
KEPT = 3
"""Rotated files kept beside the live one: LOG.1 is the newest."""
_TAIL_BYTES = 64 * 1024


def rotate(path: Path, *, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> bool:
    """Rotate `path` when it is too large; True when it was."""
    try:
        if os.stat(path).st_size <= max_bytes:  # noqa: PTH116 - hot path
            return False
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        for number in range(kept - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number + 1}"))
        _copy(descriptor, path.with_name(f"{path.name}.1"))
        os.ftruncate(descriptor, 0)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _copy(source: int, target: Path) -> None:
    partial = target.with_name(f"{target.name}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            offset = 0
            while sent := os.sendfile(descriptor, source, offset, 2**20):
                offset += sent
        finally:
            os.close(descriptor)
        partial.replace(target)
    except OSError:  # no space: the old lines go, so that the machine can go on
        partial.unlink(missing_ok=True)


def read_tail(path: Path, lines: int = 10) -> tuple[str, ...]:
    """The last lines of a log, without empty ones; () when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(line.rstrip()[:400] for line in text.splitlines() if line.strip())[-lines:]
