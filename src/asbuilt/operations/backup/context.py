"""Everything that a verb about backups works with: the settings, the store, the catalogue, the keys."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asbuilt.engines.backup.config import build_settings
from asbuilt.engines.backup.settings import IDENTITY, BackupSettings, variable
from asbuilt.engines.postgresql.admin import DatabaseAdmin, open_admin
from asbuilt.exec.store import Store
from asbuilt.operations.backup.lineage import choose_system
from asbuilt.operations.backup.place import open_place, open_sealer
from asbuilt.operations.backup.state import LOCK, catalogue_path
from asbuilt.operations.backup.taking_in import take_in
from asbuilt.operations.prepare import Prepared, prepare
from asbuilt.operations.progress import Tell
from asbuilt.record.catalogue import Catalogue
from asbuilt.values.errors import AsbuiltError, RefusedError
from asbuilt.values.secret import Secret

if TYPE_CHECKING:
    from asbuilt.exec.sealing import Sealer
    from asbuilt.values.stage import Stage


@dataclass(frozen=True, slots=True)
class Backups:
    """The backups of one environment.

    Args:
        prepared: the environment.
        settings: of its backups.
        system: whose they are: identifier of the database.
        store: where they are.
        catalogue: what is known to be there.
        secret: the environment's generated secrets.
        identities: keys that open backups.
        admin: asks the database.
        tell: hears what is done and waited for.
    """

    prepared: Prepared
    settings: BackupSettings
    system: str
    store: Store
    catalogue: Catalogue
    secret: Callable[[str], Secret]
    identities: tuple[Secret, ...]
    admin: DatabaseAdmin
    tell: Tell

    @property
    def stage(self) -> Stage:
        """The environment."""
        return self.prepared.stage

    @property
    def sealer(self) -> Sealer:
        """Seals what is stored."""
        return open_sealer(self.settings, self.secret)


@contextmanager
def open_backups(stage: Stage, tell: Tell, system: str | None = None) -> Iterator[Backups]:
    """The backups of an environment.

    Args:
        stage: the environment.
        tell: hears what is done.
        system: those of another database that was in its place; by default of the one that is there.

    Raises:
        RefusedError: BACKUP-001 where there are none, BACKUP-008 where there are none of that database.
    """
    prepared = prepare(stage, touch=False, tell=tell)
    settings = build_settings(prepared.architecture, prepared.site)
    if settings is None or not stage.root.is_dir():
        raise RefusedError(
            "BACKUP-001",
            f"{stage.environment} has no backups",
            where=str(stage.file),
            hint="a database with `backup: {schedule: daily}` has them, once the environment is up",
        )
    for name, value in prepared.site.backup_secrets.items():
        os.environ.setdefault(variable(name), value.reveal())
    secret = prepared.site.secret
    chosen = choose_system(settings, secret, system)
    store = open_place(settings, secret, chosen)
    catalogue = Catalogue.open(catalogue_path(stage.root, chosen), clock=time.time)
    try:
        if catalogue.incomplete and chosen == system:
            take_in(catalogue, store)  # nobody else does: the archiver is about the database here
        yield Backups(
            prepared,
            settings,
            chosen,
            store,
            catalogue,
            secret,
            (secret(IDENTITY),),
            open_admin(prepared.architecture, prepared.site),
            tell,
        )
    finally:
        catalogue.close()


@contextmanager
def hold(backups: Backups, what: str) -> Iterator[None]:
    """Nobody else takes, verifies or removes backups meanwhile. Raises RefusedError BACKUP-002."""
    path = backups.stage.root / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        doing = os.read(descriptor, 200).decode(errors="replace").strip()
        os.close(descriptor)
        raise RefusedError(
            "BACKUP-002",
            f"backups are in use: {doing or 'another process holds them'}",
            where=str(path),
            hint="wait for it to end, and try again",
        ) from None
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{what} (process {os.getpid()})\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def fail(code: str, what: str, *, evidence: tuple[str, ...] = (), hint: str = "") -> AsbuiltError:
    """An error about backups."""
    return AsbuiltError(code, what, evidence=evidence, hint=hint or "asbuilt logs --node backup-1 says more")
