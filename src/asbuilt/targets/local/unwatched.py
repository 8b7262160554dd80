"""What runs although no agent watches, from the records it left and /proc. Starts and changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.observe.snapshot import Health, Seen, Snapshot
from asbuilt.plan.workload import from_json
from asbuilt.targets.local.files import read_json
from asbuilt.targets.local.names import Paths
from asbuilt.targets.local.process import is_alive
from asbuilt.targets.local.spawn import read_record

if TYPE_CHECKING:
    from pathlib import Path


def read_unwatched(root: Path) -> Snapshot:
    """The workloads on record. One that lives counts as starting: nobody has asked it whether it is ready."""
    paths = Paths(root)
    found: dict[str, Seen] = {}
    for file in sorted(paths.workloads.glob("*.json")):
        raw = read_json(file)
        if raw is None:
            continue
        workload = from_json(raw["workload"])
        record = read_record(paths.pids / workload.id)
        alive = record is not None and is_alive(record.ident)
        found[workload.id] = Seen(
            id=workload.id,
            node=workload.node,
            kind=workload.kind,
            engine=workload.engine,
            digest=workload.digest,
            process_digest=workload.process_digest,
            health=Health.STARTING if alive else Health.STOPPED,
            pid=record.ident.pid if alive and record else None,
            address=workload.address,
            zone=workload.zone,
            release=workload.release,
            since=record.since if record else "",
            problem="runs, but no agent watches it" if alive else "does not run, and no agent starts it",
            needs=workload.needs,
        )
    return Snapshot(found)
