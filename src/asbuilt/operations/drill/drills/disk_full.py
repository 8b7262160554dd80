"""A full disk: not supported yet, for every node's data is on the machine's own disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Kind
from asbuilt.operations.drill.contract import DATABASE, Drill

if TYPE_CHECKING:
    from asbuilt.operations.drill.ground import Ground
    from asbuilt.operations.drill.track import Track


def blast(ground: Ground, _: str) -> tuple[str, ...]:
    """The node that leads now."""
    return (ground.primary(Kind.DATABASE),)


def run(_track: Track, _: str) -> None:
    """Nothing: it is refused before."""


DISK_FULL: Final = Drill(
    name="disk-full",
    title="the primary database's disk is full",
    promise=DATABASE,
    needs=(Kind.DATABASE,),
    replicated=False,
    blast=blast,
    run=run,
    unsupported={
        "": "not supported yet: every node shares the machine's disk, and to fill that would hurt everything"
    },
)
