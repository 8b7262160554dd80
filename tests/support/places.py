from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.graph.model import Kind
from asbuilt.graph.services import SERVICES
from asbuilt.plan.site import Entry, Site
from asbuilt.values.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from asbuilt.graph.model import Architecture
    from asbuilt.plan.site import Tools

TIERS = {
    Kind.LOAD_BALANCER: 1,
    Kind.APP: 2,
    Kind.DATABASE: 3,
    Kind.CACHE: 4,
    Kind.CONSENSUS: 5,
    Kind.OBJECTS: 6,
    Kind.FILES: 7,
}


def site_of(
    architecture: Architecture,
    root: Path,
    tools: dict[str, Tools],
    *,
    slot: int = 215,
    entry: Entry | None = None,
    secret: Callable[[str], Secret] | None = None,
    app_port: int = 10001,
) -> Site:
    """A place on loopback addresses, with a secret for every name."""
    addresses = {
        node.id: f"127.{slot}.{TIERS[node.kind]}.{node.number}"
        for node in architecture.nodes
        if node.kind in TIERS
    }
    ports = {name: service.port for name, service in SERVICES.items()}
    ports |= {node.id: app_port + node.number - 1 for node in architecture.of(Kind.APP)}
    return Site(
        root=root,
        project=Path("/nowhere"),
        addresses=addresses,
        ports=ports,
        entry=entry or Entry("127.0.0.1", 8443, 8080),
        tools=tools,
        secret=secret or (lambda name: Secret(f"secret-of-{name}")),
        release=None,
        app_secrets={},
        cpus=2,
        memory=24 * 2**30,
    )


def free_port(host: str) -> int:
    """A port that was free a moment ago."""
    with socket.socket() as taken:
        taken.bind((host, 0))
        port: int = taken.getsockname()[1]
        return port
