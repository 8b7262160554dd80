from __future__ import annotations

import datetime as dt

import pytest

from asbuilt.engines.seaweedfs.admin import render_signature
from asbuilt.engines.seaweedfs.config import decide_volumes
from asbuilt.engines.seaweedfs.engine import parse_version
from asbuilt.values.secret import Secret
from asbuilt.values.units import Size


@pytest.mark.parametrize(
    ("storage", "count", "megabytes"),
    [("1MB", 8, 64), ("2GB", 32, 64), ("100GB", 100, 1024), ("2TB", 2048, 1024)],
)
def test_volumes_hold_the_storage_and_not_more(storage: str, count: int, megabytes: int) -> None:
    volumes = decide_volumes(Size.parse(storage))
    assert (volumes.count, volumes.megabytes) == (count, megabytes)


def test_version_is_read() -> None:
    assert parse_version("version 8000GB 4.48 pypi linux amd64\n\nFor enterprise users") == "4.48"
    assert parse_version("no") is None


def test_signature_is_the_one_of_the_published_example() -> None:
    """GET Object of the signature's documentation, without its Range header: computed with botocore."""
    from botocore.auth import S3SigV4Auth  # noqa: PLC0415
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    at = dt.datetime(2026, 5, 24, 1, 2, 3, tzinfo=dt.UTC)
    mine = render_signature(
        "GET",
        "127.0.0.1:8333",
        "/b/k",
        b"",
        access=Secret("AK"),
        secret=Secret("SK"),
        region="us-east-1",
        at=at,
    )
    request = AWSRequest(
        "GET", "http://127.0.0.1:8333/b/k", headers={"x-amz-content-sha256": mine["x-amz-content-sha256"]}
    )
    request.context["timestamp"] = "20260524T010203Z"
    request.headers["X-Amz-Date"] = "20260524T010203Z"
    auth = S3SigV4Auth(Credentials("AK", "SK"), "s3", "us-east-1")
    theirs = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert mine["authorization"].endswith(f"Signature={theirs}")
