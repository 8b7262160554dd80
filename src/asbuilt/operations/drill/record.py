"""What is broken on purpose just now: one small file, written before anything is done.

Invariant: whatever a drill broke can be found and taken away from this file alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from asbuilt.plan.fault import Fault, parse_fault
from asbuilt.targets.local.files import read_json, write_atomically
from asbuilt.targets.local.process import Ident

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = "drills"
FAULT: Final = "fault.json"


class State(StrEnum):
    """How far a fault is."""

    ARMED = "armed"
    ON = "on"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """A fault on record.

    Args:
        drill: id of the drill.
        fault: what is broken.
        state: how far it is.
        holder: the process that takes it away in time; None before it began.
        deadline: Unix time at which it does.
        victims: the processes that are hurt.
    """

    drill: str
    fault: Fault
    state: State
    holder: Ident | None = None
    deadline: float = 0.0
    victims: tuple[Ident, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "schema": 1,
            "drill": self.drill,
            "fault": self.fault.to_json(),
            "state": str(self.state),
            "holder": asdict(self.holder) if self.holder else None,
            "deadline": self.deadline,
            "victims": [asdict(one) for one in self.victims],
        }


def folder_of(root: Path) -> Path:
    """The folder of an environment's drills."""
    return root / FOLDER


def write_fault(root: Path, record: FaultRecord) -> FaultRecord:
    """Put it on record, so that it survives a loss of power."""
    folder = folder_of(root)
    folder.mkdir(mode=0o700, exist_ok=True)
    write_atomically(folder / FAULT, json.dumps(record.to_json(), indent=1), durable=True)
    return record


def read_fault(root: Path) -> FaultRecord | None:
    """What is on record; None where nothing is or it cannot be read."""
    raw = read_json(folder_of(root) / FAULT)
    if raw is None:
        return None
    try:
        return FaultRecord(
            str(raw["drill"]),
            parse_fault(raw["fault"]),
            State(raw["state"]),
            Ident(**raw["holder"]) if raw["holder"] else None,
            float(raw["deadline"]),
            tuple(Ident(**one) for one in raw["victims"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def mark_removed(root: Path, record: FaultRecord) -> None:
    """It is off again."""
    write_fault(root, replace(record, state=State.REMOVED))
