"""The node that takes the backups, as one workload. What it does is `operations.backup`.

It is ours and not the app's, so it runs as asbuilt does. Invariant: traffic does not need it; while it is
away the database keeps the log that is not archived yet, up to `max_slot_wal_keep_size`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asbuilt.engines.backup.config import build_settings
from asbuilt.engines.backup.settings import IDENTITY, to_json, variable
from asbuilt.engines.contract import Realization
from asbuilt.engines.postgresql.engine import render_startup
from asbuilt.graph.model import Kind
from asbuilt.plan.site import Tools
from asbuilt.plan.workload import Listen, Probe, Stop, Workload
from asbuilt.values.python import own_python

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.exec.runner import Runner
    from asbuilt.graph.model import Architecture
    from asbuilt.plan.site import Site

MODULE: Final = "asbuilt.operations.backup.archiver"
SIDECAR_WORKLOAD: Final = "backup-1.sidecar"
_STOP: Final = Stop(grace=20.0)
"""Long enough to send what is under way to a store that answers."""


@dataclass(frozen=True, slots=True)
class BackupEngine:
    """Realizes the backup node."""

    name: str = "backup"
    kinds: frozenset[Kind] = frozenset({Kind.BACKUP})

    def find(self, architecture: Architecture, runner: Runner) -> Tools:  # noqa: ARG002 - the contract
        """Nothing to find: its programs are those of the database."""
        return Tools(self.name, "1", "system", "asbuilt itself, with the programs of PostgreSQL", {})

    def realize(self, architecture: Architecture, site: Site, runner: Runner) -> Realization:  # noqa: ARG002
        """The workload; nothing where the database has no backups."""
        nodes = architecture.of(Kind.BACKUP)
        settings = build_settings(architecture, site)
        if not nodes or settings is None:
            return Realization()
        node = nodes[0]
        site.secret(IDENTITY)  # on disk before anything is sealed for it
        folder = site.node_dir(node.id)
        workload = Workload(
            id=node.id,
            node=node.id,
            kind=node.kind,
            engine="asbuilt",
            argv=(
                own_python(),
                "-P",
                "-m",
                MODULE,
                json.dumps(to_json(settings), sort_keys=True),
                str(site.project / site.file),
                site.root.parent.name,
                site.root.name,
                str(site.root.parent.parent),
            ),
            cwd=str(folder),
            secret_env=tuple((variable(name), one) for name, one in sorted(site.backup_secrets.items())),
            directories=(str(folder), str(settings.spool)),
            ready=Probe(),
            needs=tuple(one.id for one in (*architecture.of(Kind.DATABASE), *architecture.of(Kind.OBJECTS))),
            stop=_STOP,
            zone=node.zone,
            unprivileged=False,
        )
        restored = (build_sidecar(architecture, site),) if site.sidecar else ()
        return Realization((workload, *restored), notes=_notes(architecture))


def build_sidecar(architecture: Architecture, site: Site) -> Workload:
    """The restored copy of the database: a server of its own beside it, at the address of the backups."""
    node = architecture.of(Kind.BACKUP)[0]
    folder, host, port = sidecar_dir(site), site.addresses[node.id], site.ports["postgresql"]
    tools = site.tools["postgresql"]
    words = (f"config_file={folder / 'postgresql.conf'}", f"hba_file={folder / 'pg_hba.conf'}")
    return Workload(
        id=SIDECAR_WORKLOAD,
        node=node.id,
        kind=node.kind,
        engine=f"postgresql {tools.version}",
        argv=(tools.programs["postgres"], "-D", str(folder / "data"), "-c", words[0], "-c", words[1]),
        cwd=str(folder),
        env=tuple(sorted({"LANG": "C.UTF-8", **tools.env}.items())),
        listens=(Listen(host, port, "who looks into the restored copy"),),
        ready=Probe(render_startup(host, port), start_timeout=120.0),
        stop=Stop("SIGINT", 30.0),
        address=f"{host}:{port}",
        zone=node.zone,
    )


def sidecar_dir(site: Site) -> Path:
    """Where the restored copy lives."""
    return site.root / "sidecar"


def _notes(architecture: Architecture) -> tuple[str, ...]:
    database = architecture.spec.database
    backup = database.backup if database else None
    if backup is None or backup.store is not None or backup.folder is not None:
        return ()
    return ("backups share the fate of this machine: database.backup.store or .folder names a place apart",)
