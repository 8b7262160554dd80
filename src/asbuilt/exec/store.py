"""The store of backups: a bucket or a folder, opened from its settings. Opening asks nothing of anybody.

What every store does and promises is in `objects`; this is the door to it.
"""

from __future__ import annotations

from asbuilt.exec.bucket import BucketSettings, open_bucket, open_memory
from asbuilt.exec.folder import FolderSettings, FolderStore
from asbuilt.exec.objects import DIFFERENT, MISSING, REFUSED, UNREACHABLE, Entry, Put, Store

__all__ = [
    "DIFFERENT",
    "MISSING",
    "REFUSED",
    "UNREACHABLE",
    "BucketSettings",
    "Entry",
    "FolderSettings",
    "Put",
    "Store",
    "StoreSettings",
    "open_memory",
    "open_store",
]

StoreSettings = BucketSettings | FolderSettings


def open_store(settings: StoreSettings) -> Store:
    """The store of these settings."""
    if isinstance(settings, FolderSettings):
        return FolderStore(settings)
    return open_bucket(settings)
