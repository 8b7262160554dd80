"""What a copy of files or objects holds: a line of JSON for each, in the order of their paths. Pure.

The first line tells of the copy, each other one of a file, a folder, a link or an object. Its content is in
`blobs`: pieces of PIECE bytes (the last one has the rest), each stored once under the keyed digest of its
clear bytes. So the store learns neither what is in them nor whether it is something that it knows.

Invariants, property-tested: writing a line and reading it are inverse, whatever bytes a name has; the order
is the same for files and for objects, so that two lists are compared in one pass and constant memory.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

from asbuilt.plan.basebackup import parse_moment, render_moment
from asbuilt.plan.copies import Part
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PIECE: Final = 7 * 2**20
"""Bytes of a piece: sealed, it is still put with one request."""
BLOBS: Final = "blobs/"
_SUFFIX: Final = ".zst.age"
_SCHEMA: Final = 1
_SETTLED: Final = 2_000_000_000
"""Nanoseconds: what changed so shortly before a copy may have changed again within one tick of a clock."""

_PARTS: Final = {"": "%", ".": "%2E", "..": "%2E%2E"}

EntryKind = Literal["file", "folder", "link", "object", "special"]
_KINDS: Final = frozenset({"file", "folder", "link", "object", "special"})


@dataclass(frozen=True, slots=True)
class Header:
    """The first line.

    Args:
        part: of what it is a copy.
        id: of the copy.
        began: when it began.
        key: of the digests that name its pieces, hex.
    """

    part: Part
    id: str
    began: datetime
    key: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder, link or object.

    Args:
        path: below the folder, or the key. Bytes of a name that are no UTF-8 are surrogates, as in `os`.
        kind: what it is. Of what is `special` (a socket, a device) there is nothing but its name.
        size: bytes of its content.
        mtime: when it was written, in nanoseconds since 1970.
        mode: permissions; 0 for an object.
        stamp: differs when the content may differ; empty where that is not known.
        blobs: names of the pieces of its content, in order.
        target: what a link says.
        headers: content type, user metadata and the like of an object, by names in small letters.
        problem: why it is not, or not whole, in the copy; empty for nothing.
        changed: when anything about it changed, in nanoseconds. Not written.
    """

    path: str
    kind: EntryKind
    size: int = 0
    mtime: int = 0
    mode: int = 0
    stamp: str = ""
    blobs: tuple[str, ...] = ()
    target: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    problem: str = ""
    changed: int = 0

    @property
    def order(self) -> tuple[str, ...]:
        """What entries are sorted by: a folder, then what is in it."""
        return tuple(self.path.split("/"))

    @property
    def has_content(self) -> bool:
        """It has bytes of its own to be stored."""
        return self.kind in {"file", "object"} and not self.problem


def render_header(header: Header) -> str:
    """The first line."""
    raw = {"schema": _SCHEMA, "part": header.part, "id": header.id, "began": render_moment(header.began)}
    return json.dumps({**raw, "piece": PIECE, "key": header.key}) + "\n"


def parse_header(line: str) -> Header:
    """The inverse of `render_header`. Raises AsbuiltError RESTORE-012."""
    try:
        raw = json.loads(line)
        if raw["schema"] != _SCHEMA:
            raise ValueError(f"schema {raw['schema']!r} is not {_SCHEMA}")  # noqa: TRY301 - told below
        return Header(raw["part"], str(raw["id"]), parse_moment(raw["began"]), str(raw["key"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_understood(error) from error


def render_entry(entry: Entry) -> str:
    """One line; what is nothing is left out."""
    raw: dict[str, Any] = {"path": entry.path, "kind": entry.kind}
    if entry.kind in {"file", "object"}:
        raw["size"] = entry.size
    if entry.mode:
        raw["mode"] = f"{entry.mode:04o}"
    for name in ("mtime", "stamp", "target", "problem"):
        if value := getattr(entry, name):
            raw[name] = value
    if entry.headers:
        raw["headers"] = dict(entry.headers)
    if entry.blobs:
        raw["blobs"] = list(entry.blobs)
    return json.dumps(raw, separators=(",", ":")) + "\n"


def parse_entry(line: str) -> Entry:
    """The inverse of `render_entry`. Raises AsbuiltError RESTORE-012."""
    try:
        raw = json.loads(line)
        if raw["kind"] not in _KINDS:
            raise ValueError(f"{raw['kind']!r} is no kind of entry")  # noqa: TRY301 - told below
        return Entry(
            path=str(raw["path"]),
            kind=cast("EntryKind", raw["kind"]),
            size=int(raw.get("size", 0)),
            mtime=int(raw.get("mtime", 0)),
            mode=int(raw.get("mode", "0"), 8),
            stamp=str(raw.get("stamp", "")),
            blobs=tuple(map(str, raw.get("blobs", ()))),
            target=str(raw.get("target", "")),
            headers=tuple((str(name), str(value)) for name, value in raw.get("headers", {}).items()),
            problem=str(raw.get("problem", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_understood(error) from error


def _not_understood(error: Exception) -> AsbuiltError:
    return AsbuiltError(
        "RESTORE-012",
        f"a manifest cannot be understood: {error!r}",
        hint="another backup may be whole: asbuilt backup list",
    )


class Pair(NamedTuple):
    """The same path in two lists; None where one of them has it not."""

    before: Entry | None
    now: Entry | None


def pair_up(before: Iterable[Entry], now: Iterable[Entry]) -> Iterator[Pair]:
    """Walk two lists side by side, both in the order of paths."""
    left, right = iter(before), iter(now)
    old, new = next(left, None), next(right, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old.order < new.order):
            yield Pair(old, None)
            old = next(left, None)
        elif old is None or new.order < old.order:
            yield Pair(None, new)
            new = next(right, None)
        else:
            yield Pair(old, new)
            old, new = next(left, None), next(right, None)


def is_unchanged(pair: Pair, began: datetime) -> bool:
    """Whether the content is that of the earlier copy, which began then, so that it need not be read."""
    before, now = pair
    if before is None or now is None or not now.stamp or before.problem:
        return False
    if (before.kind, before.size, before.mtime) != (now.kind, now.size, now.mtime):
        return False
    return before.stamp == now.stamp and now.changed < int(began.timestamp()) * 1_000_000_000 - _SETTLED


def render_file(path: str) -> str:
    """The path of the file below a folder in which an object can be put that has this key.

    The same for almost every key; parts that a file system takes for something else are written as `%`,
    `%2E`, `%2E%2E`. So nothing leaves the folder.
    """
    return "/".join(_PARTS.get(part, part.replace("\0", "%00")) for part in path.split("/"))


def name_blob(key: bytes, content: bytes) -> str:
    """The name of a piece: HMAC-SHA256 of its clear bytes, hex."""
    return hmac.digest(key, content, hashlib.sha256).hex()


def render_blob_key(name: str) -> str:
    """Where a piece is stored."""
    return f"{BLOBS}{name[:2]}/{name}{_SUFFIX}"


def derive_key(identity: bytes, recipients: tuple[str, ...]) -> bytes:
    """The key of the names of pieces.

    It depends on whom they are sealed for: when these change, everything is stored anew for the new ones.
    """
    text = "\n".join(("asbuilt blobs 1", *sorted(set(recipients))))
    return hmac.digest(identity, text.encode(), hashlib.sha256)
