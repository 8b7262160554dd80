"""Counts what users ask and get, for each release, from the load balancer's access log as it is written.

Memory is constant: counts and histograms. Invariant: every whole line is counted once, over the rotation of
the file too (it is copied and cut to nothing, so a file that became shorter is read from its start).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from asbuilt.engines.haproxy.access import parse_access
from asbuilt.plan.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_EVERY = 0.25
_AT_ONCE = 4 * 2**20
"""Bytes read at a time."""


class Traffic:
    """Reads the log in a thread while the block runs. `take` gives what came since the last time."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._at = log.stat().st_size if log.exists() else 0
        self._rest = b""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._releases: Mapping[str, str] = {}
        self._tallies: dict[str, Tally] = {}
        self.requests = 0
        self.lost = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        self.read()

    def serve(self, releases: Mapping[str, str]) -> None:
        """From now on these app servers run these releases."""
        self.read()
        with self._lock:
            self._releases = dict(releases)

    def take(self) -> dict[str, Tally]:
        """What came since the last time, by release."""
        self.read()
        with self._lock:
            taken, self._tallies = self._tallies, {}
            return taken

    def _run(self) -> None:
        while not self._over.wait(_EVERY):
            self.read()

    def read(self) -> None:
        """Count the lines that are there by now."""
        with self._lock:
            try:
                with self._log.open("rb") as file:
                    if file.seek(0, 2) < self._at:
                        self._at, self._rest = 0, b""
                    file.seek(self._at)
                    while data := file.read(_AT_ONCE):
                        self._at += len(data)
                        *lines, self._rest = (self._rest + data).split(b"\n")
                        for line in lines:
                            self._count(line)
            except OSError:
                return

    def _count(self, line: bytes) -> None:
        access = parse_access(line)
        if access is None:
            return
        self.requests += 1
        self.lost += access.lost
        release = self._releases.get(access.server)
        if release is None:
            return
        tally = self._tallies.setdefault(release, Tally())
        tally.requests += 1
        tally.errors += access.error
        if access.first_byte is not None:
            tally.times.add(access.first_byte)
