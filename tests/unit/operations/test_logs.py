from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import pytest

from asbuilt.operations.logs import follow_logs, parse_since, parse_time, read_logs
from asbuilt.values.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2026-11-22 20:33:01.250 UTC [42] LOG:  ready", "2026-11-22T20:33:01.250000Z"),
        ('{"level":"info","ts":"2026-11-22T20:33:01.250Z","msg":"x"}', "2026-11-22T20:33:01.250000Z"),
        ("2026-11-22T20:33:01+02:00 hello", "2026-11-22T18:33:01.000000Z"),
        ("7:M 22 Nov 2026 20:33:01.250 * Ready", None),
        ("I1122 20:33:01.250000 1 server.go:1] up", None),
        ("no time here", ""),
        ("2026-99-99 20:33:01 nonsense", ""),
    ],
)
def test_parse_time_reads_the_stamps_of_the_engines(line: str, expected: str | None) -> None:
    found = parse_time(line, 2026)
    if expected is None:
        assert found.startswith("2026-11-2")
    else:
        assert found == expected


def test_lines_of_all_nodes_come_in_order_of_time(tmp_path: Path) -> None:
    (tmp_path / "app-1.log").write_text(
        "2026-11-22 10:00:00 UTC one\nTraceback\n2026-11-22 10:00:03 UTC four\n"
    )
    (tmp_path / "db-1.log").write_text("2026-11-22 10:00:02 UTC three\n")
    (tmp_path / "db-1.log.1").write_text("2026-11-22 10:00:01 UTC two\n")
    texts = [line.text.rpartition(" ")[2] for line in read_logs(tmp_path)]
    assert texts == ["one", "Traceback", "two", "three", "four"]


def test_filters(tmp_path: Path) -> None:
    (tmp_path / "app-1.log").write_text("2026-11-22 10:00:00 UTC a\n2026-11-22 10:00:05 UTC b\n")
    (tmp_path / "cache-1.sentinel.log").write_text("2026-11-22 10:00:01 UTC a\n")
    assert [x.source for x in read_logs(tmp_path, nodes=frozenset({"cache-1"}))] == ["cache-1.sentinel"]
    assert [x.text[-1] for x in read_logs(tmp_path, since="2026-11-22T10:00:03Z")] == ["b"]
    assert len(list(read_logs(tmp_path, pattern=re.compile("a$")))) == 2
    assert [x.text[-1] for x in read_logs(tmp_path, last=1)] == ["b"]
    with pytest.raises(UsageError, match="CLI-006"):
        list(read_logs(tmp_path, nodes=frozenset({"db-9"})))


def test_follow_gives_new_lines_only_and_survives_truncation(tmp_path: Path) -> None:
    log = tmp_path / "app-1.log"
    log.write_text("old\n")
    stream = follow_logs(tmp_path)
    seen: list[str] = []
    started = threading.Event()

    def read() -> None:
        started.set()
        for line in stream:
            seen.append(line.text)
            if line.text == "last":
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    started.wait()
    while "ping" not in seen:
        with log.open("a") as file:
            file.write("ping\n")
        reader.join(0.05)
    log.write_text("last\n")
    reader.join(10)
    assert seen[-1] == "last"
    assert "old" not in seen


def test_since_takes_durations_and_times() -> None:
    assert parse_since("2026-01-31T12:00:00Z") == "2026-01-31T12:00:00.000000Z"
    assert parse_since("5m") > "2026"
    with pytest.raises(UsageError, match="CLI-005"):
        parse_since("yesterday")
