"""Primary and synchronous standby die together: nobody is promoted, reads go on, both return.

The replica that is left may lack what only those two had: service for writes waits for one of them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Kind
from asbuilt.operations.drill.callers import Callers
from asbuilt.operations.drill.contract import DATABASE, Drill
from asbuilt.operations.drill.database import DatabaseClients
from asbuilt.plan.fault import Fault, How

if TYPE_CHECKING:
    from asbuilt.operations.drill.ground import Ground
    from asbuilt.operations.drill.track import Track

_LONGEST: Final = 90.0
_OUT: Final = 12.0
"""Seconds that both are kept away: longer than a promotion takes, which must not come."""


def blast(ground: Ground, _: str) -> tuple[str, ...]:
    """The two that have every acknowledged write."""
    return ground.primary(Kind.DATABASE), ground.standby()


def run(track: Track, _: str) -> None:
    """Kill both, keep them away for a while, let them return."""
    ground = track.ground
    with Callers(track, kept=1, fresh=1), DatabaseClients(track) as clients:
        pair = (clients.primary, ground.standby())
        track.blast = ground.nodes(Kind.DATABASE)  # the third cannot be whole without them
        others = [node for node in ground.nodes(Kind.DATABASE) if node not in pair]
        with track.fault(Fault(How.KILL_HOLD, pair, _LONGEST)):
            track.rest("nobody to be promoted", _OUT)
            promoted = [node for node in others if clients.sampler.writable[node]]
            since = time.monotonic() - 2.0
            accepted = clients.writers.since(since)
            reads = sum(at > since for at in clients.read[-100:])
        away = track.leg("let back")
        track.evidence.append(
            f"both were kept away for {away:.1f} s, which are part of the time without writes"
        )
        track.check(
            "nobody was promoted without every write", not promoted, f"{', '.join(promoted)} took writes"
        )
        track.check("no write was acknowledged meanwhile", not accepted, f"{accepted} in two seconds")
        track.check("reads went on", not others or reads, f"{reads} reads in two seconds")
        clients.wait_back()
        track.wait_whole()


DATABASE_AND_STANDBY_LOST: Final = Drill(
    name="database-and-standby-lost",
    title="primary and synchronous standby are gone: no promotion, reads only, whole when they return",
    promise=DATABASE,
    needs=(Kind.DATABASE,),
    replicated=True,
    blast=blast,
    run=run,
    about=60.0,
    not_tested=("two nodes that never return: then a backup is restored",),
)
