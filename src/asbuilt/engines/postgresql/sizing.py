"""PostgreSQL's numbers from the spec and the machine. Pure; every figure says where it comes from.

Invariant: durability is never traded for speed: fsync, synchronous commit and full page writes stay on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asbuilt.plan.site import Site
    from asbuilt.spec.schema import Database

_MB: Final = 2**20
_GB: Final = 2**30
RESERVED: Final = 10
"""Connections that the app cannot take: superuser, monitoring, and Patroni's own."""
_SHARE_OF_MACHINE: Final = 0.5
"""What all database nodes of one environment together may take of the machine's memory."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Memory of one node in bytes, and how many members there are."""

    memory: int
    members: int


def size(database: Database, site: Site) -> Sizes:
    """The spec's memory, clamped to a fair share of the machine, at least 128 MB."""
    members = 1 + database.replicas
    share = int(site.memory * _SHARE_OF_MACHINE) // members
    return Sizes(max(128 * _MB, min(database.memory.bytes, share)), members)


def build_cluster_parameters(database: Database, sizes: Sizes) -> dict[str, str | int]:
    """Parameters that every member must have alike, because a replica refuses to start with less."""
    return {
        "max_connections": database.max_connections,
        "max_worker_processes": 8,
        "max_prepared_transactions": 0,
        "max_locks_per_transaction": 64,
        # each other member streams, one more while it is cloned, and room for archiving and backups
        "max_wal_senders": 2 * sizes.members + 4,
        "max_replication_slots": 2 * sizes.members + 4,
        "wal_level": "replica",
        "wal_log_hints": "on",
        "track_commit_timestamp": "off",
    }


def build_parameters(database: Database, sizes: Sizes) -> dict[str, str | int]:
    """Everything else: memory, write-ahead log, liveness of connections, log."""
    storage = database.storage.initial.bytes
    memory = sizes.memory
    # a quarter for shared buffers, and work memory such that a quarter of the connections sorting at once
    # takes another quarter: PostgreSQL's own advice for a dedicated server
    work = min(64 * _MB, max(4 * _MB, memory // database.max_connections))
    return {
        "shared_buffers": _in_mb(memory // 4),
        "effective_cache_size": _in_mb(memory * 5 // 8),
        "work_mem": _in_mb(work),
        "maintenance_work_mem": _in_mb(min(_GB, max(32 * _MB, memory // 16))),
        "huge_pages": "off",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "wal_compression": "on",
        "min_wal_size": "80MB",
        "max_wal_size": _in_mb(min(_GB, max(256 * _MB, storage // 20))),
        "wal_keep_size": "128MB",
        "max_slot_wal_keep_size": _in_mb(min(16 * _GB, max(_GB, storage // 10))),
        "checkpoint_timeout": "5min",
        "checkpoint_completion_target": "0.9",
        "wal_retrieve_retry_interval": "200ms",
        "wal_receiver_timeout": "10s",
        "wal_sender_timeout": "10s",
        "wal_receiver_status_interval": "1s",
        "hot_standby": "on",
        "hot_standby_feedback": "on",
        "password_encryption": "scram-sha-256",
        "superuser_reserved_connections": 5,
        "tcp_keepalives_idle": 10,
        "tcp_keepalives_interval": 5,
        "tcp_keepalives_count": 3,
        "tcp_user_timeout": "30s",
        "client_connection_check_interval": "5s",
        "random_page_cost": "1.1",
        "track_io_timing": "on",
        "unix_socket_directories": "",
        "ssl": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_destination": "stderr",
        "logging_collector": "off",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "log_lock_waits": "on",
        "log_checkpoints": "off",
        "log_min_duration_statement": "1s",
        "log_parameter_max_length": 0,
        "log_parameter_max_length_on_error": 0,
    }


def _in_mb(size_in_bytes: int) -> str:
    return f"{size_in_bytes // _MB}MB"
