"""Restores a backup into a folder of its own and replays the log in a server beside the database.

Invariants: it never writes into the archive (no archiving is configured, and it holds no slot); it listens on
an address of its own; what it left half-done is thrown away by the next try.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import tarfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asbuilt.engines.postgresql.config import HBA, SUPERUSER, quote
from asbuilt.engines.postgresql.sizing import build_cluster_parameters, size
from asbuilt.exec.runner import Command
from asbuilt.exec.sealing import open_sealed
from asbuilt.exec.streams import Measured
from asbuilt.operations.backup.context import Backups, fail
from asbuilt.operations.backup.feeder import Feeder
from asbuilt.operations.progress import Event
from asbuilt.plan.choice import Choice, render_settings
from asbuilt.plan.replay import which_needed
from asbuilt.plan.wal import Lsn

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    import psycopg

    from asbuilt.plan.archive import Archive
    from asbuilt.plan.basebackup import BaseBackup

SUBJECT: Final = "restore"
_NOT_REACHED: Final = "recovery ended before configured recovery target was reached"
_LAST_COMMIT: Final = re.compile(r"last completed transaction was at log time (.+)")
_STOP_WITHIN: Final = 60.0
_LOOK: Final = 0.1
_BUFFER: Final = 2**20


@dataclass
class SideCar:
    """A server beside the database.

    Args:
        backups: where from.
        folder: of its own: `data/`, `wal/`, its settings and its log.
        host: address it listens on.
        port: port.
        durable: what it writes survives a power cut; not needed for one that is only looked at.
        legs: seconds of each part, once it is done.
        last_commit: when the last transaction in it was committed, as PostgreSQL says; empty for none.
    """

    backups: Backups
    folder: Path
    host: str
    port: int = 0
    durable: bool = True
    legs: dict[str, float] = field(default_factory=dict)
    last_commit: str = ""

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.folder / "data"

    def fetch(self, backup: BaseBackup) -> None:
        """Unpack a base backup. Raises AsbuiltError STORE-00x, SEAL-00x, RESTORE-020 when it is damaged."""
        began = time.monotonic()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.data.mkdir(mode=0o700, parents=True)
        key = f"base/{backup.id}/base.tar.zst.age"
        tell = self.backups.tell
        tell(Event("started", SUBJECT, f"fetch the backup {backup.id}"))
        told = began
        with self.backups.store.get(key) as stored:
            meter = Measured(stored)
            with open_sealed(meter, self.backups.identities, name=key) as clear:
                reader = io.BufferedReader(clear, _BUFFER)
                with tarfile.open(fileobj=reader, mode="r|", bufsize=_BUFFER) as tar:
                    for member in tar:
                        tar.extract(member, self.data, filter="data")
                        now = time.monotonic()
                        if now - told >= 1.0:
                            told = now
                            tell(Event("waiting", SUBJECT, _share(meter.size, backup.size), now - began))
                while reader.read(_BUFFER):
                    pass
        if meter.sha256 != backup.sha256:
            raise fail(
                "RESTORE-020",
                f"the backup {backup.id} is not what was stored",
                hint="another backup may be whole: asbuilt backup list",
            )
        _give(self.backups, self.data)
        self.legs["fetch"] = time.monotonic() - began

    def verify_files(self) -> None:
        """PostgreSQL's own check of every file against the manifest. Raises AsbuiltError EXEC-003."""
        began = time.monotonic()
        program = self.backups.prepared.site.tools["postgresql"].programs.get("pg_verifybackup")
        if program is None:
            return
        self.backups.tell(Event("started", SUBJECT, "check every file against the backup's manifest"))
        self._run(program, "--no-parse-wal", "--exit-on-error", str(self.data))
        self.legs["manifest"] = time.monotonic() - began

    def verify_pages(self) -> None:
        """The checksum of every page, while it is stopped. Raises AsbuiltError EXEC-003."""
        began = time.monotonic()
        program = self.backups.prepared.site.tools["postgresql"].programs.get("pg_checksums")
        if program is None:
            return
        self.backups.tell(Event("started", SUBJECT, "check every page's checksum"))
        self._run(program, "--check", "-D", str(self.data))
        self.legs["pages"] = time.monotonic() - began

    def replay(self, choice: Choice, archive: Archive) -> Lsn:
        """Replay the log up to the target, promote, and stop. The answer is where it ended."""
        began = time.monotonic()
        parts = which_needed(choice, archive)
        feeder = Feeder(self.backups, archive, parts, self.folder / "wal")
        feeder.prepare()
        (self.data / "recovery.signal").touch()
        _give(self.backups, self.folder)
        self.backups.tell(
            Event("started", SUBJECT, f"replay {len(parts)} segments of log to {choice.target}")
        )
        feeder.start()
        try:
            end = self._replay(choice, feeder, len(parts))
        finally:
            feeder.stop()
            shutil.rmtree(self.folder / "wal", ignore_errors=True)
        self.legs["replay"] = time.monotonic() - began
        return end

    def _replay(self, choice: Choice, feeder: Feeder, count: int) -> Lsn:
        attempt: Choice | None = choice
        while attempt is not None:
            self._write_settings({**render_settings(attempt), "restore_command": feeder.command})
            end = self._run_recovery(feeder, count)
            if end is not None:
                return end
            # an idle database: nothing in the log is later than the target
            attempt = attempt.without_target() if attempt is choice else None
        raise fail("RESTORE-021", f"{choice.target} was not found in the log", evidence=self._last_words())

    def _run_recovery(self, feeder: Feeder, count: int) -> Lsn | None:
        """Run to the end of recovery. None: the log ended before the target."""
        began = time.monotonic()
        server = self._start()
        try:
            while True:
                time.sleep(_LOOK)
                if feeder.error is not None:
                    raise feeder.error
                if server.poll() is not None:
                    words = self._last_words(200)
                    if any(_NOT_REACHED in line for line in words):
                        return None
                    raise fail("RESTORE-022", "the restored server ended", evidence=words[-8:])
                end = self._find_end()
                if end is not None:
                    found = _LAST_COMMIT.findall("\n".join(self._last_words(200)))
                    self.last_commit = found[-1] if found else ""
                    return end
                told = f"{feeder.asked} of {count} segments of log replayed"
                self.backups.tell(Event("waiting", SUBJECT, told, time.monotonic() - began))
        finally:
            self._stop(server)

    def _find_end(self) -> Lsn | None:
        """Where recovery ended; None while it goes on."""
        import psycopg  # noqa: PLC0415 - slow to import

        try:
            with self.connect("postgres", timeout=1) as connection:
                row = connection.execute(
                    "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_lsn()::text END"
                ).fetchone()
        except psycopg.Error as error:
            if "password authentication failed" in str(error):
                raise fail(
                    "RESTORE-024",
                    "what was restored has other passwords than this environment",
                    hint="put the saved secrets.json of that database in the place of this one's",
                ) from None
            return None
        return Lsn.parse(row[0]) if row and row[0] else None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the restored server, which is out of recovery, for a while."""
        self._write_settings({})
        server = self._start()
        began = time.monotonic()
        try:
            while self._find_end() is None:
                if server.poll() is not None:
                    raise fail("RESTORE-022", "the restored server ended", evidence=self._last_words())
                self.backups.tell(
                    Event("waiting", SUBJECT, "the restored server to answer", time.monotonic() - began)
                )
                time.sleep(_LOOK)
            yield
        finally:
            self._stop(server)

    def connect(self, database: str, *, timeout: int = 5) -> psycopg.Connection[Any]:
        """A session as superuser."""
        import psycopg  # noqa: PLC0415 - the same

        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=SUPERUSER,
            password=self.backups.secret("database.superuser").reveal(),
            dbname=database,
            connect_timeout=timeout,
            sslmode="disable",
            application_name="asbuilt",
            autocommit=True,
        )

    def _start(self) -> subprocess.Popen[bytes]:
        site = self.backups.prepared.site
        words = (
            site.tools["postgresql"].programs["postgres"],
            "-D",
            str(self.data),
            "-c",
            f"config_file={self.folder / 'postgresql.conf'}",
            "-c",
            f"hba_file={self.folder / 'pg_hba.conf'}",
        )
        log = self.folder / "postgresql.log"
        log.unlink(missing_ok=True)
        command = Command(words, env=tuple(site.tools["postgresql"].env.items()), cwd=str(self.folder))
        return self.backups.prepared.runner.start(command, log)

    def _stop(self, server: subprocess.Popen[bytes]) -> None:
        if server.poll() is None:
            with suppress(OSError, ValueError):
                pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
                os.kill(pid, 2)  # SIGINT: PostgreSQL's fast shutdown
        try:
            server.wait(_STOP_WITHIN)
        except Exception:  # noqa: BLE001 - it must not outlive us
            server.kill()
            server.wait()

    def _write_settings(self, recovery: dict[str, str]) -> None:
        prepared = self.backups.prepared
        database = prepared.architecture.spec.database
        if database is None:
            raise fail("BACKUP-001", "the spec has no database")
        if not self.port:
            self.port = _find_port(self.host)
        settings: dict[str, str | int] = {
            **build_cluster_parameters(database, size(database, prepared.site)),
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": "",
            "shared_buffers": "256MB",
            "max_wal_size": "1GB",
            "fsync": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
            # nobody looks in before it is done, and then its settings need not be at least the primary's
            "hot_standby": "off",
            "archive_mode": "off",
            "password_encryption": "scram-sha-256",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_destination": "stderr",
            "logging_collector": "off",
            "recovery_target_action": "promote",
            **recovery,
        }
        text = "".join(f"{name} = {quote(str(value))}\n" for name, value in settings.items())
        for name, content in (("postgresql.conf", text), ("pg_hba.conf", "".join(f"{one}\n" for one in HBA))):
            path = self.folder / name
            path.write_text(content)
            path.chmod(0o600)
            os.chown(path, prepared.runner.identity.uid, prepared.runner.identity.gid)

    def _run(self, *words: str) -> None:
        tools = self.backups.prepared.site.tools["postgresql"]
        command = Command(words, env=tuple(tools.env.items()), timeout=24 * 3600.0)
        self.backups.prepared.runner.run(command)

    def _last_words(self, count: int = 8) -> tuple[str, ...]:
        try:
            lines = (self.folder / "postgresql.log").read_text(errors="replace").splitlines()
        except OSError:
            return ()
        return tuple(line for line in lines if line.strip())[-count:]


def _share(done: int, total: int) -> str:
    return f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB fetched"


def _find_port(host: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def _give(backups: Backups, folder: Path) -> None:
    """Hand all of it to the identity that PostgreSQL runs as, where that is another user than ours."""
    identity = backups.prepared.runner.identity
    if identity.uid == os.geteuid():
        return
    for parent, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            os.chown(os.path.join(parent, name), identity.uid, identity.gid, follow_symlinks=False)  # noqa: PTH118
