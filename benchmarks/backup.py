"""Backup and restore of a 1 GB pgbench database, beside the copies that they cannot be faster than.

The database has no replicas, and the backups go into the environment's own object storage. The limits:
`pg_basebackup` to disk without compression or encryption for a backup, and for a restore `cp -a` of the data
directory. The peer is barman-cloud with the same object storage. All on the same disk, in the same rounds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from barman_cloud import Barman
from common import Bench, Environment, Row, environment, middle_ratio, run_alone, say, until

from asbuilt.engines.backup.settings import BackupSettings, from_json

SCALE = 68
"""Of pgbench: some 15 MB each, 1 GB in all."""
_APP = """\
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Answer).serve_forever()
"""
_SPEC = """\
name: kept
app: {{command: {python} app.py, build: none, instances: 1}}
cache: none
files: none
environments:
  production:
    database: {{replicas: {replicas}, storage: 20GB, backup: {{verify: false{where}}}}}
    objects: {objects}
"""


@dataclass(frozen=True)
class Database:
    """How the database of an environment is reached."""

    one: Environment

    @property
    def settings(self) -> BackupSettings:
        """Of its backups."""
        state = json.loads((self.one.root() / "agent" / "workloads" / "backup-1.json").read_text())
        return from_json(json.loads(state["workload"]["argv"][4]))

    @property
    def programs(self) -> Path:
        """Folder of PostgreSQL's programs."""
        return Path(dict(self.settings.programs)["pg_basebackup"]).parent

    @property
    def secrets(self) -> dict[str, str]:
        """The generated passwords."""
        found: dict[str, str] = json.loads((self.one.root() / "secrets.json").read_text())
        return found

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.one.nodes("database")[0]["address"].rpartition(":")
        return host, int(port)

    def connect(self, user: str = "app", database: str = "app") -> psycopg.Connection[tuple[object, ...]]:
        """A session."""
        host, port = self.address
        name = "superuser" if user == "postgres" else user
        return psycopg.connect(
            host=host,
            port=port,
            user=user,
            dbname=database,
            password=self.secrets[f"database.{name}"],
            autocommit=True,
        )

    def program(self, name: str, *words: str, user: str = "postgres") -> float:
        """Run a client program to its end; seconds."""
        host, port = self.address
        secret = self.secrets[f"database.{'superuser' if user == 'postgres' else user}"]
        env = {**os.environ, "PGPASSWORD": secret}
        argv = [str(self.programs / name), "-h", host, "-p", str(port), "-U", user, *words]
        began = time.monotonic()
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
        return time.monotonic() - began


def write_project(folder: Path, where: str = "", objects: str = "{}", replicas: int = 0) -> Path:
    """The project; `where`: more words of its backup, each after a comma."""
    folder.mkdir()
    (folder / "app.py").write_text(_APP)
    text = _SPEC.format(python=sys.executable, where=where, objects=objects, replicas=replicas)
    (folder / "asbuilt.yaml").write_text(text)
    return folder


