"""Judges one fault of the database: no acknowledged write lost or doubled, never two writable primaries.

While it is on: numbered writes through the front door, one session held open on the primary, one idle pooled
connection, one reader on a replica, one observer that asks every node each 0.2 s whether it takes writes.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import psycopg

from asbuilt.operations.drill.sampler import sample_databases
from asbuilt.values.secret import Secret
from support import until
from support.ledger import _NUMBERS, Door, Ground, Reader, Session, Writers


@dataclass
class DatabaseOracle:
    """What everybody saw; `fault` marks its moment, `settle` waits for its end, `judge` gives the verdict."""

    ground: Ground
    name: str
    moment: float = 0.0
    primary: str = ""
    seldom: list[int] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.ground.redundant()
        self.primary = self.ground.leader()
        with self.ground.connect(self.primary) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS ledger (kind text, number bigint)")
        self.writers = Writers(self.ground)
        self.sampler = sample_databases({node: Secret(url) for node, url in self.ground.databases.items()})
        self.held = Session(self.ground.connect(self.primary))
        self.reader = Reader(self.ground.variables["DATABASE_REPLICA_URL"])
        self.idle = psycopg.connect(self.ground.variables["DATABASE_URL"], autocommit=True)
        self.post_seldom(times=4)
        self._threads = [self.held.start(), self.reader.start()]
        self.sampler.__enter__()
        self.writers.__enter__()
        self.writers.under_way()
        return self

    def __exit__(self, *_: object) -> None:
        self.held.stop()
        self.reader.stop()
        self.writers.__exit__()
        self.sampler.__exit__(None, None, None)
        for thread in self._threads:
            thread.join(10)
        with suppress(psycopg.Error):
            self.idle.close()

    def post_seldom(self, *, times: int) -> None:
        """Through connections of the app that rest before and during the fault; no restart helps them."""
        door = Door(self.ground.live)
        for _ in range(times):

            def posted() -> bool:
                number = next(_NUMBERS)
                if door.post("seldom", number):
                    return False
                self.seldom.append(number)
                return True

            until(posted, what="a write through an idle pooled connection", within=30, every=0.1)
        door.close()

    def fault(self) -> None:
        """Now it happens."""
        self.moment = time.monotonic()

    def settle(self, seconds: float = 1.5) -> None:
        """Wait until writes flow steadily and redundancy is back; print what it took."""
        self.writers.steady(seconds)
        self.ground.redundant()
        whole = time.monotonic() - self.moment
        self.post_seldom(times=4)
        self.write_idle()
        gap = self.writers.gap(self.moment)
        print(f"\n{self.name}: gap {gap:.2f} s, whole after {whole:.1f} s; {self.legs()}")

    def write_idle(self) -> None:
        """The connection that rested since before the fault fails or writes to today's primary."""
        number = next(_NUMBERS)
        with suppress(psycopg.Error):
            self.idle.execute("INSERT INTO ledger VALUES ('idle', %s)", (number,))
            self.seldom.append(number)

    def legs(self) -> str:
        """Seconds from the fault: the held session broke, who was seen writable last and first."""
        words = [f"held session broke {self.held.broken[0] - self.moment:.2f}"] if self.held.broken else []
        for node, seen in self.sampler.writable.items():
            after = [asked for asked, _ in list(seen) if asked > self.moment]
            if after and node != self.primary:
                words.append(f"{node} writable from {after[0] - self.moment:.2f}")
            elif seen and node == self.primary:
                words.append(
                    f"{node} last before {max((a for a in after), default=self.moment) - self.moment:.2f}"
                )
        return ", ".join(words)

    def judge(self, *, fenced: bool = True) -> None:
        """After the end of all clients: every copy holds each acknowledged write once.

        `fenced`: nobody may even say that it takes writes while another one does. A primary that nobody
        could fence may say so when it wakes, until it hears of its successor; but it commits nothing.
        """
        acknowledged = {n for _, n in self.writers.acknowledged} | {n for _, n in self.held.acknowledged}
        acknowledged |= set(self.seldom)
        assert len(acknowledged) > 100
        leader = self.ground.leader()
        with self.ground.connect(leader) as connection:
            stored = [row[0] for row in connection.execute("SELECT number FROM ledger")]
            row = connection.execute("SELECT pg_current_wal_lsn()").fetchone()
        lost = sorted(acknowledged - set(stored))
        assert not lost, f"{len(lost)} acknowledged writes lost: {lost[:10]}; {self.name}"
        doubled = [number for number, times in Counter(stored).items() if times > 1]
        assert not doubled, f"written twice: {doubled[:10]}"
        assert not fenced or self.sampler.two_primaries() == []
        for node in self.ground.databases:
            if node != leader:
                self._same(node, str(row[0] if row else ""), sorted(stored))

    def _same(self, node: str, position: str, stored: list[int]) -> None:
        with self.ground.connect(node) as replica:

            def arrived() -> bool:
                row = replica.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (position,)).fetchone()
                return row == (True,)

            until(arrived, what=f"{node} to have replayed {position}")
            found = sorted(row[0] for row in replica.execute("SELECT number FROM ledger"))
        assert found == stored, f"{node} differs from the primary"
