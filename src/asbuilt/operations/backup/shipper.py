"""Sends the received log from the spool to the store.

Whole segments, and every few seconds what is new of the one that is being filled, so that the loss of
everything here loses seconds and not a segment.

Invariants: a file leaves the spool only after the store confirmed it and the catalogue says so. The watermark
never runs ahead of what is stored.
"""

from __future__ import annotations

import io
import re
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from asbuilt.plan.retention import SUPERSEDED
from asbuilt.plan.stored import SUFFIX, render_history_key, render_piece_key, render_segment_key
from asbuilt.plan.wal import Lsn, Segment
from asbuilt.record.catalogue import StoredObject, Watermark

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asbuilt.exec.sealing import Sealer
    from asbuilt.exec.store import Store
    from asbuilt.exec.streams import Readable
    from asbuilt.record.catalogue import Catalogue

_SEGMENT: Final = re.compile(r"[0-9A-F]{24}")
_PARTIAL: Final = re.compile(r"([0-9A-F]{24})\.partial")
_HISTORY: Final = re.compile(r"([0-9A-F]{8})\.history")
_PAGE: Final = 8192
"""A piece begins at a page of the log: the page that was being written is sent again, whole."""


class Spooled(NamedTuple):
    """What is in the spool, by name, each in the order of the log."""

    segments: tuple[str, ...]
    partials: tuple[str, ...]
    histories: tuple[str, ...]
    size: int


def read_spool(folder: Path) -> Spooled:
    """Look into the spool. Files of other names are not ours."""
    names: dict[str, int] = {}
    for entry in folder.iterdir():
        with suppress(FileNotFoundError):  # a partial file was renamed meanwhile
            names[entry.name] = entry.stat().st_blocks * 512
    return Spooled(
        tuple(sorted(filter(_SEGMENT.fullmatch, names), key=_in_order)),
        tuple(sorted(filter(_PARTIAL.fullmatch, names), key=_in_order)),
        tuple(sorted(filter(_HISTORY.fullmatch, names))),
        sum(names.values()),
    )


class Received(NamedTuple):
    """A position that the log was received up to, and its timeline."""

    timeline: int
    lsn: Lsn


def _count_known(segment: Segment, received: Received | None) -> int:
    """How many bytes of a segment are known to be received, whatever they are."""
    if received is None or received.timeline != segment.timeline or not segment.start < received.lsn:
        return 0
    return min(received.lsn, segment.end) - segment.start


def _in_order(name: str) -> tuple[str, str]:
    """By position, then by timeline: after a failover the same segment begins anew on the next timeline."""
    return name[8:24], name[:8]


class Shipper:
    """Sends what is in one spool to one store.

    Args:
        spool: the folder.
        store: where to.
        sealer: seals it.
        catalogue: knows what is stored.
        clock: seconds since 1970 UTC.
    """

    def __init__(
        self, spool: Path, store: Store, sealer: Sealer, catalogue: Catalogue, clock: Callable[[], float]
    ) -> None:
        self._spool, self._store, self._sealer = spool, store, sealer
        self._catalogue, self._clock = catalogue, clock
        self._ends: dict[str, int] = {}
        """By segment: how much of it is stored in pieces."""
        self._seen: dict[str, int] = {}
        """By partial file: its time when it was last looked at, in nanoseconds."""
        self._superseded: deque[tuple[float, str]] = deque()
        """Whole segments whose pieces are still stored, and since when."""

    def ship(self, received: Received | None = None) -> int:
        """Send what is new; the number of objects that were stored. Raises AsbuiltError of the store.

        Args:
            received: up to where the log was received before this was called: a log may end in zeros, which
                look like what is not written yet.
        """
        found = read_spool(self._spool)
        count = sum(self._ship_history(name) for name in found.histories)
        for name in found.segments:
            count += self._ship_segment(name, keep=name == found.segments[-1])
        for name in found.partials:
            count += self._ship_piece(name, received, keep=name == found.partials[-1])
        self._remove_superseded()
        return count

    def _remove_superseded(self) -> None:
        """Pieces stay a while beside their whole segment, for a restore that reads them."""
        while self._superseded and self._clock() - self._superseded[0][0] > SUPERSEDED.total_seconds():
            key = self._superseded[0][1]
            beginning = key.removesuffix(SUFFIX) + "."
            pieces = [one.key for one in self._catalogue.stored(beginning) if one.key != key]
            self._catalogue.forget(pieces)
            self._store.delete(pieces)
            self._superseded.popleft()

    def _ship_history(self, name: str) -> bool:
        key = render_history_key(int(name[:8], 16))
        if self._catalogue.find(key) is not None:
            return False
        self._put(key, io.BytesIO((self._spool / name).read_bytes()))
        return True

    def _ship_segment(self, name: str, *, keep: bool) -> bool:
        segment, path = Segment.parse(name), self._spool / name
        key = render_segment_key(segment)
        new = self._catalogue.find(key) is None
        if new:
            at = self._clock()
            with path.open("rb") as file:
                self._put(key, file, Watermark(segment.timeline, str(segment.end), at))
            self._superseded.append((at, key))
            self._ends.pop(name, None)
        if not keep:  # pg_receivewal goes on where its files end
            path.unlink(missing_ok=True)
        return new

    def _ship_piece(self, name: str, received: Received | None, *, keep: bool) -> bool:
        segment, path = Segment.parse(name[:24]), self._spool / name
        try:
            changed, at = path.stat().st_mtime_ns, self._clock()
            known = _count_known(segment, received)
            if self._seen.get(name) == changed and known <= self._find_end(name[:24], segment):
                if not keep:  # the log went on elsewhere, on another timeline
                    path.unlink(missing_ok=True)
                return False
            begin = self._find_end(name[:24], segment) // _PAGE * _PAGE
            with path.open("rb") as file:
                file.seek(begin)
                data = file.read().rstrip(b"\0")  # it is as long as a whole one from the start, with zeros
        except FileNotFoundError:
            return False  # it is whole now
        data = data.ljust(known - begin, b"\0")
        end = begin + len(data)
        if end > self._ends[name[:24]]:
            key = render_piece_key(segment, begin, end)
            self._put(key, io.BytesIO(data), Watermark(segment.timeline, str(segment.start.plus(end)), at))
            self._ends[name[:24]] = end
        self._seen[name] = changed
        return bool(data)

    def _find_end(self, name: str, segment: Segment) -> int:
        """How much of a segment is stored already: known, or found in the catalogue after a start."""
        if name not in self._ends:
            beginning = render_segment_key(segment).removesuffix(SUFFIX) + "."
            ends = [
                int(one.key.removeprefix(beginning)[9:17], 16)
                for one in self._catalogue.stored(beginning)
                if "-" in one.key
            ]
            self._ends[name] = max(ends, default=0)
        return self._ends[name]

    def _put(self, key: str, data: Readable, mark: Watermark | None = None) -> None:
        with self._sealer.seal(data) as sealed:
            put = self._store.put(key, sealed)
        with self._catalogue.write():
            self._catalogue.remember([StoredObject(key, put.size, put.sha256, self._clock())])
            before = self._catalogue.watermark()
            if mark is not None and (before is None or _place(mark) > _place(before)):
                self._catalogue.remember_watermark(mark)


def _place(mark: Watermark) -> tuple[int, Lsn, float]:
    return mark.timeline, Lsn.parse(mark.lsn), mark.at
