"""A neutral observer: asks every node each 200 ms, directly, whether it takes writes; one thread a node."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from asbuilt.engines.redis.resp import Client, ReplyError
from asbuilt.plan.ledger import count_overlaps, find_overlaps

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from asbuilt.values.secret import Secret

EVERY: Final = 0.2
_QUESTION: Final = "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'"


class Question(Protocol):
    """Whether one node takes writes. A question that cannot be asked is answered with False."""

    def ask(self) -> bool:
        """Now."""

    def close(self) -> None:
        """Hang up."""


class DatabaseQuestion:
    """Asks one database node over a connection that it keeps."""

    def __init__(self, url: Secret) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None

    def ask(self) -> bool:
        """Whether it takes writes."""
        import psycopg  # noqa: PLC0415 - slow to import

        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._url.reveal(), autocommit=True, connect_timeout=2)
            row = self._connection.execute(_QUESTION).fetchone()
        except (psycopg.Error, OSError):
            self.close()
            return False
        return bool(row and row[0])

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.close()
        self._connection = None


class CacheQuestion:
    """Asks one cache node over a connection that it keeps."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._client: Client | None = None

    def ask(self) -> bool:
        """Whether it says that it is primary."""
        try:
            if self._client is None:
                self._client = self._connect()
            return self._client.info("replication").get("role") == "master"
        except (OSError, ReplyError):
            self.close()
            return False

    def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.close()
        self._client = None


@dataclass
class Sampler:
    """Samples of every node that took writes: when it was asked, and when it answered.

    `denied`: when each was asked and did not say that it takes writes.
    """

    questions: Mapping[str, Question]
    writable: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    denied: dict[str, list[float]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Start."""
        self._over = threading.Event()
        self._threads = []
        for node, question in self.questions.items():
            self.writable[node], self.denied[node] = [], []
            thread = threading.Thread(target=self._run, args=(node, question), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._over.set()
        for thread in self._threads:
            thread.join(10)

    def _run(self, node: str, question: Question) -> None:
        while not self._over.is_set():
            asked = time.monotonic()
            if question.ask():
                self.writable[node].append((asked, time.monotonic()))
            else:
                self.denied[node].append(asked)
            self._over.wait(EVERY)
        question.close()

    def two_primaries(self) -> list[str]:
        """Pairs of nodes that certainly took writes at the same time; empty is right."""
        return find_overlaps(self.writable, self.denied)

    def count_two(self) -> int:
        """Moments at which two nodes took writes."""
        return count_overlaps(self.writable, self.denied)


def sample_databases(urls: Mapping[str, Secret]) -> Sampler:
    """An observer of database nodes."""
    return Sampler({node: DatabaseQuestion(url) for node, url in urls.items()})
