"""The process that watches all others dies: traffic goes on, and the next one adopts what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Kind
from asbuilt.operations.drill.callers import Callers
from asbuilt.operations.drill.contract import APPLICATION, Drill
from asbuilt.plan.fault import Fault, How
from asbuilt.targets.local.client import ensure_agent, find_agent

if TYPE_CHECKING:
    from asbuilt.operations.drill.ground import Ground
    from asbuilt.operations.drill.track import Track

_ALONE: Final = 5.0


def blast(_: Ground, __: str) -> tuple[str, ...]:
    """No node at all."""
    return ()


def run(track: Track, _: str) -> None:
    """Kill it, look on for some seconds, start the next one."""
    root = track.ground.root
    before = _pids(track)
    with Callers(track, kept=4, fresh=2) as callers:
        track.rest("the baseline", 2.0)
        # every node looks as if nobody cared for it: that is the fault, not a second one
        track.blast = tuple(before)
        with track.fault(Fault(How.KILL_AGENT, (), 60.0)):
            track.rest("traffic without it", _ALONE)
            track.check("nothing watched meanwhile", find_agent(root) is None, "another one was started")
            ensure_agent(root)
            track.leg("adopted")
        track.wait_whole()
        track.rest("traffic with the next one", 2.0)
    failed = sum(at >= track.moment for at, _ in callers.failed)
    changed = [node for node, pid in _pids(track).items() if before.get(node) != pid]
    track.rto = callers.rto()
    track.check("users noticed nothing", not failed, f"{failed} requests failed")
    track.check("nothing was started again", not changed, f"other processes: {', '.join(changed)}")


def _pids(track: Track) -> dict[str, int | None]:
    return {one["id"]: one["pid"] for one in track.ground.status()["nodes"]}


CONTROLLER_LOST: Final = Drill(
    name="controller-lost",
    title="the agent that watches everything is gone: traffic goes on, the next one adopts what runs",
    promise=APPLICATION,
    needs=(Kind.APP,),
    replicated=False,
    blast=blast,
    run=run,
    about=15.0,
    not_tested=("a second failure while nobody watches",),
)
