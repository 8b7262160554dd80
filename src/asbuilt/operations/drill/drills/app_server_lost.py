"""One app server dies: the others serve, and users notice nothing."""

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
    """One of them."""
    return ground.nodes(Kind.APP)[:1]


def run(track: Track, _: str) -> None:
    """Kill one and wait until it is replaced."""
    (victim,) = track.blast
    before = _pid(track, victim)
    with Callers(track, kept=4, fresh=2) as callers:
        track.rest("the baseline", 2.0)
        with track.fault(Fault(How.KILL, (victim,), 30.0)):
            track.until(
                "another process in its place", lambda: _pid(track, victim) not in {None, before}, 90.0
            )
            track.leg("replaced")
        track.wait_whole(Kind.APP, Kind.LOAD_BALANCER)
        track.until("users to be served", callers.flowing, 60.0)
    failed = sum(at >= track.moment for at, _ in callers.failed)
    track.rto = callers.rto()
    track.check("users noticed nothing", not failed, f"{failed} requests failed")


def _pid(track: Track, node: str) -> int | None:
    found = [one["pid"] for one in track.ground.status()["nodes"] if one["id"] == node]
    return found[0] if found else None


APP_SERVER_LOST: Final = Drill(
    name="app-server-lost",
    title="one app server is gone: the others serve, users notice nothing",
    promise=APPLICATION,
    needs=(Kind.APP, Kind.LOAD_BALANCER),
    replicated=True,
    blast=blast,
    run=run,
    about=15.0,
)
