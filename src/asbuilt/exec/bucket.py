"""A bucket of any S3 endpoint as a store of backups, through obstore; and one in memory, for tests.

Invariant: nothing is asked for without an end. A server that answers 5xx, or does not answer, is asked again
for PATIENCE seconds; then the error is STORE-001, and the caller decides when to try again.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, GenericError
from obstore.store import MemoryStore, S3Store

from asbuilt.exec.answers import parse_said
from asbuilt.exec.objects import REFUSED, UNREACHABLE, Entry, Store, check_key, cut_short
from asbuilt.exec.streams import CHUNK, Readable, Stream, pour
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.secret import Secret, mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from obstore import Attributes, GetResult
    from obstore.store import ClientConfig, S3Config, S3Credential

PATIENCE: Final = 7.0
"""Seconds in which a request that fails is repeated. An upload that fails half-way may take twice that: it
removes its parts, which fails too."""
_ANSWER: Final = 20.0
"""Seconds for one request and its answer. Reading an object that takes longer goes on where it was."""
_UPLOAD: Final = 60.0
"""The same for parts of uploads: enough for all that are on their way at 4 Mbit/s."""
_SMALL: Final = 1024 * 1024
"""Bytes up to which an upload has to be as quick as other requests."""
_PART: Final = 8 * 1024 * 1024
"""Bytes of a part at least. S3 takes no less than 5 MiB; SeaweedFS keeps chunks of 8."""
_PARTS: Final = 10_000
"""Parts of an object at most: S3's limit."""
_AT_ONCE: Final = 3
"""Parts on their way at a time; all of them are in memory."""
_BATCH: Final = 1000
"""Keys in one request to delete, and in one answer to list."""
_CONNECT: Final = 5.0
_NO_BUCKET: Final = "NoSuchBucket"
_WANTS_CHECKSUM: Final = "Content-MD5"
_LOCKED: Final = "the bucket has an object lock: say `locked: true` in database.backup.store"


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """A bucket, which is there.

    Args:
        endpoint: like `http://127.0.0.1:8333` or `https://s3.eu-central-1.amazonaws.com`, without the bucket.
        bucket: its name.
        access: access key.
        secret: secret key.
        region: what requests are signed for.
        prefix: folder that all keys are below, like `shop/production/`.
        checksums: send the SHA-256 of what is put, as a bucket with an object lock asks for.
    """

    endpoint: str
    bucket: str
    access: Secret
    secret: Secret
    region: str = "us-east-1"
    prefix: str = ""
    checksums: bool = False


class Clients(NamedTuple):
    """Two clients of the same bucket: one for short requests, one that waits longer for uploads."""

    quick: S3Store | MemoryStore
    patient: S3Store | MemoryStore


def open_bucket(settings: BucketSettings) -> BucketStore:
    """The store in a bucket, asked path-style. Nothing is taken from AWS_* variables of the environment."""
    return BucketStore(
        Clients(_client(settings, _ANSWER), _client(settings, _UPLOAD)),
        f"{settings.endpoint}/{settings.bucket}",
        prefix=settings.prefix,
        secrets=(settings.access, settings.secret),
    )


def open_memory() -> BucketStore:
    """A store that ends with the process."""
    memory = MemoryStore()
    return BucketStore(Clients(memory, memory), "memory")


