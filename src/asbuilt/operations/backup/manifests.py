"""Manifests in the store: opened as a stream of entries, so that a million of them take no memory."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING

from asbuilt.exec.sealing import open_sealed
from asbuilt.exec.store import DIFFERENT
from asbuilt.exec.streams import Measured, Proven
from asbuilt.plan.manifest import parse_entry, parse_header
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.exec.streams import Stream
    from asbuilt.operations.backup.context import Backups
    from asbuilt.plan.copies import Copy
    from asbuilt.plan.manifest import Entry, Header


@contextmanager
def open_copy(backups: Backups, copy: Copy) -> Iterator[Stream]:
    """The clear bytes of a dump or a manifest. Their end is proven to be that of what was stored.

    Raises AsbuiltError STORE-00x, SEAL-00x.
    """
    with backups.store.get(copy.key) as stored:
        meter = Measured(stored)

        def prove() -> None:
            if meter.sha256 != copy.sha256:
                raise AsbuiltError(
                    DIFFERENT,
                    f"{copy.key} is not what was stored",
                    where=backups.store.where,
                    hint="another backup may be whole: asbuilt backup list",
                )

        with open_sealed(Proven(meter, prove), backups.identities, name=copy.key) as clear:
            yield clear


@contextmanager
def open_manifest(backups: Backups, copy: Copy) -> Iterator[tuple[Header, Iterator[Entry]]]:
    """The header and the entries of a copy of files or objects. Raises as `open_copy`, and RESTORE-012."""
    with open_copy(backups, copy) as clear, io.TextIOWrapper(io.BufferedReader(clear)) as lines:
        yield parse_header(lines.readline()), map(parse_entry, lines)
