"""When an environment is whole: asked from outside, and in the same words whoever started it.

That each process answers its own question is not all that a start is for. The balancer has to know it too,
the database has to have a replica that confirms every commit, and a request has to get through.
"""

from __future__ import annotations

import json
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from shop import answered

from asbuilt.engines.haproxy.admin import ask_servers
from asbuilt.engines.haproxy.names import ADMIN_SOCKET
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asbuilt.engines.haproxy.admin import Server
    from asbuilt.plan.workload import Workload


def serves_all(servers: tuple[Server, ...], apps: int, databases: int) -> bool:
    """Whether the balancer uses every app server, one primary of each kind, and the replicas."""
    up = [one.backend for one in servers if one.status.startswith("UP")]
    wanted = {"app": apps, "database-primary": 1, "database-replica": databases - 1, "cache-primary": 1}
    return all(up.count(backend) == number for backend, number in wanted.items())


def is_redundant(said: str, databases: int) -> bool:
    """Whether Patroni's GET /cluster tells of a leader, of replicas that stream, and of one that confirms."""
    members = json.loads(said).get("members", [])
    roles = [one.get("role") for one in members]
    streaming = [one for one in members if one.get("state") == "streaming"]
    return roles.count("leader") == 1 == roles.count("sync_standby") and len(streaming) == databases - 1


@dataclass(frozen=True, slots=True)
class Whole:
    """What is asked, and where.

    Args:
        url: an address behind the front door.
        socket: the balancer's.
        member: a database node's REST address.
        apps: app servers there should be.
        databases: database nodes there should be.
    """

    url: str
    socket: Path
    member: str
    apps: int
    databases: int

    @classmethod
    def of(cls, root: Path, workloads: Mapping[str, Workload], url: str) -> Self:
        """For these workloads below `root`."""
        kinds = [one.kind for one in workloads.values()]
        asked = workloads["db-1"].ready.exchange
        if asked is None:
            raise RuntimeError("the database is not asked whether it is ready")
        socket = root / "nodes" / "lb-1" / ADMIN_SOCKET
        member = f"http://{asked.host}:{asked.port}/cluster"
        return cls(url, socket, member, kinds.count("app"), kinds.count("database"))

    def reached(self) -> bool:
        """Whether all of it holds now; the cheapest questions first."""
        with suppress(OSError, AsbuiltError, ValueError):
            if not serves_all(ask_servers(self.socket), self.apps, self.databases):
                return False
            with urllib.request.urlopen(self.member, timeout=1.0) as answer:
                return is_redundant(answer.read().decode(), self.databases) and answered(self.url)
        return False
