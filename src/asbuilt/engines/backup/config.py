"""The settings of an environment's backups, from its architecture and place. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asbuilt.engines.backup.settings import BackupSettings
from asbuilt.engines.postgresql.config import REPLICATOR, SLOT
from asbuilt.engines.seaweedfs.config import bucket_name
from asbuilt.engines.seaweedfs.names import REGION
from asbuilt.graph.model import Kind
from asbuilt.plan.copies import DATABASE, PARTS, Part

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture
    from asbuilt.plan.site import Site

_KINDS: Final[dict[Part, Kind]] = {"cache": Kind.CACHE, "objects": Kind.OBJECTS, "files": Kind.FILES}
_SPOOL_LIMIT: Final = 64 * 16 * 2**20
"""Bytes of log (64 segments) that wait here while the store is away; more wait in the database."""


def build_settings(architecture: Architecture, site: Site) -> BackupSettings | None:
    """The settings; None where there is no database, no backup of it, or no place for one."""
    database = architecture.spec.database
    backup = database.backup if database else None
    nodes, backups = architecture.of(Kind.DATABASE), architecture.of(Kind.BACKUP)
    if backup is None or not nodes or not backups:
        return None
    objects = architecture.of(Kind.OBJECTS)
    store = backup.store
    own = store is None and backup.folder is None
    if own and not objects:
        return None
    endpoint, bucket, region = "", "", ""
    if store is not None:
        endpoint, bucket, region = store.endpoint, store.bucket, store.region
    elif own:
        endpoint = f"http://{site.addresses[objects[0].id]}:{site.ports['s3']}"
        bucket, region = f"{bucket_name(architecture)}-backup", REGION
    tools = site.tools["postgresql"]
    names = ("pg_receivewal", "pg_basebackup", "pg_verifybackup")
    there = (part for part in PARTS if architecture.of(_KINDS[part]) and part not in backup.leave_out)
    return BackupSettings(
        prefix=f"{architecture.name}/{architecture.environment}/",
        endpoint=endpoint,
        bucket=bucket,
        region=region,
        locked=store is not None and store.locked,
        own=own,
        folder=str(site.project / backup.folder) if backup.folder else "",
        recipients=tuple(backup.recipients),
        spool=site.node_dir(backups[0].id) / "spool",
        spool_limit=_SPOOL_LIMIT,
        hosts=tuple(site.addresses[node.id] for node in nodes),
        port=site.ports["postgresql"],
        user=REPLICATOR,
        slot=SLOT,
        managed=len(nodes) > 1,
        programs=tuple((name, tools.programs[name]) for name in names if name in tools.programs),
        env=tuple(sorted(tools.env.items())),
        schedule=backup.schedule,
        parts=(DATABASE, *there),
        data=tuple(str(site.node_dir(node.id) / "data") for node in nodes),
    )
