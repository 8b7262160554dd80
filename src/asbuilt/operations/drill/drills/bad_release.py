"""A release that never becomes healthy: the environment's own `deploy` goes back, and nobody notices."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from asbuilt.graph.model import Kind
from asbuilt.operations.drill.callers import Callers
from asbuilt.operations.drill.contract import RELEASE, Drill
from asbuilt.operations.follow import follow, start
from asbuilt.operations.order import Order
from asbuilt.operations.progress import Event
from asbuilt.operations.runs import ask_for, has_ended
from asbuilt.targets.local.process import is_alive, read_process

if TYPE_CHECKING:
    import subprocess

    from asbuilt.operations.drill.ground import Ground
    from asbuilt.operations.drill.track import Track

_TAKEN_BACK: Final = "DEPLOY-003"
_SHOWN: Final = frozenset({"note", "waiting", "done", "failed"})
_LEAVE_WITHIN: Final = 120.0


def blast(_: Ground, __: str) -> tuple[str, ...]:
    """No node that serves: a server more is started, and ends."""
    return ()


def run(track: Track, _: str) -> None:
    """Release it under load, and see it taken back."""
    # the servers that come and go are part of it
    track.blast = tuple(one["id"] for one in track.ground.status()["nodes"] if one["kind"] == Kind.APP)
    before = track.ground.status()["release"]
    with Callers(track, kept=4, fresh=2) as callers:
        track.rest("the baseline", 2.0)
        track.moment = time.monotonic()
        end = _release(track)
        track.leg("taken back")
        track.wait_whole()
        track.until("users to be served", callers.flowing, 60.0)
    error = end.get("error") or {}
    failed = sum(at >= track.moment for at, _ in callers.failed)
    track.proven = error.get("code") == _TAKEN_BACK
    track.evidence.append(str(error.get("what") or "the release got through"))
    track.evidence += [str(line) for line in error.get("evidence", ())][:3]
    track.rto = callers.rto()
    track.check("users noticed nothing", not failed, f"{failed} requests failed")
    now = track.ground.status()["release"]
    track.check("the release before serves", now == before, f"{now} serves")


def _release(track: Track) -> dict[str, Any]:
    stage = track.ground.stage
    run, child = start(stage, Order(broken=True))
    track.removed = False

    def hear(line: dict[str, Any]) -> None:
        track.look()
        if line["kind"] in _SHOWN:
            track.tell(Event(line["kind"], str(line["subject"]), str(line["text"]), float(line["seconds"])))

    try:
        return follow(stage, run, child, hear)
    except BaseException:
        _leave(track, run, child)
        raise
    finally:
        track.removed = has_ended(stage.root, run)


def _leave(track: Track, run: str, child: subprocess.Popen[bytes]) -> None:
    """Ask for the way back, and wait for it as long as the process lives."""
    root = track.ground.root
    ask_for(root, "abort")
    process, until = read_process(child.pid), time.monotonic() + _LEAVE_WITHIN
    while not has_ended(root, run) and time.monotonic() < until and process and is_alive(process.ident):
        time.sleep(0.1)


BAD_RELEASE: Final = Drill(
    name="bad-release",
    title="a release that never becomes healthy: it is taken back by itself, users notice nothing",
    promise=RELEASE,
    needs=(Kind.APP, Kind.LOAD_BALANCER),
    replicated=False,
    blast=blast,
    run=run,
    about=30.0,
    locks=False,
    not_tested=("a release that is slow or wrong: a canary finds those", "a migration that fails"),
)
