"""The ledger in the database: what was acknowledged through the app's own route, and what every copy holds.

While it is open: numbered inserts, a connection that rests, a session that stays on the primary, a reader
on a replica, one observer of every node. All is in a schema of its own, dropped at the end.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg

from asbuilt.graph.model import Kind
from asbuilt.operations.drill.sampler import Sampler, sample_databases
from asbuilt.operations.drill.track import LateError, Track
from asbuilt.operations.drill.writers import Writers
from asbuilt.plan.ledger import Sight, count_losses, find_legs, measure_rto
from asbuilt.plan.verdict import RATE

if TYPE_CHECKING:
    from asbuilt.operations.drill.ground import Ground
    from asbuilt.values.secret import Secret

SCHEMA: Final = "asbuilt_drill"
_TABLE: Final = f"{SCHEMA}.ledger"
_MAKE: Final = (
    f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE",
    f"CREATE SCHEMA {SCHEMA}",
    f"CREATE TABLE {_TABLE} (kind text NOT NULL, number bigint NOT NULL)",
)
_INSERT: Final = f"INSERT INTO {_TABLE} VALUES (%s, %s)"  # noqa: S608 - a name of our own
_CONNECT: Final = 2
_BASELINE: Final = 2.0
_EQUAL_WITHIN: Final = 30.0


def connect(url: Secret) -> psycopg.Connection[Any]:
    """A connection as an application makes it."""
    return psycopg.connect(
        url.reveal(), autocommit=True, connect_timeout=_CONNECT, application_name="asbuilt drill"
    )


class Ledger:
    """One client's way to the ledger."""

    errors: tuple[type[Exception], ...] = (psycopg.Error, OSError)

    def __init__(self, url: Secret) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None

    def open(self) -> bool:
        """Connect if it is not."""
        if self._connection is not None:
            return False
        self._connection = connect(self._url)
        return True

    def write(self, number: int) -> None:
        """One insert, committed."""
        self.open()
        if self._connection is not None:
            self._connection.execute(_INSERT, ("ledger", number))

    def close(self) -> None:
        """Hang up; a session on a demoted primary must go as well."""
        if self._connection is not None:
            with suppress(psycopg.Error, OSError):
                self._connection.close()
        self._connection = None


