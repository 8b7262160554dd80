"""Numbered uploads to the app's bucket, with the app's own keys: which were acknowledged, and are there."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import dataclass, field
from typing import Final, Self

from asbuilt.exec.store import BucketSettings, Store, open_store
from asbuilt.graph.model import Kind
from asbuilt.operations.drill.track import Track
from asbuilt.plan.ledger import measure_rto
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.secret import Secret

PREFIX: Final = "asbuilt-drill/"
_PAUSE: Final = 0.1
_STEADY: Final = 5


@dataclass
class ObjectClients:
    """One client that uploads small objects until the end."""

    track: Track
    acknowledged: list[tuple[float, int]] = field(default_factory=list)
    refused: list[tuple[float, str]] = field(default_factory=list)
    lost: tuple[int, ...] = ()
    ended: float | None = None

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self.track.judges.append(self.judge)
        self._thread.start()
        try:
            self.track.until("uploads to be stored", lambda: len(self.acknowledged) >= _STEADY, 60.0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = self.ended or time.monotonic()
        self._over.set()
        self._thread.join(60)
        self._count()

    def refused_since(self, moment: float) -> int:
        """Uploads that failed since then; one that is still tried counts as well."""
        failed = sum(at >= moment for at, _ in self.refused)
        return failed or int(not any(at >= moment + 1.0 for at, _ in self.acknowledged))

    def flowing(self) -> bool:
        """Whether some were stored just now, after the fault."""
        since = max(self.track.moment + 1.0, time.monotonic() - 3.0)
        return sum(at > since for at, _ in self.acknowledged) >= _STEADY

    def rto(self) -> float | None:
        """The longest time without a stored upload."""
        return measure_rto(
            [at for at, _ in self.acknowledged], self.track.moment, self.ended or time.monotonic()
        )

    def judge(self) -> None:
        """Keep the figures."""
        self.track.figures |= {
            "uploads": len(self.acknowledged),
            "uploads refused": len(self.refused),
            "uploads lost": len(self.lost),
        }

    def _count(self) -> None:
        try:
            store = open_app_bucket(self.track)
            there = {int(one.key.rpartition("/")[2]) for one in store.list()}
            self.lost = tuple(sorted({number for _, number in self.acknowledged} - there))
            store.delete([one.key for one in store.list()])
        except AsbuiltError as error:
            self.track.note(f"the uploads cannot be counted: {error.what}")
            self.track.check("uploads can be counted", good=False, detail=error.what)

    def _run(self) -> None:
        store = open_app_bucket(self.track)
        number = 0
        while not self._over.wait(_PAUSE):
            number += 1
            try:
                store.put(f"{number}", io.BytesIO(b"asbuilt drill"))
            except AsbuiltError as error:
                self.refused.append((time.monotonic(), error.what))
            else:
                self.acknowledged.append((time.monotonic(), number))


def open_app_bucket(track: Track, prefix: str = "") -> Store:
    """The bucket of the app, below the drill's own prefix."""
    ground = track.ground
    app = ground.prepared.desired.workloads[ground.nodes(Kind.APP)[0]]
    plain, secret = dict(app.env), dict(app.secret_env)
    access = secret.get("AWS_ACCESS_KEY_ID") or Secret(plain["AWS_ACCESS_KEY_ID"])
    return open_store(
        BucketSettings(
            plain["AWS_ENDPOINT_URL_S3"],
            plain["S3_BUCKET"],
            access,
            secret["AWS_SECRET_ACCESS_KEY"],
            plain["AWS_REGION"],
            prefix or f"{PREFIX}{track.drill}/",
        )
    )
