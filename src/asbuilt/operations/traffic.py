"""Counts what users ask and get, for each release and route, from the load balancer's access log as it grows.

Memory is constant: counts and histograms. Invariant: every whole line is counted once, over the rotation of
the file too: it is copied to LOG.1 and cut to nothing, so what was not read yet is read from the copy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from asbuilt.engines.haproxy.access import parse_access
from asbuilt.plan.tally import Routes, Tally, route_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_EVERY = 0.25
_TICK = 0.5
_AT_ONCE = 4 * 2**20
"""Bytes read at a time."""


@dataclass(frozen=True, slots=True)
class Tick:
    """What happened in one tick, about half a second.

    Args:
        seconds: how long it was.
        releases: by release and route, what was asked and answered.
    """

    seconds: float
    releases: Mapping[str, Mapping[str, Tally]]

    def whole(self, release: str) -> Tally:
        """Everything of one release."""
        total = Tally()
        for tally in self.releases.get(release, {}).values():
            total.merge(tally)
        return total


class Traffic:
    """Reads the log in a thread while the block runs, and gives each tick to `hear`."""

    def __init__(self, log: Path, hear: Callable[[Tick], None]) -> None:
        self._log, self._hear = log, hear
        self._at = log.stat().st_size if log.exists() else 0
        self._rest = b""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._servers: Mapping[str, str] = {}
        self._tallies: dict[str, dict[str, Tally]] = {}
        self._routes = Routes()
        self.requests = 0
        self.lost = 0
        self.broken: Exception | None = None
        """What `hear` raised."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        self.read()

    def serve(self, servers: Mapping[str, str]) -> None:
        """From now on these app servers run these releases."""
        self.read()
        with self._lock:
            self._servers = dict(servers)

    def _run(self) -> None:
        began = time.monotonic()
        while not self._over.wait(_EVERY):
            self.read()
            now = time.monotonic()
            if now - began >= _TICK:
                with self._lock:
                    taken, self._tallies = self._tallies, {}
                try:
                    self._hear(Tick(now - began, taken))
                except Exception as error:  # noqa: BLE001 - whoever walks must hear of it, and not go on
                    self.broken = error
                began = now

    def read(self) -> None:
        """Count the lines that are there by now."""
        with self._lock:
            try:
                if self._log.stat().st_size < self._at:
                    with suppress(OSError):  # there was no space for the copy
                        self._read_from(self._log.with_name(f"{self._log.name}.1"))
                    self._at = 0
                self._read_from(self._log)
            except OSError:
                return

    def _read_from(self, path: Path) -> None:
        with path.open("rb") as file:
            file.seek(self._at)
            while data := file.read(_AT_ONCE):
                self._at += len(data)
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self._count(line)

    def _count(self, line: bytes) -> None:
        access = parse_access(line)
        if access is None:
            return
        self.requests += 1
        self.lost += access.lost
        release = self._servers.get(access.server)
        if release is None:
            return
        route = self._routes.name(route_of(access.method, access.path))
        tally = self._tallies.setdefault(release, {}).setdefault(route, Tally())
        tally.requests += 1
        tally.errors += access.error
        if access.first_byte is not None:
            tally.times.add(access.first_byte)
