"""A line of a log is one line, whatever name is in it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from asbuilt.operations.progress import log_line

if TYPE_CHECKING:
    import pytest


def test_a_name_of_any_bytes_is_shown_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, "utf-8", errors="strict"))
    log_line("files: \udcff\n\x1b[31m \u00e9: no file")
    assert raw.getvalue().decode().endswith(" files: \\udcff\\n\\x1b[31m \u00e9: no file\n")
    assert raw.getvalue().count(b"\n") == 1
