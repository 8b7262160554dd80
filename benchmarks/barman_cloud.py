"""barman-cloud beside our backups: the same database into the same object storage, with keys of its own.

It compresses with lz4 or not at all, whatever is faster here, and encrypts nothing. Its restore unpacks the
files, and neither replays the log nor starts the server.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from common import PEERS

from asbuilt.engines.seaweedfs.names import ADMIN_ACCESS, ADMIN_SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from backup import Database

_SERVER = "peer"
_BUCKET = "s3://barman"
_JOBS = "2"


@dataclass(frozen=True)
class Barman:
    """The command line.

    Args:
        host: of the database.
        port: of the database.
        endpoint: of the object storage.
        env: the keys of the storage and the database's password.
    """

    host: str
    port: int
    endpoint: str
    env: dict[str, str]

    @classmethod
    def of(cls, database: Database, endpoint: str, region: str) -> Self:
        """For a database and the object storage of its environment."""
        host, port = database.address
        env = {
            **os.environ,
            "PGPASSWORD": database.secrets["database.superuser"],
            "AWS_ACCESS_KEY_ID": database.secrets[ADMIN_ACCESS],
            "AWS_SECRET_ACCESS_KEY": database.secrets[ADMIN_SECRET],
            "AWS_DEFAULT_REGION": region,
        }
        return cls(host, port, endpoint, env)

    def backup(self, compression: str) -> float:
        """Take a backup; seconds. `compression` is an option of its own, or nothing."""
        reach = ("-h", self.host, "-p", str(self.port), "-U", "postgres", "-d", "postgres")
        words = (*reach, "--immediate-checkpoint", "-J", _JOBS, *compression.split(), _BUCKET, _SERVER)
        return self._run("backup", *words)[0]

    def restore(self, folder: Path) -> float:
        """Unpack the last backup into a folder; seconds until it is on the disk."""
        shutil.rmtree(folder, ignore_errors=True)
        listed = json.loads(self._run("backup-list", "--format", "json", _BUCKET, _SERVER)[1])
        last = max(one["backup_id"] for one in listed["backups_list"])
        began = time.monotonic()
        self._run("restore", _BUCKET, _SERVER, last, str(folder))
        subprocess.run(["sync", "-f", str(folder)], check=True)
        return time.monotonic() - began

    def _run(self, name: str, *words: str) -> tuple[float, str]:
        argv = [str(PEERS / "bin" / f"barman-cloud-{name}"), "--endpoint-url", self.endpoint, *words]
        began = time.monotonic()
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"barman-cloud-{name}: {done.stderr[-2000:]}")
        return time.monotonic() - began, done.stdout
