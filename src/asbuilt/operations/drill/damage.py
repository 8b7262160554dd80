"""Flips bytes of one page of a replica's file; which replica is on record before, until it is built anew."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from asbuilt.operations.drill.record import folder_of
from asbuilt.targets.local.files import read_json, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

_FILE: Final = "damage.json"
_AT: Final = 4096
"""The middle of the first page: rows, whatever the page's header says."""
_COUNT: Final = 16


def note_damage(root: Path, node: str) -> None:
    """Put on record that a replica's data is going to be damaged."""
    write_atomically(folder_of(root) / _FILE, json.dumps({"node": node}), durable=True)


def read_damage(root: Path) -> str:
    """The replica whose data was damaged; empty for none."""
    raw = read_json(folder_of(root) / _FILE)
    return str(raw["node"]) if raw else ""


def clear_damage(root: Path) -> None:
    """It is whole again."""
    (folder_of(root) / _FILE).unlink(missing_ok=True)


def flip_bytes(file: Path) -> None:
    """Invert some bytes of the first page."""
    with file.open("r+b") as opened:
        opened.seek(_AT)
        found = opened.read(_COUNT)
        opened.seek(_AT)
        opened.write(bytes(one ^ 0xFF for one in found))
