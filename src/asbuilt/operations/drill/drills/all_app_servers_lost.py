"""Every app server dies at once: they are started again, and users are served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Kind
from asbuilt.operations.drill.callers import Callers
from asbuilt.operations.drill.contract import APPLICATION, Drill
from asbuilt.plan.fault import Fault, How

if TYPE_CHECKING:
    from asbuilt.operations.drill.ground import Ground
    from asbuilt.operations.drill.track import Track


def blast(ground: Ground, _: str) -> tuple[str, ...]:
    """All of them."""
    return ground.nodes(Kind.APP)


def run(track: Track, _: str) -> None:
    """Kill all and wait until users are served again."""
    with Callers(track, kept=3, fresh=2) as callers:
        track.rest("the baseline", 2.0)
        with track.fault(Fault(How.KILL, track.blast, 30.0)):
            track.until("users to be served again", lambda: _served(track, callers), 150.0)
            track.leg("first answer")
        track.wait_whole(Kind.APP, Kind.LOAD_BALANCER)
        track.until("a steady stream of answers", callers.flowing, 60.0)
    track.rto = callers.rto()


def _served(track: Track, callers: Callers) -> bool:
    """An answer after the servers were gone: one that was on its way does not count."""
    return any(at > track.moment + 0.3 for at in callers.good[-10:])


ALL_APP_SERVERS_LOST: Final = Drill(
    name="all-app-servers-lost",
    title="every app server is gone at once: they come back by themselves",
    promise=APPLICATION,
    needs=(Kind.APP,),
    replicated=False,
    blast=blast,
    run=run,
    about=20.0,
)
