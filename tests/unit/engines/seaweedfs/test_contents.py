"""Objects are read whole, or it is said that they are not."""

from __future__ import annotations

import http.client
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from asbuilt.engines.seaweedfs.contents import Contents
from asbuilt.plan.manifest import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.exec.streams import Readable


def test_an_answer_of_unknown_length_that_breaks_off_is_not_taken_for_all() -> None:
    def read(_: int) -> bytes:
        raise http.client.IncompleteRead(b"")

    @contextmanager
    def request(*_: object) -> Iterator[object]:
        yield SimpleNamespace(status=200, length=None, read=read, getheaders=list)

    def keep(reader: Readable) -> tuple[tuple[str, ...], int]:
        return (), len(reader.read(100))

    gateway = SimpleNamespace(request=request, host="127.0.0.1", port=1)
    found = Contents(cast("Any", gateway), "bucket").read(Entry("a", "object", 3), keep)
    assert found is not None
    assert found.problem
