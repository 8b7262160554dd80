"""Backups of a folder of files without an environment: a store in a folder, a catalogue, and no engine."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from asbuilt.engines.backup.settings import IDENTITY
from asbuilt.exec.folder import FolderSettings, FolderStore
from asbuilt.exec.sealing import make_identity
from asbuilt.operations.backup.context import Backups
from asbuilt.operations.backup.taking_in import take_in
from asbuilt.record.catalogue import Catalogue
from asbuilt.values.units import Duration

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.operations.progress import Event


class CopyYard:
    """An environment that has nothing but files."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "environment"
        self.files = self.root / "files"
        self.vault = folder / "vault"
        self.files.mkdir(parents=True)
        self.vault.mkdir()
        self.told: list[str] = []
        self.identity, self.recipient = make_identity()
        self.recipients: tuple[str, ...] = ()
        self.retention = Duration(1)
        self.open()

    def open(self) -> None:
        """As another process does: it knows what the catalogue knows."""
        self.store = FolderStore(FolderSettings(self.vault))
        self.catalogue = Catalogue.open(self.root / "catalogue.sqlite", clock=time.time)
        if self.catalogue.incomplete:
            take_in(self.catalogue, self.store)

    @property
    def backups(self) -> Backups:
        stage = SimpleNamespace(root=self.root, environment="production")
        policy = SimpleNamespace(retention=self.retention, long_term=None)
        spec = SimpleNamespace(database=SimpleNamespace(backup=policy))
        prepared = SimpleNamespace(
            stage=stage,
            site=SimpleNamespace(root=self.root),
            runner=SimpleNamespace(identity=SimpleNamespace(uid=os.geteuid(), gid=os.getegid())),
            architecture=SimpleNamespace(spec=spec),
        )
        settings = SimpleNamespace(recipients=self.recipients, parts=("database", "files"))
        return Backups(
            prepared=cast("Any", prepared),
            settings=cast("Any", settings),
            system="1",
            store=self.store,
            catalogue=self.catalogue,
            secret={IDENTITY: self.identity}.__getitem__,
            identities=(self.identity,),
            admin=cast("Any", None),
            tell=self._tell,
        )

    def _tell(self, event: Event) -> None:
        if event.kind == "note":
            self.told.append(event.text)

    def blobs(self) -> list[Path]:
        """The pieces in the store."""
        return sorted(self.vault.glob("blobs/*/*"))
