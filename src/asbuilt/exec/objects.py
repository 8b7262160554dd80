"""What every store of backups is: named objects that are put whole or not at all.

Invariants: an object that `put` returned for is there, as long as what was read, and survives a power cut of
whoever keeps it. One whose reader failed is not there.
"""

from __future__ import annotations

import heapq
import re
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from asbuilt.exec.streams import CHUNK, Measured, Readable, Stream
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator

UNREACHABLE: Final = "STORE-001"
"""Nobody answers, or it is too busy or full: passes by itself or by somebody's work. Try again later."""
REFUSED: Final = "STORE-002"
"""Wrong keys, no such bucket, no right to write: trying again changes nothing."""
MISSING: Final = "STORE-003"
"""There is no such object."""
DIFFERENT: Final = "STORE-004"
"""The object is not what was put: another size, another digest, or cut off."""

_KEY: Final = re.compile(r"(?:(?!\.)[A-Za-z0-9._=-]+/)*(?!\.)[A-Za-z0-9._=-]+")
_FOLDER: Final = re.compile(r"(?:(?!\.)[A-Za-z0-9._=-]+/)*")
_BEFORE_SLASH: Final = re.compile(r"[\x00-.]")
_AFTER_SLASH: Final = "0"


class Put(NamedTuple):
    """What was stored: bytes, and SHA-256 in hex."""

    size: int
    sha256: str


class Entry(NamedTuple):
    """An object in a listing. `modified` is what the store says, with its time zone."""

    key: str
    size: int
    modified: dt.datetime


class Keyed(Protocol):
    """What has a key."""

    @property
    def key(self) -> str:
        """Its key."""


K = TypeVar("K", bound=Keyed)


class Store(ABC):
    """Where backups are kept. All methods may be used by several threads at once.

    Keys are relative paths of letters, digits and `._=-`; no part of them starts with a dot. Another key is a
    ValueError, and what somebody else put under one is not listed. Errors have the codes above.

    Args:
        where: what it is, for errors; without a secret.
        prefix: folder that all keys are below, or empty.
    """

    def __init__(self, where: str, prefix: str) -> None:
        check_folder(prefix)
        self._prefix = prefix
        self.where = where

    def put(self, key: str, reader: Readable, *, expected: int = 0, storage_class: str = "") -> Put:
        """Store what the reader gives under a key, in the place of what was there.

        Afterwards the store is asked for the size. If it is not that of what was read, the object is removed
        again: a cut object must not be taken for a backup.

        Args:
            key: its name.
            reader: read to its end in the calling thread. When it fails, its error is raised.
            expected: bytes that may come, roughly: a store may need to know for more than 50 GB.
            storage_class: the store's word for a cheaper kind of storage; ignored by those that have none.
        """
        check_key(key)
        meter = reader.meter if isinstance(reader, Stream) else None
        if meter is None or meter.size:
            reader = meter = Measured(reader)
        self._put(key, reader, expected, storage_class)
        found = self._size(key)
        if found != meter.size:
            there = "none" if found is None else str(found)
            with suppress(AsbuiltError):
                self.delete([key])
            raise AsbuiltError(
                DIFFERENT,
                f"{meter.size} bytes were stored as {key}, and {there} are there",
                where=self.where,
                hint="see whether the store is full or failing. What is there of it was removed",
            )
        return Put(meter.size, meter.sha256)

    def digest(self, key: str) -> Put:
        """Read an object to its end: what is really there."""
        with self.get(key) as stream:
            meter = Measured(stream)
            while meter.read(CHUNK):
                pass
        return Put(meter.size, meter.sha256)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """The objects below a folder (`wal/`), or all, as they are asked for: memory stays constant.

        In the order of their keys, compared part by part (`order_of`): what is in `a/` comes before `a.b`.
        """
        check_folder(prefix)
        ours = (entry for entry in self._list(prefix) if _KEY.fullmatch(entry.key))
        return in_order(ours, below=len(prefix))

    @abstractmethod
    def get(self, key: str) -> Stream:
        """The bytes of an object. Close it after use. Reading raises STORE-004 when they end too early."""

    @abstractmethod
    def head(self, key: str) -> Entry:
        """Size and time of an object. Raises STORE-003 when it is not there."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects. One that is not there is fine. After an error some may be gone and some not."""

    @abstractmethod
    def _put(self, key: str, reader: Readable, expected: int, storage_class: str) -> None:
        """Store an object, whole or not at all."""

    @abstractmethod
    def _list(self, prefix: str) -> Iterator[Entry]:
        """What is there, in one of the two orders that `in_order` knows."""

    def _size(self, key: str) -> int | None:
        try:
            return self.head(key).size
        except AsbuiltError as error:
            if error.code != MISSING:
                raise
            return None

    def _missing(self, key: str) -> AsbuiltError:
        return AsbuiltError(
            MISSING,
            f"{key} is not in the store",
            where=self.where,
            hint="somebody removed it; asbuilt backups shows what can still be restored",
        )


def check_key(key: str) -> None:
    """Raise ValueError unless it is a key: what no store takes for something else."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"no key of an object: {key!r}")


def check_folder(prefix: str) -> None:
    """Raise ValueError unless it is a folder of keys, like `wal/`, or empty."""
    if not _FOLDER.fullmatch(prefix):
        raise ValueError(f"no folder of objects: {prefix!r}")


def cut_short(where: str, key: str, size: int, expected: int) -> AsbuiltError:
    """The error of an object that ends too early."""
    return AsbuiltError(
        DIFFERENT,
        f"{key} ends after {size} of {expected} bytes",
        where=where,
        hint="the store lost a part of it, or it was replaced meanwhile: try again, then use another backup",
    )


def order_of(key: str) -> tuple[str, ...]:
    """What keys are sorted by."""
    return tuple(key.split("/"))


def in_order(entries: Iterable[K], *, below: int = 0) -> Iterator[K]:
    """The entries in the order of `order_of`, of which only a few are held back.

    S3 sorts keys as bytes, so that `a.b` comes before `a/c`; a server that keeps folders sorts as they do.
    Both orders may go in. An entry like `a.b` waits until nothing of `a/` can come any more.

    Args:
        entries: sorted in either way.
        below: length of the beginning that all keys share.
    """
    waiting: list[tuple[tuple[str, ...], int, K]] = []
    for number, entry in enumerate(entries):
        heapq.heappush(waiting, (order_of(entry.key), number, entry))
        while waiting and not _may_precede(entry.key, waiting[0][2].key, below):
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def _may_precede(reached: str, key: str, below: int) -> bool:
    """Whether something that belongs before `key` may come in a listing that has reached another key."""
    # only a folder named like the beginning of this key, which ends before a byte that is less than a slash
    return any(reached < key[: found.start()] + _AFTER_SLASH for found in _BEFORE_SLASH.finditer(key, below))
