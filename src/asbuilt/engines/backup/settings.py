"""What the archiver and the verbs about backups must know of an environment, as plain values.

The archiver runs all the time: this imports nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

IDENTITY: Final = "backup.identity"
"""The secret that opens the backups: a key of age."""


@dataclass(frozen=True, slots=True)
class BackupSettings:
    """Settings of one environment's backups; no secret is among them.

    Args:
        prefix: what every key in the store begins with; behind it follows the database's identifier.
        endpoint: address of the S3 service; empty where a folder is the store.
        bucket: its bucket.
        region: its region.
        locked: it has an object lock with a default retention.
        own: the store is the environment's own object storage.
        folder: the folder that is the store, or empty.
        recipients: public keys of the spec that backups are sealed for.
        spool: where the log is received.
        spool_limit: bytes of log that may wait there.
        hosts: addresses of the database nodes.
        port: their port.
        user: role that streams the log.
        slot: replication slot that keeps the log for us.
        managed: Patroni makes the slot.
        programs: `pg_receivewal` and the others by name.
        env: variables that they need.
        schedule: `hourly` or `daily`.
        data: data directories of the database nodes.
        parts: what is backed up: `database`, and what else there is of `cache`, `objects`, `files`.
    """

    prefix: str
    endpoint: str
    bucket: str
    region: str
    locked: bool
    own: bool
    folder: str
    recipients: tuple[str, ...]
    spool: Path
    spool_limit: int
    hosts: tuple[str, ...]
    port: int
    user: str
    slot: str
    managed: bool
    programs: tuple[tuple[str, str], ...]
    env: tuple[tuple[str, str], ...]
    schedule: str
    data: tuple[str, ...]
    parts: tuple[str, ...]


def variable(name: str) -> str:
    """Where a process of ours finds the `access` or `secret` key of a store that the spec names."""
    return f"ASBUILT_BACKUP_{name.upper()}"


def to_json(settings: BackupSettings) -> dict[str, Any]:
    """The settings as JSON values."""
    return {**asdict(settings), "spool": str(settings.spool)}


def from_json(raw: dict[str, Any]) -> BackupSettings:
    """The inverse of `to_json`."""
    return BackupSettings(
        **{
            **raw,
            "spool": Path(raw["spool"]),
            "recipients": tuple(raw["recipients"]),
            "hosts": tuple(raw["hosts"]),
            "data": tuple(raw["data"]),
            "parts": tuple(raw["parts"]),
            "programs": tuple((name, path) for name, path in raw["programs"]),
            "env": tuple((name, value) for name, value in raw["env"]),
        }
    )
