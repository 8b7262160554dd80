"""What is in a bucket of the object storage, with all that an object has: listed, read and written.

Keys are taken as they are; a client that thinks in paths would refuse some. Invariant: what is read is one
whole object, and told apart from another one that took its place: the answer says which it is.
"""

from __future__ import annotations

import datetime as dt
import http.client
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree as ET

from asbuilt.engines.seaweedfs.admin import Gateway
from asbuilt.exec.objects import in_order
from asbuilt.exec.streams import CHUNK
from asbuilt.plan.manifest import Entry
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from asbuilt.exec.streams import Readable

_PAGE: Final = 1000
_TRIES: Final = 2
_GONE: Final = 404
_OK: Final = range(200, 300)
_HEADERS: Final = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    }
)
"""What belongs to an object, beside its metadata."""
_METADATA: Final = "x-amz-meta-"


class _Listed(NamedTuple):
    """An object in a listing. `mtime` in nanoseconds since 1970."""

    key: str
    size: int
    tag: str
    mtime: int


@dataclass(frozen=True, slots=True)
class Contents:
    """The objects of one bucket. Raises AsbuiltError OBJECTS-002 when the storage does not answer."""

    gateway: Gateway
    bucket: str

    def walk(self) -> Iterator[Entry]:
        """The objects in the order of their keys, as they are asked for."""
        for one in in_order(self._list()):
            yield Entry(one.key, "object", one.size, one.mtime, stamp=one.tag, changed=one.mtime)

    def _list(self) -> Iterator[_Listed]:
        token = ""
        while True:
            query = f"encoding-type=url&list-type=2&max-keys={_PAGE}"
            if token:
                query = f"continuation-token={quote(token, safe='-_.~')}&{query}"
            with self._told("list"):
                status, text = self.gateway.ask("GET", f"/{self.bucket}", query=query)
                if status not in _OK:
                    raise http.client.HTTPException(f"{status} {text[:300]}")
                root = ET.fromstring(text)  # noqa: S314 - of our own storage
            space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
            for one in root.iter(f"{space}Contents"):
                said = {child.tag.removeprefix(space): child.text or "" for child in one}
                yield _Listed(
                    unquote_plus(said["Key"]),
                    int(said["Size"]),
                    said.get("ETag", "").strip('"'),
                    _nanoseconds(said["LastModified"]),
                )
            token = unquote_plus(root.findtext(f"{space}NextContinuationToken") or "")
            if root.findtext(f"{space}IsTruncated") != "true" or not token:
                return

    def read(self, entry: Entry, keep: Callable[[Readable], tuple[tuple[str, ...], int]]) -> Entry | None:
        """Have the content of an object kept; the entry of what was read, None when it is gone.

        One that the storage cannot give has a problem, after another try.
        `keep` gives the names of the pieces and how many bytes they have; its errors are raised.
        """
        for _ in range(_TRIES):
            with self._told(entry.path), self.gateway.request("GET", self._path(entry.path)) as answer:
                if answer.status == _GONE:
                    return None
                found = {name.lower(): value for name, value in answer.getheaders()}
                if answer.status not in _OK:
                    problem = f"the object storage answers {answer.status}"
                    continue
                body = _Answer(answer)
                blobs, size = keep(body)
                if body.missing:
                    problem = f"the object storage gives {size} bytes of {size + body.missing}"
                    continue
            headers = tuple((name, value) for name, value in sorted(found.items()) if _belongs(name))
            same = found.get("etag", "").strip('"') == entry.stamp
            return replace(entry, size=size, blobs=blobs, headers=headers, stamp=entry.stamp if same else "")
        return replace(entry, problem=problem)

    def write(self, entry: Entry, content: Iterable[bytes]) -> None:
        """Put an object, in the place of what has its key."""
        more = {**dict(entry.headers), "content-length": str(entry.size)}
        with (
            self._told(entry.path),
            self.gateway.request("PUT", self._path(entry.path), content, more=more) as answer,
        ):
            said = answer.read(300).decode(errors="replace")
            if answer.status not in _OK:
                raise http.client.HTTPException(f"{answer.status} {said}")

    def remove(self, key: str) -> None:
        """Remove an object; nothing where it is gone."""
        with self._told(key):
            status, text = self.gateway.ask("DELETE", self._path(key))
            if status not in _OK and status != _GONE:
                raise http.client.HTTPException(f"{status} {text[:300]}")

    def _path(self, key: str) -> str:
        return f"/{self.bucket}/{key}"

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """What goes wrong between us and the storage, as an error for people. Others pass as they are."""
        try:
            yield
        except (OSError, http.client.HTTPException, ET.ParseError, KeyError) as error:
            raise AsbuiltError(
                "OBJECTS-002",
                f"the object storage does not give what is asked for: {what}: {error}",
                where=f"{self.gateway.host}:{self.gateway.port}/{self.bucket}",
                hint="asbuilt status shows whether it runs; asbuilt logs --node objects-1 says more",
            ) from None


class _Answer:
    """The body of an answer. `missing`: bytes of it that did not come, once it ended."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self._answer = answer
        self.missing = answer.length or 0

    def read(self, size: int = CHUNK, /) -> bytes:
        try:
            chunk = self._answer.read(size)
        except (OSError, http.client.HTTPException):
            self.missing = max(self.missing, 1)  # also where the answer did not say how long it is
            return b""
        self.missing = max(0, self.missing - len(chunk))
        return chunk


def _belongs(name: str) -> bool:
    return name in _HEADERS or name.startswith(_METADATA)


def _nanoseconds(text: str) -> int:
    moment = dt.datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
