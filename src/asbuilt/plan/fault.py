"""A fault as a value: what is broken, in which way, and for how long at most. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class How(StrEnum):
    """The ways to break something."""

    KILL = "kill"
    """SIGKILL to every process of each workload, at once."""
    FREEZE = "freeze"
    """SIGSTOP to every process of each workload; those that are left are continued at the end."""
    HOLD = "hold"
    """Stopped, and kept stopped."""
    KILL_HOLD = "kill and hold"
    """Killed at once, and kept from starting again."""
    KILL_AGENT = "kill the agent"
    """SIGKILL to the process that watches all others."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Args:
        how: in which way.
        workloads: what it is about; empty for the agent.
        seconds: it is removed after so long, whatever happens to those who asked for it.
    """

    how: How
    workloads: tuple[str, ...]
    seconds: float

    @property
    def words(self) -> str:
        """For people."""
        what = ", ".join(self.workloads)
        return str(self.how) if self.how is How.KILL_AGENT else f"{self.how} {what}"

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {"how": str(self.how), "workloads": list(self.workloads), "seconds": self.seconds}


def parse_fault(raw: dict[str, Any]) -> Fault:
    """What `to_json` made."""
    return Fault(How(raw["how"]), tuple(str(one) for one in raw["workloads"]), float(raw["seconds"]))


def is_lasting(fault: Fault) -> bool:
    """Whether it stays until it is removed."""
    return fault.how is not How.KILL
