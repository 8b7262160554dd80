"""The replay of 2 GB of log in a restore, beside PostgreSQL's own from a local directory.

Both begin with the same small database, replay the same log with the same settings, are promoted and stopped.
Ours fetches the log from the environment's object storage, decrypts and decompresses it; the limit copies
files that lie there (`restore_command = 'cp ...'`), which `pg_receivewal` received while they were written.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from backup import Database, await_archived, write_project
from common import Bench, Environment, Row, environment, middle_ratio, run_alone, say, stop_session, until

from asbuilt.exec.identity import find_identity

LOG = 2 * 2**30
_SCALE = 10
_SHARE = 0.7
_UPDATE = "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 4 = {turn}"
_INSERT = (
    "INSERT INTO bulk SELECT aid, repeat(md5(aid::text), 6) FROM pgbench_accounts WHERE aid % 2 = {turn}"
)


def position(database: Database) -> int:
    """How many bytes of log the database has written in its life."""
    with database.connect("postgres", "postgres") as connection:
        row = connection.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
    return int(str(row[0])) if row else 0


def write_log(database: Database, size: int) -> tuple[int, str]:
    """Transactions of pgbench first, then rows in bulk: how many bytes, and the last file."""
    begin = position(database)
    database.program("pgbench", "-n", "-c", "8", "-T", "20", "app", user="app")
    with database.connect() as connection:
        connection.execute("CREATE TABLE bulk (aid int, filler text)")
        turn = 0
        while position(database) - begin < size:
            connection.execute(_UPDATE.format(turn=turn % 4))
            connection.execute(_INSERT.format(turn=turn % 2))
            turn += 1
    with database.connect("postgres", "postgres") as connection:
        row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
    return position(database) - begin, str(row[0]) if row else ""


@dataclass(frozen=True)
class Local:
    """A server of our own with the settings of a restored copy, which takes its log from a folder.

    Args:
        folder: of its own.
        base: a base backup.
        log: the received log.
        database: the one that all is of.
    """

    folder: Path
    base: Path
    log: Path
    database: Database

    def make(self, copy: Path) -> None:
        """Its data and its settings: those of the copy, with another way to the log."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o755)
        subprocess.run(["cp", "-a", str(self.base), str(self.folder / "data")], check=True)
        (self.folder / "data" / "recovery.signal").touch()
        command = f'cp {self.log}/%f "%p"'
        text = (copy / "postgresql.conf").read_text()
        (self.folder / "postgresql.conf").write_text(f"{text}restore_command = '{command}'\n")
        shutil.copy(copy / "pg_hba.conf", self.folder)
        identity = find_identity()
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, identity.uid, identity.gid)
        subprocess.run(["sync", "-f", str(self.folder)], check=True)

    def replay(self) -> float:
        """From the start to the stop after the end of recovery; seconds."""
        words = (
            str(self.database.programs / "postgres"),
            *("-D", str(self.folder / "data")),
            *("-c", f"config_file={self.folder / 'postgresql.conf'}"),
            *("-c", f"hba_file={self.folder / 'pg_hba.conf'}"),
        )
        began = time.monotonic()
        with (self.folder / "log").open("wb") as log:
            argv = find_identity().wrap(words)
            server = subprocess.Popen(argv, stdout=log, stderr=log, cwd=self.folder)
        try:
            until(lambda: self._recovered(server), "the end of recovery", within=240, every=0.1)
        finally:
            server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            server.wait(60)
        return time.monotonic() - began

    def _recovered(self, server: subprocess.Popen[bytes]) -> bool:
        if server.poll() is not None:
            raise RuntimeError((self.folder / "log").read_text()[-2000:])
        lines = (self.folder / "postgresql.conf").read_text().splitlines()
        settings = dict(line.split(" = ", 1) for line in lines)
        with (
            suppress(psycopg.Error),
            psycopg.connect(
                host=settings["listen_addresses"].strip("'"),
                port=settings["port"].strip("'"),
                user="postgres",
                dbname="postgres",
                password=self.database.secrets["database.superuser"],
                connect_timeout=1,
            ) as connection,
        ):
            row = connection.execute("SELECT pg_is_in_recovery(), pg_current_wal_lsn()::text").fetchone()
            return row is not None and not row[0]
        return False


def receive(bench: Bench, database: Database, folder: Path) -> subprocess.Popen[bytes]:
    """Start `pg_receivewal`; returns when it is under way."""
    host, port = database.address
    words = ("-h", host, "-p", str(port), "-U", "replicator", "-D", str(folder), "--no-loop")
    password = {"PGPASSWORD": database.secrets["database.replicator"]}
    child = bench.start(database.programs / "pg_receivewal", *words, env=password)
    until(lambda: any(folder.iterdir()), "pg_receivewal to be under way")
    return child


def measure(one: Environment, local: Local, size: int, runs: int) -> list[Row]:
    """Ours and the limit, one after the other."""
    ours, limit = [], []
    for number in range(runs):
        said = json.loads(one.run("restore", "production", "--to", "latest", "--json").stdout)
        ours.append(size / 1e6 / float(said["legs"]["replay"]))
        local.make(one.root() / "sidecar")
        one.run("restore", "production", "--drop")
        limit.append(size / 1e6 / local.replay())
        say(f"replay: {number + 1} of {runs}: ours {ours[-1]:.0f} MB/s, local {limit[-1]:.0f} MB/s")
    ratio = middle_ratio(ours, limit)
    return [
        Row("PostgreSQL's replay of 2 GB of log, from a local directory", "MB/s", tuple(limit)),
        Row(
            "replay of 2 GB of log in a restore",
            "MB/s",
            tuple(ours),
            f"{ratio:.2f} of that from a local directory",
            f"{_SHARE:g} of it",
            ratio >= _SHARE,
        ),
    ]


def rows(runs: int = 3) -> list[Row]:
    """Measure and return the table's rows."""
    with Bench() as bench:
        project = write_project(bench.folder / "project")
        with environment(bench, project, "production") as one:
            database = Database(one)
            database.program("pgbench", "-i", "-q", "-s", str(_SCALE), "app", user="app")
            base, log = bench.folder / "base", bench.folder / "received"
            log.mkdir()
            receiver = receive(bench, database, log)
            one.run("backup", "production", "create")
            database.program("pg_basebackup", "-D", str(base), "-X", "none", "-c", "fast", user="replicator")
            size, last = write_log(database, LOG)
            until((log / last).exists, "the log to be received", within=60)
            stop_session(receiver)
            await_archived(one)
            return measure(one, Local(bench.folder / "local", base, log, database), size, runs)


if __name__ == "__main__":
    run_alone(rows, __doc__, runs=3)
