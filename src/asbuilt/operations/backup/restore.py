"""`asbuilt restore`: the database as it was, beside the one of now or in its place.

Invariants: the target is proven to be reachable before anything is touched; a copy beside changes nothing of
production; in place, the data that is replaced stays beside it, and the present can be restored too. Killed
anywhere in between, `--resume` goes on.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asbuilt.engines.backup.engine import SIDECAR_WORKLOAD, build_sidecar, sidecar_dir
from asbuilt.operations.backup.archive import read_archive
from asbuilt.operations.backup.context import Backups, hold
from asbuilt.operations.backup.sidecar import SUBJECT, SideCar
from asbuilt.operations.progress import Event, told
from asbuilt.operations.reading import SIDECAR, read_facts
from asbuilt.operations.session import open_session
from asbuilt.plan.choice import Choice, choose
from asbuilt.plan.copies import DUMP
from asbuilt.plan.target import Target, render_time
from asbuilt.targets.local.client import AgentClient, ensure_agent, find_agent
from asbuilt.values.clock import now_text
from asbuilt.values.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo
    from pathlib import Path

    from asbuilt.operations.session import Session
    from asbuilt.plan.copies import Copy
    from asbuilt.values.stage import Stage

_ROOM: Final = 1.1
"""Of the size of the backup must be free."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of a restore.

    Args:
        target: as it was understood, with its zone.
        backup: where it began.
        end: position in the log where it ended.
        last: when the last transaction that is in it was committed; empty when that is not known.
        seconds: how long it took.
        legs: seconds of each part.
        address: where the copy is; empty in place.
        tables: those that were copied back.
    """

    target: str
    backup: str
    end: str
    last: str
    seconds: float
    legs: dict[str, float]
    address: str = ""
    tables: tuple[str, ...] = ()


def plan_restore(backups: Backups, target: Target, timeline: int | None, zone: tzinfo) -> Choice:
    """How the target is reached. Raises RefusedError or UsageError RESTORE-00x before anything is touched."""
    choice = choose(target, read_archive(backups), timeline=timeline, zone=zone)
    for note in choice.notes:
        backups.tell(Event("note", "", note.text))
    begun = render_time(choice.backup.ended, zone)
    backups.tell(Event("note", "", f"restores to {target}, from the backup of {begun}"))
    return choice


def restore_beside(backups: Backups, choice: Choice) -> Restored:
    """Restore into a copy beside the database and leave it running. One that was there is replaced."""
    began = time.monotonic()
    stage, site = backups.stage, backups.prepared.site
    with hold(backups, "restoring a copy"):
        drop_sidecar(stage, backups.tell, verb="restore")
        check_room(backups, choice.backup.clear_size)
        sidecar = SideCar(
            backups, sidecar_dir(site), site.addresses["backup-1"], site.ports["postgresql"], durable=True
        )
        run = backups.catalogue.begin_run("restore")
        try:
            end, last = _recover(sidecar, choice, backups)
        except BaseException as error:
            backups.catalogue.finish_run(run, "failed", {"why": str(error)})
            shutil.rmtree(sidecar.folder, ignore_errors=True)
            raise
        workload = build_sidecar(backups.prepared.architecture, site)
        with open_session(stage, "restore", backups.tell) as session:
            client = find_client(stage, session)
            fact = {"target": str(choice.target), "end": end, "last": last, "at": now_text()}
            with session.operation(fact), told(backups.tell, SUBJECT, "start the restored copy"):
                session.journal.remember_facts({SIDECAR: json.dumps(fact)})
                client.start(workload, session.epoch)
                client.wait_ready(workload.id, workload.ready.start_timeout, waiting(backups))
        backups.catalogue.finish_run(run, "done", {"target": str(choice.target), "end": end})
    seconds = time.monotonic() - began
    return Restored(
        str(choice.target), choice.backup.id, end, last, seconds, sidecar.legs, address=workload.address
    )


def drop_sidecar(stage: Stage, tell: Callable[[Event], None], *, verb: str = "restore") -> bool:
    """Stop and delete the copy beside the database, and what else was restored; False when there is none."""
    folder, others = stage.root / "sidecar", restored_dir(stage)
    found = others.exists()
    shutil.rmtree(others, ignore_errors=True)
    if not read_facts(stage, None).get(SIDECAR) and not folder.exists():
        return found
    with open_session(stage, verb, tell) as session, session.operation({"drop": "sidecar"}):
        client = find_agent(stage.root)
        if client is not None:
            session.lift_epoch(client)
            client.stop(SIDECAR_WORKLOAD, session.epoch, forget=True)
        session.journal.remember_facts({SIDECAR: ""})
        shutil.rmtree(folder, ignore_errors=True)
    return True


def restored_dir(stage: Stage) -> Path:
    """Where cache, objects and files are restored to when no folder is named."""
    return stage.root / "restored"


def claim_own_folder(stage: Stage, copy: Copy) -> Path:
    """The folder for what is restored of a backup. What was restored there before is replaced."""
    folder = restored_dir(stage) / copy.id
    old = folder / (DUMP if copy.part == "cache" else copy.part)
    if old.is_dir():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)
    return folder


def _recover(sidecar: SideCar, choice: Choice, backups: Backups) -> tuple[str, str]:
    """Fetch and replay. Where it ended, and when the last transaction in it was committed."""
    sidecar.fetch(choice.backup)
    end = sidecar.replay(choice, read_archive(backups))
    return str(end), sidecar.last_commit


def check_room(backups: Backups, size: int, folder: Path | None = None) -> None:
    """Raise RefusedError RESTORE-032 unless there is room for so many bytes, here or in a folder."""
    needed = int(size * _ROOM)
    folder = folder or backups.stage.root
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RefusedError(
            "RESTORE-032",
            f"the copy needs {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free",
            where=str(folder),
            hint="free some space, then try again",
        )


def find_client(stage: Stage, session: Session) -> AgentClient:
    """The agent, which from now on listens to this session."""
    client = ensure_agent(stage.root)
    session.lift_epoch(client)
    return client


def waiting(backups: Backups) -> Callable[[str], None]:
    """Tells what is waited for, and how long already."""
    began = time.monotonic()
    return lambda text: backups.tell(Event("waiting", SUBJECT, text, time.monotonic() - began))
