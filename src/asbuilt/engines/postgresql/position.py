"""Where the log of the primary ends now, and how far it was received, asked as the role that only watches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from asbuilt.plan.wal import Lsn

if TYPE_CHECKING:
    import psycopg

    from asbuilt.values.secret import Secret

_QUESTION = (
    "SELECT substr(pg_walfile_name(lsn), 1, 8), lsn::text,"
    " (SELECT flush_lsn::text FROM pg_stat_replication WHERE application_name = %s AND state = 'streaming')"
    " FROM pg_current_wal_flush_lsn() AS lsn"
)


class Position(NamedTuple):
    """Where a log is.

    Args:
        timeline: of the primary.
        end: everything before it is on the primary's disk.
        received: everything before it is on the receiver's disk; None while it does not stream.
    """

    timeline: int
    end: Lsn
    received: Lsn | None


class Positions:
    """Asks the primary among `hosts` over one connection, which is made again when it breaks."""

    def __init__(self, hosts: tuple[str, ...], port: int, user: str, password: Secret, receiver: str) -> None:
        self._hosts, self._port, self._user = hosts, port, user
        self._password, self._receiver = password, receiver
        self._connection: psycopg.Connection[Any] | None = None

    def ask(self) -> Position | None:
        """The position now; None while no primary answers."""
        import psycopg  # noqa: PLC0415 - slow to import, and the pure functions of the engine do not need it

        try:
            if self._connection is None:
                self._connection = self._connect()
            row = self._connection.execute(_QUESTION, (self._receiver,)).fetchone()
        except psycopg.Error:
            self.close()
            return None
        return (
            Position(int(row[0], 16), Lsn.parse(row[1]), Lsn.parse(row[2]) if row[2] else None)
            if row
            else None
        )

    def close(self) -> None:
        """Leave."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> psycopg.Connection[Any]:
        import psycopg  # noqa: PLC0415 - the same

        return psycopg.connect(
            host=",".join(self._hosts),
            port=self._port,
            user=self._user,
            password=self._password.reveal(),
            dbname="postgres",
            connect_timeout=2,
            sslmode="disable",
            application_name="asbuilt",
            target_session_attrs="read-write",
            options="-c statement_timeout=2000",
            autocommit=True,
        )
