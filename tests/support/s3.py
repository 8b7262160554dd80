"""An S3 server of a few lines that keeps objects in memory and misbehaves when a test asks for it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET

from asbuilt.exec.bucket import BucketSettings
from asbuilt.values.secret import Secret

BUCKET = "backups"
_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass
class Bucket:
    """What the server has, what it was asked, and how it misbehaves."""

    objects: dict[str, bytes] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    """Storage class of each object that was put with one."""
    uploads: dict[str, dict[int, tuple[int, bytes]]] = field(default_factory=dict)
    """Size and content of the parts of uploads that are not complete."""
    asked: list[str] = field(default_factory=list)
    """Requests, like `PUT /backups/a?partNumber=1&uploadId=..`."""
    keep: bool = True
    """Whether the bytes of objects are kept; else only how many there are."""
    sizes: dict[str, int] = field(default_factory=dict)
    page: int = 1000
    order: Callable[[str], tuple[str, ...]] = lambda key: (key,)
    """How listings are sorted."""
    tags: bool = True
    """Whether objects have ETags."""
    refuse: Callable[[str], int | None] = lambda _: None
    """The status for a request that is to fail, as for `asked`."""
    locked: set[str] = field(default_factory=set)
    """Keys of objects that are not let go."""
    checksums: set[str] = field(default_factory=set)
    """What was put with its SHA-256, like `PUT a`."""
    lose: int = 0
    """Bytes that are lost of each object, silently."""
    cut_after: int | None = None
    """Bytes after which an answer breaks off."""
    address: str = ""
    secrets: ClassVar[tuple[str, str]] = ("AKIATEST", "top-secret-key")

    def settings(self, *, bucket: str = BUCKET, address: str = "", prefix: str = "") -> BucketSettings:
        """How a client opens it."""
        access, secret = map(Secret, self.secrets)
        return BucketSettings(address or self.address, bucket, access, secret, prefix=prefix)


@contextmanager
def s3_server() -> Iterator[Bucket]:
    """Serve one bucket until the block ends."""
    bucket = Bucket()

    class Handler(_Handler):
        state = bucket

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    bucket.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that goes away in the middle is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    state: ClassVar[Bucket]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            cut = self.state.cut_after
            if cut is not None and len(body) > cut and self.command == "GET":
                self.wfile.write(body[:cut])
                self.close_connection = True
                return
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code} it is</Message></Error>".encode())

    def _serve(self) -> None:
        url = urlsplit(self.path)
        body = self._body()
        self.state.asked.append(f"{self.command} {self.path}")
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        status = self.state.refuse(f"{self.command} {self.path}")
        if status is not None:
            return self._error(status, {503: "SlowDown", 403: "AccessDenied"}.get(status, "Failed"))
        if Bucket.secrets[0] not in self.headers.get("Authorization", ""):
            return self._error(403, "InvalidAccessKeyId")
        if self.headers["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
            return self._error(400, "XAmzContentSHA256Mismatch")
        if bucket != BUCKET:
            return self._error(404, "NoSuchBucket")
        action = {"GET": self._get, "HEAD": self._get, "PUT": self._put, "POST": self._post}
        return action.get(self.command, self._delete)(key, query, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - names of http.server

    def _body(self) -> bytes:
        body, rest = bytearray(), int(self.headers.get("Content-Length", 0))
        while rest and (chunk := self.rfile.read(min(rest, 65536))):
            body += chunk
            rest -= len(chunk)
        return bytes(body)

    def _store(self, key: str, content: bytes, size: int) -> None:
        self.state.sizes[key] = size - self.state.lose
        if self.state.keep:
            self.state.objects[key] = content[: size - self.state.lose]

    def _put(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "x-amz-checksum-sha256" in self.headers:
            self.state.checksums.add(f"PUT {key}")
        if "uploadId" in query:
            upload = self.state.uploads.get(query["uploadId"])
            if upload is None:
                return self._error(404, "NoSuchUpload")
            upload[int(query["partNumber"])] = (len(body), body if self.state.keep else b"")
        else:
            self._class(key)
            self._store(key, body, len(body))
        return self._answer(200, ETag='"tag"')

    def _class(self, key: str) -> None:
        if wanted := self.headers.get("x-amz-storage-class"):
            self.state.classes[key] = wanted

    def _post(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "delete" in query:
            gone = [one.text or "" for one in ET.fromstring(body).iter(f"{_NAMESPACE}Key")]  # noqa: S314 - our client's
            said = ""
            for one in gone:
                if one in self.state.locked:
                    why = "<Code>AccessDenied</Code><Message>Access Denied because object protected</Message>"
                    said += f"<Error><Key>{one}</Key>{why}</Error>"
                    continue
                self.state.objects.pop(one, None)
                self.state.sizes.pop(one, None)
                said += f"<Deleted><Key>{one}</Key></Deleted>"
            return self._answer(200, f"<DeleteResult>{said}</DeleteResult>".encode())
        if "uploads" in query:
            upload = f"up{len(self.state.asked)}"
            self.state.uploads[upload] = {}
            self._class(key)
            name = f"<UploadId>{upload}</UploadId>"
            return self._answer(
                200, f"<InitiateMultipartUploadResult>{name}</InitiateMultipartUploadResult>".encode()
            )
        parts = [part for _, part in sorted(self.state.uploads.pop(query["uploadId"]).items())]
        self._store(key, b"".join(content for _, content in parts), sum(size for size, _ in parts))
        done = "<CompleteMultipartUploadResult><ETag>tag</ETag></CompleteMultipartUploadResult>"
        return self._answer(200, done.encode())

    def _delete(self, key: str, query: dict[str, str], _: bytes) -> None:
        if "uploadId" in query:
            self.state.uploads.pop(query["uploadId"], None)
        else:
            self.state.objects.pop(key, None)
            self.state.sizes.pop(key, None)
        self._answer(204)

    def _get(self, key: str, query: dict[str, str], _: bytes) -> None:
        if "list-type" in query:
            return self._list(query)
        if key not in self.state.sizes:
            return self._error(404, "NoSuchKey")
        now = formatdate(time.time(), usegmt=True)
        if self.command == "HEAD":
            self.send_response(200)
            self.send_header("Content-Length", str(self.state.sizes[key]))
            self.send_header("ETag", '"tag"')
            self.send_header("Last-Modified", now)
            return self.end_headers()
        content = self.state.objects[key]
        tag = {"ETag": hashlib.md5(content).hexdigest()} if self.state.tags else {}  # noqa: S324 - S3's way
        if wanted := self.headers.get("Range"):
            begin = int(wanted.removeprefix("bytes=").split("-")[0])
            end = wanted.split("-")[1]
            until = int(end) + 1 if end else len(content)
            return self._answer(
                206,
                content[begin:until],
                Last_Modified=now,
                Content_Range=f"bytes {begin}-{until - 1}/{len(content)}",
                **tag,
            )
        return self._answer(200, content, Last_Modified=now, **tag)

    def _list(self, query: dict[str, str]) -> None:
        keys = sorted(
            (one for one in self.state.sizes if one.startswith(query.get("prefix", ""))), key=self.state.order
        )
        begin = int(query.get("continuation-token", 0))
        end = begin + self.state.page
        more = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < len(keys) else ""
        entries = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-11-26T06:31:00.000Z</LastModified>"
            f"<ETag>tag</ETag><Size>{self.state.sizes[key]}</Size></Contents>"
            for key in keys[begin:end]
        )
        truncated = str(bool(more)).lower()
        self._answer(
            200,
            f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{more}{entries}</ListBucketResult>".encode(),
        )
