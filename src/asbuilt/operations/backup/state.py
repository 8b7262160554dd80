"""What the archiver tells of itself, for `status` and the verbs: one small file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from asbuilt.targets.local.files import read_json

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER: Final = "backup"
STATE: Final = "backup.json"
WITHIN: Final = 7 * 86400.0
"""Seconds in which every stored object is read back once."""
LOCK: Final = "backup.lock"
"""Held by whoever takes, verifies or removes backups."""


def catalogue_path(root: Path, system: str) -> Path:
    """The catalogue of the backups of one database: in the environment's folder, outside of every store."""
    folder = root / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{system}.sqlite"


@dataclass(frozen=True, slots=True)
class ArchiveState:
    """How far the archive is.

    Args:
        stored_to: position up to which the log is stored; empty while nothing is.
        timeline: of it.
        stored_at: everything that was committed by then is stored; seconds since 1970 UTC.
        lag: bytes of log that the primary had and the store had not, when it was asked; None: not known.
        spool: bytes that wait here.
        receiving: the log is being received.
        problem: what keeps it from being stored; empty for nothing.
    """

    stored_to: str
    timeline: int
    stored_at: float
    lag: int | None
    spool: int
    receiving: bool
    problem: str


def to_json(state: ArchiveState) -> str:
    """The state as text."""
    return json.dumps({"schema": 1, **asdict(state)}, sort_keys=True)


def read_state(root: Path) -> ArchiveState | None:
    """What the archiver said last; None when it never did."""
    raw = read_json(root / STATE)
    if raw is None:
        return None
    raw.pop("schema", None)
    try:
        return ArchiveState(**raw)
    except TypeError:
        return None
