"""The cache's primary dies: a replica takes over; what was acknowledged in the last second may be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Kind
from asbuilt.operations.drill.cache import CacheClients
from asbuilt.operations.drill.callers import Callers
from asbuilt.operations.drill.contract import CACHE, ONE_MACHINE, Drill
from asbuilt.plan.fault import Fault, How

if TYPE_CHECKING:
    from asbuilt.operations.drill.ground import Ground
    from asbuilt.operations.drill.track import Track


def blast(ground: Ground, _: str) -> tuple[str, ...]:
    """The node that leads now."""
    return (ground.primary(Kind.CACHE),)


def run(track: Track, _: str) -> None:
    """Kill it under load and wait until all is as before."""
    with Callers(track, kept=1, fresh=1), CacheClients(track) as clients:
        track.blast = (clients.primary,)
        with track.fault(Fault(How.KILL, (clients.primary,), 30.0)):
            clients.wait_back()
        track.wait_whole()
        leader = track.ground.primary(Kind.CACHE)
        track.check("a replica leads now", leader != clients.primary, f"{leader} leads")


CACHE_PRIMARY_LOST: Final = Drill(
    name="cache-primary-lost",
    title="the cache's primary is gone: a replica takes over",
    promise=CACHE,
    needs=(Kind.CACHE,),
    replicated=True,
    blast=blast,
    run=run,
    about=20.0,
    not_tested=(ONE_MACHINE, "a primary of the cache that is cut off and still runs"),
)