def measure_copies(one: Environment, database: Database, folder: Path, runs: int) -> list[Row]:
    """Backup and restore, each beside its limit."""
    raw, taken, copied, restored, replayed, stored, fetched = [], [], [], [], [], [], []
    barman = Barman.of(database, database.settings.endpoint, database.settings.region)
    how = min(("", "--lz4"), key=barman.backup)
    memory = 0.0
    data = one.root() / "nodes" / "db-1" / "data"
    for number in range(runs):
        shutil.rmtree(folder, ignore_errors=True)
        raw.append(
            database.program(
                "pg_basebackup", "-D", str(folder), "-X", "none", "-c", "fast", user="replicator"
            )
        )
        began = time.monotonic()
        child = subprocess.Popen(
            [str(Path(sys.executable).parent / "asbuilt"), "backup", "production", "create", "--json"],
            cwd=one.project,
            env={**os.environ, "ASBUILT_HOME": str(one.home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise RuntimeError("the backup failed")
        taken.append(time.monotonic() - began)
        memory = max(memory, usage.ru_maxrss / 1024)
        stored.append(barman.backup(how))
        shutil.rmtree(folder, ignore_errors=True)
        began = time.monotonic()
        subprocess.run(["cp", "-a", str(data), str(folder)], check=True)
        subprocess.run(["sync", "-f", str(folder)], check=True)
        copied.append(time.monotonic() - began)
        fetched.append(barman.restore(folder))
        shutil.rmtree(folder, ignore_errors=True)
        said = json.loads(one.run("restore", "production", "--to", "latest", "--json").stdout)
        restored.append(float(said["seconds"]))
        replayed.append(float(said["legs"]["replay"]))
        one.run("restore", "production", "--drop")
        say(
            f"backup: {number + 1} of {runs}: raw {raw[-1]:.1f} s, ours {taken[-1]:.1f} s; "
            f"cp {copied[-1]:.1f} s, restored {restored[-1]:.1f} s; "
            f"barman {stored[-1]:.1f} s and {fetched[-1]:.1f} s"
        )
    limit = [copy + replay for copy, replay in zip(copied, replayed, strict=True)]
    there, back = middle_ratio(taken, raw), middle_ratio(restored, limit)
    peer_there, peer_back = middle_ratio(taken, stored), middle_ratio(restored, fetched)
    compressed = "lz4" if how else "not compressed"
    return [
        Row("pg_basebackup to disk, plain", "s", tuple(raw)),
        Row(f"barman-cloud-backup, {compressed}, not encrypted, stored", "s", tuple(stored)),
        Row(
            "backup of 1 GB, compressed, encrypted, stored",
            "s",
            tuple(taken),
            f"{there:.2f} x pg_basebackup to disk, {peer_there:.2f} x barman",
            "2 x pg_basebackup, faster than barman",
            there <= 2 and peer_there < 1,
        ),
        Row("backup: our own memory at most", "MB", (memory,), "", "below 150", memory < 150),
        Row("cp -a of the data directory, and the replay", "s", tuple(limit)),
        Row("barman-cloud-restore, the files alone: no log replayed, no server", "s", tuple(fetched)),
        Row(
            "restore to a running copy",
            "s",
            tuple(restored),
            f"{back:.2f} x cp -a and the engine's recovery, {peer_back:.2f} x barman",
            "2 x cp -a and recovery, faster than barman",
            back <= 2 and peer_back < 1,
        ),
    ]


def measure_table(one: Environment, database: Database) -> Row:
    """A dropped table, found again."""
    time.sleep(1.0)  # so that the moment lies between two commits
    before = datetime.now(UTC).isoformat()
    time.sleep(1.0)
    with database.connect() as connection:
        connection.execute("DROP TABLE pgbench_accounts")
    await_archived(one)
    began = time.monotonic()
    one.run("restore", "production", "--to", before, "--table", "pgbench_accounts")
    seconds = time.monotonic() - began
    with database.connect() as connection:
        row = connection.execute("SELECT count(*) FROM pgbench_accounts").fetchone()
    if row is None or row[0] != SCALE * 100_000:
        raise RuntimeError(f"the table has {row} rows")
    one.run("restore", "production", "--drop")
    return Row(
        "dropped table of 6.8 million rows restored and copied back",
        "s",
        (seconds,),
        "",
        "below 180 s",
        seconds < 180,
    )


def await_archived(one: Environment) -> None:
    """Wait until everything that is committed by now is in the store."""
    now = time.time()
    state = one.root() / "backup.json"
    until(lambda: json.loads(state.read_text())["stored_at"] >= now, "the log to be archived", within=120)


def rows(runs: int = 3) -> list[Row]:
    """Measure and return the table's rows."""
    with Bench() as bench:
        project = write_project(bench.folder / "project")
        with environment(bench, project, "production") as one:
            database = Database(one)
            database.program("pgbench", "-i", "-q", "-s", str(SCALE), "app", user="app")
            found = measure_copies(one, database, bench.folder / "copy", runs)
            found.append(measure_table(one, database))
        return found


if __name__ == "__main__":
    run_alone(rows, __doc__, runs=3)
