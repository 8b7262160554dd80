"""Users: GET requests through the public entry, on connections that are kept and on new ones."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from asbuilt.operations.drill.track import Track
from asbuilt.plan.ledger import measure_rto

if TYPE_CHECKING:
    from asbuilt.operations.drill.ground import Ground

_GOOD: Final = range(200, 400)
_PAUSE: Final = 0.05
_PATIENCE: Final = 10.0
_ENOUGH: Final = 20


@dataclass
class Callers:
    """`kept` users reuse their connection, `fresh` ones open a new one for each request."""

    track: Track
    kept: int = 2
    fresh: int = 1
    good: list[float] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)
    slowest: float = 0.0
    ended: float | None = None

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._host, self._port, self._path, self._name, authority = self.track.ground.entry
        self._context = ssl.create_default_context(cafile=str(authority)) if authority else None

    @property
    def ground(self) -> Ground:
        """Where."""
        return self.track.ground

    def __enter__(self) -> Self:
        for number in range(self.kept + self.fresh):
            thread = threading.Thread(target=self._run, args=(number < self.kept,), daemon=True)
            thread.start()
            self._threads.append(thread)
        self.track.judges.append(self.judge)
        try:
            self.track.until("users to be served", lambda: len(self.good) >= _ENOUGH, 30.0)
        except BaseException:
            self.__exit__()
            raise
        self.track.probes["answer to a user"] = lambda: self.good[-1]
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = self.ended or time.monotonic()
        self._over.set()
        self.track.probes.pop("answer to a user", None)
        for thread in self._threads:
            thread.join(_PATIENCE + 1)

    def flowing(self, seconds: float = 1.5) -> bool:
        """Whether nothing but good answers came for some seconds, and some did."""
        since = time.monotonic() - seconds
        good = sum(at > since for at in self.good[-200:])
        return good >= 5 and not any(at > since for at, _ in self.failed[-20:])  # noqa: PLR2004 - some

    def judge(self) -> None:
        """Keep what users saw."""
        moment = self.track.moment
        late = [why for at, why in self.failed if at >= moment]
        self.track.figures |= {
            "requests": len(self.good) + len(self.failed),
            "requests failed": len(self.failed),
            "slowest answer": round(self.slowest, 3),
        }
        if moment:
            gap = self.rto()
            if gap is not None:
                self.track.figures["longest time without an answer"] = round(gap, 3)
        if late:
            self.track.evidence.append(f"{len(late)} requests failed, the first with {late[0]}")

    def rto(self) -> float | None:
        """The longest time without a good answer."""
        return measure_rto(self.good, self.track.moment, self.ended or time.monotonic())

    def _connect(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=_PATIENCE)
        return http.client.HTTPSConnection(self._host, self._port, timeout=_PATIENCE, context=self._context)

    def _run(self, kept: bool) -> None:
        client = self._connect()
        headers = {"Host": self._name, "User-Agent": "asbuilt drill"}
        while not self._over.wait(_PAUSE):
            begun = time.monotonic()
            try:
                client.request("GET", self._path, headers=headers)
                answer = client.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.failed.append((time.monotonic(), f"{type(error).__name__}: {error}"))
                client.close()
                continue
            now = time.monotonic()
            if answer.status in _GOOD:
                self.good.append(now)
                self.slowest = max(self.slowest, now - begun)
            else:
                self.failed.append((now, f"status {answer.status}"))
            if not kept:
                client.close()
        client.close()
