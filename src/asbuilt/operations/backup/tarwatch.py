"""Passes a tar stream on and keeps the text of a few small files that are in it.

`pg_basebackup` puts what it knows of a backup (its positions in the log) into the tar that it writes, and
nowhere else. Invariant: what is passed on is what came, byte for byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asbuilt.exec.streams import CHUNK
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from asbuilt.exec.streams import Readable

_BLOCK: Final = 512
_LARGEST: Final = 512 * 2**20
"""Bytes of a kept file at most: a manifest has some 150 for each file of the database."""


class TarWatch:
    """A reader in the middle. `kept` has the files that were asked for, by name, once they went by."""

    def __init__(self, reader: Readable, names: frozenset[str]) -> None:
        self._reader, self._names = reader, names
        self.kept: dict[str, bytes] = {}
        self.files = 0
        self._header = bytearray()
        self._skip = 0
        self._keep: bytearray | None = None
        self._keep_left = 0
        self._name = ""

    def read(self, size: int = CHUNK, /) -> bytes:
        """What the stream gives."""
        chunk = self._reader.read(size)
        self._look(memoryview(chunk))
        return chunk

    def _look(self, chunk: memoryview) -> None:
        while chunk:
            if self._skip or self._keep is not None:
                chunk = self._pass(chunk)
                continue
            taken = chunk[: _BLOCK - len(self._header)]
            self._header += taken
            chunk = chunk[len(taken) :]
            if len(self._header) == _BLOCK:
                self._begin(bytes(self._header))
                self._header.clear()

    def _pass(self, chunk: memoryview) -> memoryview:
        if self._keep is not None:
            taken = chunk[: self._keep_left]
            self._keep += taken
            self._keep_left -= len(taken)
            if not self._keep_left:
                self.kept[self._name], self._keep = bytes(self._keep), None
            return chunk[len(taken) :]
        count = min(self._skip, len(chunk))
        self._skip -= count
        return chunk[count:]

    def _begin(self, header: bytes) -> None:
        if not header.strip(b"\0"):
            return  # the end is blocks of zeros
        try:
            size = int(header[124:136].strip(b" \0") or b"0", 8)
        except ValueError:
            raise AsbuiltError(
                "BACKUP-010", "what pg_basebackup wrote is no tar file", hint="take the backup again"
            ) from None
        self.files += 1
        self._skip = -size % _BLOCK
        self._name = header[:100].split(b"\0", 1)[0].decode(errors="replace")
        if self._name in self._names and 0 < size <= _LARGEST:
            self._keep, self._keep_left = bytearray(), size
        else:
            self._skip += size
