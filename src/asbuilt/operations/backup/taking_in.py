"""Fills a catalogue that knows nothing from what is in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.record.catalogue import Listed

if TYPE_CHECKING:
    from asbuilt.exec.store import Store
    from asbuilt.record.catalogue import Catalogue


def take_in(catalogue: Catalogue, store: Store) -> None:
    """Objects from a listing, and what lies beside each base backup. Nothing may be removed meanwhile."""
    catalogue.reconcile(Listed(one.key, one.size, one.modified.timestamp()) for one in store.list())
    for one in catalogue.stored("base/"):
        if one.key.endswith("/backup.json"):
            with store.get(one.key) as stream:
                catalogue.remember_base(one.key.split("/")[1], stream.read().decode())
