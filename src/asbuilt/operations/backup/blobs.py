"""Pieces of content in the store, each once, under the keyed digest of its clear bytes.

Invariant: what is read back is what its name says, or an error.
"""

from __future__ import annotations

import io
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition
from typing import TYPE_CHECKING, Final

from asbuilt.exec.sealing import Sealer, open_sealed
from asbuilt.exec.store import DIFFERENT, Store
from asbuilt.plan.manifest import PIECE, name_blob, render_blob_key
from asbuilt.record.catalogue import Catalogue, StoredObject
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from asbuilt.exec.streams import Readable
    from asbuilt.values.secret import Secret

_BATCH: Final = 100


@dataclass
class Blobs:
    """The pieces that are stored. May be used by several threads.

    Args:
        store: where they are.
        catalogue: what is known to be there.
        sealer: seals new ones.
        key: of their names.
        read: clear bytes that were read so far.
        added: bytes that were stored so far.
    """

    store: Store
    catalogue: Catalogue
    sealer: Sealer
    key: bytes
    read: int = 0
    added: int = 0
    _moved: Condition = field(default_factory=Condition)
    _under_way: set[str] = field(default_factory=set)
    _pending: dict[str, StoredObject] = field(default_factory=dict)
    """Stored, and not in the catalogue yet: a commit for each would cost as much as the piece."""

    def keep(self, reader: Readable) -> tuple[tuple[str, ...], int]:
        """Store the pieces that are not there yet; the names of all, in order, and their bytes."""
        names: list[str] = []
        size = 0
        while piece := _read_piece(reader):
            names.append(self._put(piece))
            size += len(piece)
        return tuple(names), size

    def has(self, names: Sequence[str]) -> bool:
        """Whether all of these are stored."""
        return all(self._is_stored(render_blob_key(name)) for name in names)

    def flush(self) -> None:
        """Have the catalogue know of all that was stored."""
        with self._moved:
            self.catalogue.remember(self._pending.values())
            self._pending.clear()

    def _is_stored(self, key: str) -> bool:
        return key in self._pending or self.catalogue.find(key) is not None

    def _put(self, piece: bytes) -> str:
        name = name_blob(self.key, piece)
        key, added, full = render_blob_key(name), 0, False
        with self._alone_with(key):
            if not self._is_stored(key):
                with self.sealer.seal(io.BytesIO(piece)) as sealed:
                    put = self.store.put(key, sealed, expected=len(piece))
                added = put.size
                with self._moved:
                    self._pending[key] = StoredObject(key, put.size, put.sha256, time.time())
                    waiting = sum(one.size for one in self._pending.values())
                    full = len(self._pending) >= _BATCH or waiting >= 2 * PIECE
        if full:
            self.flush()
        with self._moved:
            self.read += len(piece)
            self.added += added
        return name

    @contextmanager
    def _alone_with(self, key: str) -> Iterator[None]:
        """No other thread puts the same piece meanwhile: sealed again it has other bytes and another size."""
        with self._moved:
            self._moved.wait_for(lambda: key not in self._under_way)
            self._under_way.add(key)
        try:
            yield
        finally:
            with self._moved:
                self._under_way.remove(key)
                self._moved.notify_all()


def open_blobs(
    store: Store, names: Sequence[str], key: bytes, identities: Sequence[Secret]
) -> Iterator[bytes]:
    """The content that these pieces make. Raises AsbuiltError STORE-00x or SEAL-00x at a damaged one."""
    for name in names:
        path = render_blob_key(name)
        with store.get(path) as sealed, open_sealed(sealed, identities, name=path) as clear:
            piece = clear.read()
        if name_blob(key, piece) != name:
            raise AsbuiltError(DIFFERENT, f"{path} is not what its name says", where=store.where)
        yield piece


def _read_piece(reader: Readable) -> bytes:
    chunks: list[bytes] = []
    left = PIECE
    while left and (chunk := reader.read(left)):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)
