"""The object store stops: uploads fail until it is back, nothing is lost, the archive catches up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Kind
from asbuilt.operations.backup.context import open_backups
from asbuilt.operations.drill.callers import Callers
from asbuilt.operations.drill.contract import APPLICATION, Drill
from asbuilt.operations.drill.objects import ObjectClients
from asbuilt.operations.drill.restoring import push_log, wait_archived
from asbuilt.plan.fault import Fault, How

if TYPE_CHECKING:
    from asbuilt.operations.drill.ground import Ground
    from asbuilt.operations.drill.track import Track

_LONGEST: Final = 60.0
_OUT: Final = 10.0


def blast(ground: Ground, _: str) -> tuple[str, ...]:
    """The store, and the archiver that waits for it."""
    return (*ground.nodes(Kind.OBJECTS), *ground.nodes(Kind.BACKUP))


def run(track: Track, _: str) -> None:
    """Stop it for a while, start it, and see the archive catch up."""
    ground = track.ground
    store = ground.nodes(Kind.OBJECTS)[0]
    with Callers(track, kept=2, fresh=1) as callers, ObjectClients(track) as clients:
        with track.fault(Fault(How.HOLD, (store,), _LONGEST)):
            track.rest("service without the object store", _OUT)
            failed = sum(at >= track.moment for at, _ in callers.failed)
            track.evidence.append(f"{clients.refused_since(track.moment)} uploads failed while it was away")
        away = track.leg("let back")
        track.evidence.append(
            f"it was kept away for {away:.1f} s, which are part of the time without uploads"
        )
        track.until("uploads to be stored again", clients.flowing, 100.0)
        track.rto = clients.rto()
        track.figures["requests failed while it was away"] = failed
        track.wait_whole()
        _catch_up(track)
    track.check("every upload that was acknowledged is there", not clients.lost, f"{len(clients.lost)} lost")


def _catch_up(track: Track) -> None:
    ground = track.ground
    if not ground.nodes(Kind.BACKUP) or not ground.nodes(Kind.DATABASE):
        return
    began = time.monotonic()
    with open_backups(ground.stage, track.tell) as backups:
        wait_archived(track, backups, push_log(backups))
    track.figures["seconds until the archive had caught up"] = round(time.monotonic() - began, 3)


OBJECT_STORE_LOST: Final = Drill(
    name="object-store-lost",
    title="the object store stops for a while: uploads fail, nothing stored is lost, the archive catches up",
    promise=APPLICATION,
    needs=(Kind.OBJECTS,),
    replicated=False,
    blast=blast,
    run=run,
    about=40.0,
    not_tested=("the loss of the disk of the object store",),
)
