"""What a client sees while something breaks: acknowledged writes and gaps."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

import psycopg
import redis
from psycopg import sql

if TYPE_CHECKING:
    from types import TracebackType

_EVERY = 0.01
"""Seconds from the beginning of one write to that of the next, where the write does not take longer."""


class Store(Protocol):
    """Where numbered writes go. `write` returns only when the write was acknowledged."""

    def write(self, number: int) -> None:
        """Write; raises when not acknowledged."""

    def forget(self) -> None:
        """Drop the connection: the next write makes a new one."""

    def read(self) -> set[int]:
        """All numbers that are stored."""


class Database:
    """The ledger in PostgreSQL, through the database route."""

    errors: tuple[type[Exception], ...] = (psycopg.Error, OSError)

    def __init__(self, url: str, table: str) -> None:
        self._url, self._table = url, sql.Identifier(table)
        self._connection: psycopg.Connection[tuple[int]] | None = None

    def _connect(self) -> psycopg.Connection[tuple[int]]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=2)
        return self._connection

    def create(self) -> None:
        """An empty ledger."""
        columns = sql.SQL("number bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp()")
        self._connect().execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self._table))
        self._connect().execute(sql.SQL("CREATE TABLE {} ({})").format(self._table, columns))

    def write(self, number: int) -> None:
        """One insert, committed."""
        self._connect().execute(sql.SQL("INSERT INTO {} (number) VALUES (%s)").format(self._table), (number,))

    def forget(self) -> None:
        """Close; a demoted primary's read-only session must go as well."""
        if self._connection:
            with suppress(psycopg.Error, OSError):
                self._connection.close()
        self._connection = None

    def read(self) -> set[int]:
        """All numbers."""
        query = sql.SQL("SELECT number FROM {}").format(self._table)
        return {row[0] for row in self._connect().execute(query)}

    def replicas(self) -> int:
        """How many replicas stream from the primary that the route leads to."""
        with psycopg.connect(self._url, autocommit=True, connect_timeout=2) as one:
            row = one.execute(
                "SELECT count(*) FROM pg_stat_replication WHERE application_name LIKE 'db-%'"
            ).fetchone()
        return int(row[0]) if row else 0


class Cache:
    """Keys in Redis, through the cache route."""

    errors: tuple[type[Exception], ...] = (redis.RedisError, OSError)

    def __init__(self, url: str, prefix: str) -> None:
        self._prefix = prefix
        # no retries of the library's own: each failure is to be seen, and counts as part of the gap
        self._client = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2, retry=None)

    def write(self, number: int) -> None:
        """One SET."""
        self._client.set(f"{self._prefix}:{number}", number)

    def forget(self) -> None:
        """Drop pooled connections."""
        self._client.connection_pool.disconnect()

    def read(self) -> set[int]:
        """All numbers."""
        keys = self._client.scan_iter(match=f"{self._prefix}:*", count=1000)
        return {int(bytes(key).rpartition(b":")[2]) for key in keys}


@dataclass
class Writer:
    """Writes numbers one after the other until stopped; remembers when each was acknowledged."""

    store: Database | Cache
    acknowledged: list[tuple[float, int]] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)
    next_number: int = 0

    def __enter__(self) -> Self:
        """Start."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; a write that hangs is abandoned after a while, and was not acknowledged."""
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self.next_number += 1
            try:
                self.store.write(self.next_number)
            except self.store.errors as error:
                self.failures.append((time.monotonic(), str(error).strip()))
                self.store.forget()
            else:
                self.acknowledged.append((time.monotonic(), self.next_number))
            due = max(due + _EVERY, now := time.monotonic())
            self._stop.wait(due - now)

    def since(self, moment: float) -> int:
        """Acknowledged writes after `moment`."""
        return sum(at > moment for at, _ in self.acknowledged)

    def longest_gap(self, moment: float) -> float:
        """The longest time between two acknowledged writes, from one second before `moment`, in seconds."""
        times = [at for at, _ in self.acknowledged if at > moment - 1]
        return max(b - a for a, b in itertools.pairwise(times))