def _client(settings: BucketSettings, limit: float) -> S3Store:
    keys: S3Credential = {
        "access_key_id": settings.access.reveal(),
        "secret_access_key": settings.secret.reveal(),
        "token": None,
        "expires_at": None,
    }
    url = urlsplit(settings.endpoint)
    options: ClientConfig = {
        "allow_http": url.scheme == "http",
        "connect_timeout": timedelta(seconds=_CONNECT),
        "timeout": timedelta(seconds=limit),
        "user_agent": "asbuilt",
    }
    sums: S3Config = {"checksum_algorithm": "SHA256"} if settings.checksums else {}
    if _is_loopback(url.hostname or ""):
        # those of the environment are used unless one is given; through this one nothing goes
        options |= {"proxy_url": "http://127.0.0.1:9", "proxy_excludes": url.hostname or ""}
    return S3Store(
        settings.bucket,
        endpoint=settings.endpoint,
        aws_endpoint_url_s3=settings.endpoint,  # else a variable of that name would win
        region=settings.region,
        virtual_hosted_style_request=False,
        config=sums,
        skip_signature=False,
        credential_provider=lambda: keys,
        client_options=options,
        retry_config={
            "max_retries": 100,
            "retry_timeout": timedelta(seconds=PATIENCE),
            "backoff": {
                "init_backoff": timedelta(milliseconds=200),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        },
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class BucketStore(Store):
    """Objects of a bucket, below `prefix`. `part`: bytes of a part of an upload at least."""

    def __init__(
        self,
        clients: Clients,
        where: str,
        *,
        prefix: str = "",
        secrets: tuple[Secret, ...] = (),
        part: int = _PART,
    ) -> None:
        super().__init__(where, prefix)
        self._clients = clients
        self._secrets = secrets
        self._part = part

    def get(self, key: str) -> Stream:
        """Ask for an object."""
        check_key(key)
        return _Object(self, key)

    def head(self, key: str) -> Entry:
        """Ask for an object's size and time."""
        check_key(key)
        with self.told(key):
            found = obstore.head(self._clients.quick, self._prefix + key)
        return Entry(key, found["size"], found["last_modified"])

    def delete(self, keys: Iterable[str]) -> None:
        """Ask to remove objects, a thousand at a time."""
        batch: list[str] = []
        for key in keys:
            check_key(key)
            batch.append(self._prefix + key)
            if len(batch) == _BATCH:
                self._delete(batch)
                batch = []
        if batch:
            self._delete(batch)

    def _delete(self, paths: list[str]) -> None:
        with self.told("", bucket=True):
            obstore.delete(self._clients.quick, paths)

    def _list(self, prefix: str) -> Iterator[Entry]:
        whole = (self._prefix + prefix).rstrip("/")
        pages = obstore.list(self._clients.quick, whole or None, chunk_size=_BATCH)
        while True:
            with self.told(prefix, bucket=True):
                page = next(pages, None)
            if page is None:
                return
            for one in page:
                yield Entry(one["path"][len(self._prefix) :], one["size"], one["last_modified"])

    def _put(self, key: str, reader: Readable, expected: int, storage_class: str) -> None:
        part = max(self._part, -(-expected * 10 // (_PARTS * 9)))  # a ninth more than expected still fits
        attributes: Attributes = {"Content-Type": "application/octet-stream"}
        if storage_class:
            attributes["Storage-Class"] = storage_class
        path = self._prefix + key
        begin = _read_up_to(reader, part + 1)
        if len(begin) <= part:
            client = self._clients.quick if len(begin) <= _SMALL else self._clients.patient
            with self.told(key, bucket=True):
                obstore.put(client, path, begin, attributes=attributes, use_multipart=False)
            return
        pieces = _cut(begin)
        del begin  # freed piece by piece, as it is sent

        def upload(chunks: Iterator[bytes]) -> None:
            with self.told(key, bucket=True):
                obstore.put(
                    self._clients.patient,
                    path,
                    self._limited(chain(pieces, chunks), key, part * _PARTS),
                    attributes=attributes,
                    chunk_size=part,
                    max_concurrency=_AT_ONCE,
                )

        # beside, not here: the reader may ask a store as well, and obstore panics when called within itself
        pour(reader, upload, name="upload")

    def _limited(self, chunks: Iterable[bytes], key: str, limit: int) -> Iterator[bytes]:
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise AsbuiltError(
                    REFUSED,
                    f"{key} is larger than the {limit / 1e9:.0f} GB that fit in {_PARTS} parts",
                    where=self.where,
                    hint="more was expected of its size before it was stored; take the backup again",
                )
            yield chunk

    def open_at(self, key: str, at: int) -> GetResult:
        """Ask for an object from a byte on."""
        with self.told(key):
            path = self._prefix + key
            return obstore.get(self._clients.quick, path, options={"range": {"offset": at}} if at else None)

    @contextmanager
    def told(self, key: str, *, bucket: bool = False) -> Iterator[None]:
        """Errors of obstore as errors of a store. `bucket`: when something is missing, it is the bucket."""
        try:
            yield
        except (BaseError, OSError) as error:
            said = parse_said(str(error))
            words = mask(said.words, self._secrets)
            if isinstance(error, FileNotFoundError) and not bucket and _NO_BUCKET not in words:
                raise self._missing(key) from None
            passing = isinstance(error, GenericError) and said.passing
            raise (self._unreachable(key, words) if passing else self._refused(key, words)) from None

    def _unreachable(self, key: str, said: str) -> AsbuiltError:
        return AsbuiltError(
            UNREACHABLE,
            f"the store of backups cannot be used now: {said}",
            where=f"{self.where} {key}".rstrip(),
            hint="see whether it runs, has room, and can be reached from here",
        )

    def _refused(self, key: str, said: str) -> AsbuiltError:
        return AsbuiltError(
            REFUSED,
            f"the store of backups refuses: {said}",
            where=f"{self.where} {key}".rstrip(),
            hint=_LOCKED
            if _WANTS_CHECKSUM in said
            else "see that the bucket is there, its keys are right and may use it, and the clocks agree",
        )


class _Object(Stream):
    """An object that is read. Where the line breaks, reading goes on there, as long as something comes."""

    def __init__(self, store: BucketStore, key: str) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._at = self._begun = 0
        found = store.open_at(key, 0)
        self._size, self._tag = found.meta["size"], found.meta["e_tag"]
        self._chunks = iter(found.stream(CHUNK))

    def _next(self) -> bytes:
        while self._at < self._size:
            try:
                with self._store.told(self._key):
                    chunk = next(self._chunks, b"")
            except AsbuiltError as error:
                if error.code != UNREACHABLE or self._at == self._begun:
                    raise
                chunk = b""
            self._at += len(chunk)
            if chunk:
                return chunk
            self._go_on()
        return b""

    def _go_on(self) -> None:
        if self._at == self._begun:
            raise self._cut_short()
        self._begun = self._at
        found = self._store.open_at(self._key, self._at)
        if (found.meta["size"], found.meta["e_tag"]) != (self._size, self._tag):
            raise self._cut_short()
        self._chunks = iter(found.stream(CHUNK))

    def _cut_short(self) -> AsbuiltError:
        return cut_short(self._store.where, self._key, self._at, self._size)


def _read_up_to(reader: Readable, size: int) -> bytes:
    chunks: list[bytes] = []
    while size > 0 and (chunk := reader.read(min(size, CHUNK))):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _cut(content: bytes) -> Iterator[bytes]:
    for at in range(0, len(content), CHUNK):
        yield content[at : at + CHUNK]
