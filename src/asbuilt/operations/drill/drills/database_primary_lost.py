"""The primary database's node dies, or hangs: a replica leads, and nothing acknowledged is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Kind
from asbuilt.operations.drill.callers import Callers
from asbuilt.operations.drill.contract import DATABASE, ONE_MACHINE, Drill
from asbuilt.operations.drill.database import DatabaseClients
from asbuilt.plan.fault import Fault, How

if TYPE_CHECKING:
    from asbuilt.operations.drill.ground import Ground
    from asbuilt.operations.drill.track import Track

_HOW: Final = {"killed": How.KILL, "frozen": How.FREEZE}
_LONGEST: Final = 60.0


def blast(ground: Ground, _: str) -> tuple[str, ...]:
    """The node that leads now."""
    return (ground.primary(Kind.DATABASE),)


def run(track: Track, variant: str) -> None:
    """Break the primary's node under load and wait until all is as before."""
    with Callers(track, kept=1, fresh=1), DatabaseClients(track) as clients:
        track.blast = (clients.primary,)
        with track.fault(Fault(_HOW[variant], (clients.primary,), _LONGEST)):
            clients.wait_back()
        track.wait_whole()
        leader = track.ground.primary(Kind.DATABASE)
        track.check("a replica leads now", leader != clients.primary, f"{leader} leads")
        track.check(
            "the session on the old primary ended",
            clients.broken,
            clients.broken[1] if clients.broken else "it went on",
        )


DATABASE_PRIMARY_LOST: Final = Drill(
    name="database-primary-lost",
    title="the primary database's node is gone: a replica takes over",
    promise=DATABASE,
    needs=(Kind.DATABASE,),
    replicated=True,
    blast=blast,
    run=run,
    variants=("killed", "frozen", "isolated"),
    unsupported={"isolated": "not supported yet: cutting a node off needs `network: isolated`"},
    about=30.0,
    not_tested=(ONE_MACHINE, "a primary that is cut off from the others and still runs"),
)
