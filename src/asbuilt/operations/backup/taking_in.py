"""Fills a catalogue that knows nothing from what is in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.operations.backup.notes import DESCRIPTION, FOLDERS
from asbuilt.record.catalogue import Listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.exec.store import Store
    from asbuilt.record.catalogue import Catalogue


def take_in(catalogue: Catalogue, store: Store) -> None:
    """Objects from a listing, and what lies beside each backup. Nothing may be removed meanwhile."""
    for folder in FOLDERS:  # first, so that what belongs to a backup is never taken for a leftover
        for one in store.list(f"{folder}/"):
            if one.key.endswith(DESCRIPTION):
                with store.get(one.key) as stream:
                    catalogue.remember_backup(folder, one.key.split("/")[1], stream.read().decode())
    catalogue.reconcile(list_store(store))


def list_store(store: Store, prefix: str = "") -> Iterator[Listed]:
    """What is in the store, or in a folder of it, as the catalogue takes it in."""
    return (Listed(one.key, one.size, one.modified.timestamp()) for one in store.list(prefix))
