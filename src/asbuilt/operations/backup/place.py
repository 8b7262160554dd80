"""Where the backups of an environment are kept, opened with its secrets; and what they are sealed for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asbuilt.engines.backup.settings import IDENTITY, BackupSettings, variable
from asbuilt.engines.seaweedfs.admin import Gateway
from asbuilt.engines.seaweedfs.names import ADMIN_ACCESS, ADMIN_SECRET
from asbuilt.exec.sealing import Sealer, find_recipient
from asbuilt.exec.store import BucketSettings, FolderSettings, Store, open_store
from asbuilt.values.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS: Final = ("access", "secret")
"""Keys of a store that the spec names, in variables of our own processes."""


def open_place(settings: BackupSettings, secret: Callable[[str], Secret], system: str) -> Store:
    """The store. Asks nothing of it.

    Args:
        settings: of the environment.
        system: whose backups: identifier of a database; empty for what is about all of them.
        secret: the environment's generated secrets. Keys of a store of the spec come from variables of ours.
    """
    prefix = f"{settings.prefix}{system}/" if system else settings.prefix
    if settings.folder:
        return open_store(FolderSettings(Path(settings.folder), prefix))
    if settings.own:
        access, key = secret(ADMIN_ACCESS), secret(ADMIN_SECRET)
    else:
        access, key = (Secret(os.environ.get(variable(name), "")) for name in KEYS)
    return open_store(
        BucketSettings(
            settings.endpoint, settings.bucket, access, key, settings.region, prefix, settings.locked
        )
    )


def make_own_bucket(settings: BackupSettings, secret: Callable[[str], Secret]) -> None:
    """Make the bucket in the environment's own object storage. Raises AsbuiltError OBJECTS-001."""
    if not settings.own:
        return
    host, _, port = settings.endpoint.removeprefix("http://").rpartition(":")
    gateway = Gateway(host, int(port), settings.region, secret(ADMIN_ACCESS), secret(ADMIN_SECRET))
    gateway.make_bucket(settings.bucket)


def open_sealer(settings: BackupSettings, secret: Callable[[str], Secret]) -> Sealer:
    """Seals for the keys of the spec and for the environment's own."""
    return Sealer((find_recipient(secret(IDENTITY)), *settings.recipients))
