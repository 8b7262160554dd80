"""Reads the captured output of all processes as one stream, in order of time.

Engines and apps write their own kinds of lines. A line's time is the time stamp near its start; a line
without one (a traceback, a banner) belongs to the line before it in its file.
"""

from __future__ import annotations

import heapq
import re
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from asbuilt.values.errors import UsageError
from asbuilt.values.units import Duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,6}))?\d*\s*(Z|UTC|[+-]\d\d:?\d\d)?")
_REDIS_STAMP = re.compile(
    r"\b(\d\d) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) (\d{4}) (\d\d:\d\d:\d\d)\.(\d{3})"
)
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
_GLOG_STAMP = re.compile(r"^[IWEF](\d\d)(\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?")
_SEARCHED = 160
_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Line:
    """One line: where it came from (workload id), when (UTC, ISO 8601, empty when unknown), and its text."""

    source: str
    time: str
    text: str


def parse_time(text: str, year: int) -> str:
    """The time stamp near the start of a line as ISO 8601 UTC, or empty. A stamp without a zone is local."""
    head = text[:_SEARCHED]
    found = _STAMP.search(head)
    try:
        if found:
            day, clock, fraction, zone = found.groups()
            offset = "+00:00" if zone in ("Z", "UTC") else (zone or "")
            moment = datetime.fromisoformat(f"{day}T{clock}.{(fraction or '0'):0<6}{offset}")
        elif found := _REDIS_STAMP.search(head):
            number, month, of_year, clock, fraction = found.groups()
            nth = _MONTHS.index(month) // 3 + 1
            moment = datetime.fromisoformat(f"{of_year}-{nth:02}-{number}T{clock}.{fraction}000")
        elif found := _GLOG_STAMP.search(head):
            nth_text, number, clock, fraction = found.groups()
            moment = datetime.fromisoformat(f"{year}-{nth_text}-{number}T{clock}.{(fraction or '0'):0<6}")
        else:
            return ""
    except ValueError:
        return ""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_since(text: str) -> str:
    """`5m` or `2026-01-31T12:00:00Z` as ISO 8601 UTC. Raises UsageError CLI-005."""
    try:
        return (datetime.now(UTC) - timedelta(seconds=Duration.parse(text).seconds)).strftime(
            "%Y-%m-%dT%H:%M:%S.%fZ"
        )
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError:
        raise UsageError(
            "CLI-005",
            f"--since {text!r} is not a time",
            hint="write a duration like 5m or a time like 2026-01-31T12:00:00Z",
        ) from None


def _files(folder: Path, nodes: frozenset[str]) -> dict[str, list[Path]]:
    """Log files by workload, oldest first. Rotated files are NAME.log.1 (newest) upwards."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.log*"), reverse=True):
        source = path.name.partition(".log")[0]
        if not nodes or source in nodes or source.split(".")[0] in nodes:
            found.setdefault(source, []).append(path)
    return found


def _lines(source: str, paths: list[Path], year: int) -> Iterator[Line]:
    last = ""
    for path in paths:
        with path.open(errors="replace") as file:
            for raw in file:
                text = raw.rstrip("\n")
                last = parse_time(text, year) or last
                yield Line(source, last, text)


def read_logs(
    folder: Path,
    *,
    nodes: frozenset[str] = frozenset(),
    since: str | None = None,
    pattern: re.Pattern[str] | None = None,
    last: int = 200,
) -> Iterator[Line]:
    """The last `last` matching lines of all files, by time. Unknown nodes raise UsageError CLI-006."""
    found = _files(folder, nodes)
    if nodes and not found:
        raise UsageError(
            "CLI-006",
            f"no logs of {', '.join(sorted(nodes))}",
            where=str(folder),
            hint="asbuilt status names the nodes",
        )
    year = datetime.now(UTC).year
    streams = [_lines(source, paths, year) for source, paths in sorted(found.items())]
    wanted: deque[Line] = deque(maxlen=max(last, 0))
    for line in heapq.merge(*streams, key=lambda one: one.time):
        if (since is None or line.time >= since) and (pattern is None or pattern.search(line.text)):
            wanted.append(line)
    yield from wanted


def follow_logs(
    folder: Path, *, nodes: frozenset[str] = frozenset(), pattern: re.Pattern[str] | None = None
) -> Iterator[Line]:
    """New lines from now on, until the caller stops; truncated and new files are noticed."""
    offsets: dict[Path, int] = {}
    first = True
    while True:
        quiet = True
        year = datetime.now(UTC).year
        for source, paths in sorted(_files(folder, nodes).items()):
            path = folder / f"{source}.log"
            if path not in paths:
                continue
            size = path.stat().st_size
            start = size if first else offsets.get(path, 0)
            start = 0 if start > size else start
            with path.open("rb") as file:
                file.seek(start)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            offsets[path] = start + len(whole)
            for text in whole.decode(errors="replace").splitlines():
                quiet = False
                if pattern is None or pattern.search(text):
                    yield Line(source, parse_time(text, year), text)
        first = False
        if quiet:
            time.sleep(_POLL_SECONDS)