@dataclass
class DatabaseClients:
    """Everybody who uses the database during a drill.

    Args:
        track: the round.
        judged: whether the longest gap of writes is the round's RTO.
        baseline: seconds of writing before anything is broken.
    """

    track: Track
    judged: bool = True
    baseline: float = _BASELINE
    held: list[tuple[float, int]] = field(default_factory=list)
    broken: tuple[float, str] | None = None
    read: list[float] = field(default_factory=list)
    rested: str = ""
    ended: float | None = None
    primary: str = ""

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._stack = ExitStack()
        self._idle: psycopg.Connection[Any] | None = None
        self.writers = Writers(lambda: Ledger(self.ground.database_url), self._numbers)
        self.sampler: Sampler = sample_databases(
            {node: self.ground.node_url(node) for node in self.ground.nodes(Kind.DATABASE)}
        )

    @property
    def ground(self) -> Ground:
        """Where."""
        return self.track.ground

    def __enter__(self) -> Self:
        self.primary = self.ground.primary(Kind.DATABASE)
        make_schema(self.ground)
        self.track.judges.append(self.judge)
        self.track.writes = True
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _open(self) -> None:
        self._idle = connect(self.ground.database_url)
        session = connect(self.ground.node_url(self.primary))
        for run, given in ((self._hold, session), (self._read, None)):
            thread = threading.Thread(target=run, args=(given,), daemon=True)
            thread.start()
            self._threads.append(thread)
        self._stack.enter_context(self.sampler)
        self._stack.enter_context(self.writers)
        with suppress(LateError):  # then there is too little load, and the verdict says so
            self.track.until(
                "writes to flow",
                lambda: self.writers.since(time.monotonic() - 1) >= RATE and self.read,
                30.0,
            )
        began = time.monotonic()
        self.track.rest("the baseline", self.baseline)
        self.track.rate = round(self.writers.since(began) / (time.monotonic() - began), 1)
        self.track.note(f"baseline: {self.track.rate:.0f} acknowledged writes a second")
        self.track.probes["acknowledged write"] = lambda: self.writers.last(began)

    def __exit__(self, *_: object) -> None:
        self.ended = self.ended or time.monotonic()
        self.track.probes.pop("acknowledged write", None)
        self._over.set()
        self._stack.close()
        for thread in self._threads:
            thread.join(5)
        if self._idle is not None:
            with suppress(psycopg.Error, OSError):
                self._idle.close()

    # -- during -------------------------------------------------------------------------------------------

    def wait_back(self, within: float = 330.0) -> None:
        """Until writes flow again after the fault was felt; the connection that rested is tried as well."""
        moment = self.track.moment

        def felt() -> bool:
            return bool(self.broken) or any(at > moment for at, _ in self.writers.refused[-50:])

        self.track.until("the fault to be felt", felt, 60.0, every=0.02)
        felt_at = time.monotonic()
        self.track.until("writes to flow again", lambda: self.writers.steady(felt_at), within, every=0.05)
        self.use_rested()

    def use_rested(self) -> None:
        """The connection that rested since before the fault fails, or writes to today's primary."""
        number = next(self._numbers)
        if self._idle is None:
            return
        try:
            self._idle.execute(_INSERT, ("idle", number))
        except (psycopg.Error, OSError) as error:
            self.rested = f"refused: {str(error).strip().partition(chr(10))[0]}"
        else:
            self.rested = "acknowledged"
            self.held.append((time.monotonic(), number))

    def _hold(self, session: psycopg.Connection[Any]) -> None:
        while not self._over.wait(0.1):
            number = next(self._numbers)
            try:
                session.execute(_INSERT, ("held", number))
            except (psycopg.Error, OSError) as error:
                self.broken = time.monotonic(), str(error).strip().partition("\n")[0]
                return
            self.held.append((time.monotonic(), number))
        with suppress(psycopg.Error, OSError):
            session.close()

    def _read(self, _: object) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self._over.wait(0.1):
            try:
                if connection is None:
                    connection = connect(self.ground.replica_url)
                connection.execute(f"SELECT max(number) FROM {_TABLE}")  # noqa: S608 - a name of our own
                self.read.append(time.monotonic())
            except (psycopg.Error, OSError):
                if connection is not None:
                    with suppress(psycopg.Error, OSError):
                        connection.close()
                connection = None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                connection.close()

    # -- after --------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """Count, compare every copy, and drop the schema."""
        track, now = self.track, self.ended or time.monotonic()
        good = [at for at, _ in self.writers.acknowledged]
        acknowledged = [*self.writers.acknowledged, *self.held]
        track.two_primaries = self.sampler.count_two()
        track.figures |= {
            "writes acknowledged": len(acknowledged),
            "writes refused": len(self.writers.refused),
            "writes a second before": track.rate or 0.0,
        }
        if track.moment:
            self._measure(good, now)
        try:
            stored = self._stored()
        except (psycopg.Error, OSError, LateError) as error:
            track.note(f"the ledger cannot be read: {error}")
            return
        losses = track.losses = count_losses(acknowledged, stored, track.moment)
        track.figures |= {"writes lost": len(losses.lost), "writes doubled": len(losses.doubled)}
        if track.whole:
            self._compare(sorted(stored))
        drop_schema(self.ground)

    def _measure(self, good: list[float], now: float) -> None:
        track = self.track
        if self.judged:
            track.rto = measure_rto(good, track.moment, now)
        sight = Sight(
            track.moment,
            self.primary,
            self.broken[0] if self.broken else None,
            tuple(at for at, _ in self.writers.refused),
            tuple(self.writers.connected),
            tuple(good),
            self.sampler.writable,
            None,
        )
        track.legs = {**find_legs(sight, now), **track.legs}
        if self.broken:
            track.evidence.append(f"the session that was open on {self.primary} broke: {self.broken[1]}")
        if self.rested:
            track.evidence.append(f"the connection that rested was {self.rested}")
        reads = measure_rto(self.read, track.moment, now)
        if reads is not None:
            track.figures["longest time without a read"] = round(reads, 3)

    def _stored(self) -> list[int]:
        until = time.monotonic() + 20.0
        while True:
            try:
                with connect(self.ground.database_url) as connection:
                    return [
                        int(row[0])
                        for row in connection.execute(f"SELECT number FROM {_TABLE}")  # noqa: S608 - ours
                    ]
            except (psycopg.Error, OSError):
                if time.monotonic() > until:
                    raise
                time.sleep(0.3)

    def _compare(self, stored: list[int]) -> None:
        """Every copy holds the same, once it has replayed what the primary wrote."""
        different = []
        until = time.monotonic() + _EQUAL_WITHIN
        for node in self.ground.nodes(Kind.DATABASE):
            while not self._equal(node, stored):
                if time.monotonic() > until:
                    different.append(node)
                    break
                time.sleep(0.2)
        self.track.check(
            "every copy of the database holds the same", not different, f"different: {', '.join(different)}"
        )

    def _equal(self, node: str, stored: list[int]) -> bool:
        with suppress(psycopg.Error, OSError), connect(self.ground.node_url(node)) as connection:
            rows = connection.execute(f"SELECT number FROM {_TABLE} ORDER BY number")  # noqa: S608 - ours
            return [int(row[0]) for row in rows] == stored
        return False


def make_schema(ground: Ground) -> None:
    """An empty schema of our own."""
    with connect(ground.database_url) as connection:
        for statement in _MAKE:
            connection.execute(statement)


def drop_schema(ground: Ground) -> bool:
    """Drop the schema; whether it is gone."""
    with suppress(psycopg.Error, OSError):
        with connect(ground.database_url) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        return True
    return False


def has_schema(ground: Ground) -> bool:
    """Whether the schema is there. Raises psycopg.Error when nobody can be asked."""
    with connect(ground.database_url) as connection:
        row = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (SCHEMA,)).fetchone()
    return row is not None
