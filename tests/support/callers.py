"""Clients of a whole environment under test: GET requests through the front door, all the time."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from support import until
from support.live import Live

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Callers:
    """`kept` clients reuse their connection, `fresh` ones open a new one for each request.

    The first word of each answer is the node that gave it, the second its release.
    """

    live: Live
    kept: int = 2
    fresh: int = 1
    pause: float = 0.01
    patience: float = 30.0
    path: str = "/work"
    good: int = 0
    failed: list[str] = field(default_factory=list)
    nodes: Counter[str] = field(default_factory=Counter)
    releases: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    slowest: float = 0.0

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        points = json.loads((self.live.root / "environment.json").read_text())["entrypoints"]
        self._url = urlsplit(points.get("https") or points["http"])
        authority: Path = self.live.root / "certificates" / "ca.crt"
        self._context = ssl.create_default_context(cafile=str(authority)) if "https" in points else None

    def __enter__(self) -> Self:
        for number in range(self.kept + self.fresh):
            thread = threading.Thread(target=self._run, args=(number < self.kept,))
            thread.start()
            self._threads.append(thread)
        self.more()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(self.patience + 10)

    def more(self, number: int = 30, within: float = 30) -> None:
        """Wait until so many more requests were answered well."""
        before = self.good
        until(lambda: self.good >= before + number, what=f"{number} more answers", within=within)

    def gap(self) -> float:
        """The longest time between two good answers, in seconds."""
        return max((later - earlier for earlier, later in pairwise(sorted(self.times))), default=0.0)

    def forget(self) -> None:
        """Count from here."""
        with self._lock:
            self.nodes.clear()
            self.releases.clear()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = str(self._url.hostname), int(self._url.port or 0)
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=self.patience)
        return http.client.HTTPSConnection(host, port, timeout=self.patience, context=self._context)

    def _run(self, kept: bool) -> None:
        client = self._connect()
        while not self._over.wait(self.pause):
            begun = time.monotonic()
            try:
                client.request("GET", self.path)
                answer = client.getresponse()
                body = answer.read().decode(errors="replace")
                self._count(begun, answer.status, body)
            except (OSError, http.client.HTTPException) as error:
                with self._lock:
                    self.failed.append(f"after {time.monotonic() - begun:.2f} s: {error!r}")
                client.close()
            if not kept:
                client.close()
        client.close()

    def _count(self, begun: float, status: int, body: str) -> None:
        now = time.monotonic()
        with self._lock:
            if status != 200:
                self.failed.append(f"{status} {body[:100]}")
                return
            self.good += 1
            self.times.append(now)
            self.slowest = max(self.slowest, now - begun)
            node, release = body.split()[:2]
            self.nodes[node] += 1
            self.releases[release] += 1
