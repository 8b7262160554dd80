"""Asks the running S3 gateway: a signed request with the standard library, so that `up` imports no SDK."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import http.client
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from asbuilt.values.errors import AsbuiltError
from asbuilt.values.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_OK: Final = range(200, 300)
_TIMEOUT: Final = 20.0
_WARM_KEY: Final = ".asbuilt/ready"
_ENCRYPTION: Final = (
    b'<ServerSideEncryptionConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule>'
    b"<ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>"
    b"</ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
)
"""Every object of the bucket is encrypted, whether the app asks for it or not."""


def render_signature(
    method: str,
    host: str,
    path: str,
    body: bytes | None,
    *,
    access: Secret,
    secret: Secret,
    region: str,
    at: dt.datetime,
    query: str = "",
    more: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Headers of a request signed with AWS Signature Version 4. `path` and `query` are encoded already.

    `body` None: what is sent is not signed, because it is not known yet. `more`: other headers to be sent, by
    names in small letters.
    """
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    digest = "UNSIGNED-PAYLOAD" if body is None else hashlib.sha256(body).hexdigest()
    headers = {**(more or {}), "host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = sorted(headers)
    canonical = "\n".join(
        [
            method,
            path,
            query,
            *(f"{name}:{' '.join(headers[name].split())}" for name in names),
            "",
            ";".join(names),
            digest,
        ]
    )
    # the bytes that http.client sends for a header
    hashed = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}"
    key = f"AWS4{secret.reveal()}".encode()
    for part in (stamp[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access.reveal()}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return headers


@dataclass(frozen=True, slots=True)
class Gateway:
    """The S3 gateway at `host:port`, asked with one key."""

    host: str
    port: int
    region: str
    access: Secret
    secret: Secret

    def ask(self, method: str, path: str, body: bytes = b"", *, query: str = "") -> tuple[int, str]:
        """Status and text of the answer. Raises OSError or HTTPException when nobody answers."""
        with self.request(method, path, body, query=query) as answer:
            return answer.status, answer.read().decode(errors="replace")

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] = b"",
        *,
        query: str = "",
        more: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer, to be read within the block. `more`: headers; a body in parts needs its content-length.

        Raises OSError or HTTPException when nobody answers.
        """
        encoded = quote(path, safe="/-_.~")
        headers = render_signature(
            method,
            f"{self.host}:{self.port}",
            encoded,
            body if isinstance(body, bytes) else None,
            access=self.access,
            secret=self.secret,
            region=self.region,
            at=dt.datetime.now(dt.UTC),
            query=query,
            more=more,
        )
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT)
        try:
            connection.request(method, f"{encoded}?{query}" if query else encoded, body=body, headers=headers)
            yield connection.getresponse()
        finally:
            connection.close()

    def has_bucket(self, bucket: str) -> bool:
        """Whether the bucket is there; False too when nobody answers."""
        try:
            return self.ask("HEAD", f"/{bucket}")[0] in _OK
        except (OSError, http.client.HTTPException):
            return False

    def make_bucket(self, bucket: str) -> None:
        """Make the bucket unless it is there, encrypt it by default, and prove that it takes an object.

        The first object makes the bucket's first volumes (up to 3 s), which the app's first upload would
        otherwise wait for. Raises AsbuiltError OBJECTS-001.
        """
        steps: tuple[tuple[str, str, str, bytes], ...] = (
            ("PUT", f"/{bucket}", "", b""),
            ("PUT", f"/{bucket}", "encryption=", _ENCRYPTION),
            ("PUT", f"/{bucket}/{_WARM_KEY}", "", b"ok"),
            ("DELETE", f"/{bucket}/{_WARM_KEY}", "", b""),
        )
        for method, path, query, body in steps if not self.has_bucket(bucket) else steps[1:]:
            try:
                status, text = self.ask(method, path, body, query=query)
            except (OSError, http.client.HTTPException) as error:
                raise self._failed(bucket, f"{method} {path}: {error}") from None
            if status not in _OK and "BucketAlreadyOwnedByYou" not in text:
                raise self._failed(bucket, f"{method} {path}: {status} {text[:300]}")

    def _failed(self, bucket: str, said: str) -> AsbuiltError:
        return AsbuiltError(
            "OBJECTS-001",
            f"the bucket {bucket} cannot be made",
            where=f"{self.host}:{self.port}",
            evidence=(said,),
            hint="asbuilt logs shows what the object storage says; a full disk is the usual reason",
        )
