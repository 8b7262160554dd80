"""The standard port of every service: one table for edges, addresses, monitoring and configuration.

Invariant: the names are those of `Site.ports`; a target may move a service to another port, the architecture
always speaks of the standard one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Service:
    """One thing that listens.

    Args:
        port: the standard TCP port (for `dns` UDP as well); 0 where nothing listens, like a shared folder.
        protocol: what is spoken there.
    """

    port: int
    protocol: str


SERVICES: Final[dict[str, Service]] = {
    "dns": Service(53, "dns"),
    "https": Service(443, "https"),
    "http": Service(80, "http"),
    "app": Service(8000, "http"),
    "route-primary": Service(5432, "postgresql"),
    "route-replica": Service(5433, "postgresql"),
    "route-cache": Service(6379, "redis"),
    "haproxy-stats": Service(8404, "http"),
    "postgresql": Service(5432, "postgresql"),
    "patroni": Service(8008, "http"),
    "etcd": Service(2379, "grpc"),
    "etcd-peer": Service(2380, "http"),
    "etcd-metrics": Service(2381, "http"),
    "redis": Service(6379, "redis"),
    "sentinel": Service(26379, "redis"),
    "s3": Service(8333, "http"),
    "seaweedfs-master": Service(9333, "http"),
    "seaweedfs-volume": Service(8080, "http"),
    "seaweedfs-filer": Service(8888, "http"),
    "files": Service(0, "file"),
    "mock": Service(8025, "http"),
}
"""Every service by name. `app` stands for the own port of whichever app instance."""
