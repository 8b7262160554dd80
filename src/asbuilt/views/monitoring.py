"""What to watch: every port that tells metrics or health, each once.

Invariant: a node and a port appear once; every node that listens has at least one row; a shared folder and
what no engine realizes have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from asbuilt.graph.model import Kind
from asbuilt.graph.services import SERVICES
from asbuilt.views.flows import render_table

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture, Node

METRICS: Final = "metrics"
HEALTH: Final = "health"

_WATCHED: Final[dict[Kind, tuple[tuple[str, str, str], ...]]] = {
    Kind.LOAD_BALANCER: (("haproxy-stats", METRICS, "/metrics"), ("https", HEALTH, "TLS handshake")),
    Kind.CONSENSUS: (("etcd-metrics", METRICS, "/metrics"), ("etcd", HEALTH, "TCP connect")),
    Kind.OBJECTS: (("s3", HEALTH, "/ is refused with 403"),),
    Kind.FILES: (),
    Kind.BACKUP: (),
    Kind.ARCHIVE: (),
}
"""Service, what it tells, and the path (or the question, where it is not HTTP)."""


class Watch(NamedTuple):
    """One port to watch. `tells` is `metrics` (Prometheus text, health implied) or `health`."""

    node: str
    service: str
    port: int
    protocol: str
    tells: str
    ask: str


def watches(architecture: Architecture) -> tuple[Watch, ...]:
    """Every port to watch, in the order of the nodes."""
    rows = []
    for node in architecture.nodes:
        for service, tells, ask in _asked(architecture, node):
            listens = SERVICES["app" if service == node.id else service]
            rows.append(Watch(node.id, service, listens.port, listens.protocol, tells, ask))
    return tuple(rows)


def _asked(architecture: Architecture, node: Node) -> tuple[tuple[str, str, str], ...]:
    """What one node can be asked."""
    several = len(architecture.of(node.kind)) > 1
    if not node.supported or node.kind is Kind.USERS:
        return ()
    if node.kind is Kind.APP:
        return ((node.id, HEALTH, architecture.spec.app.health),)
    if node.kind is Kind.DATABASE:
        ready = ("postgresql", HEALTH, "startup packet")
        return (ready, ("patroni", METRICS, "/metrics")) if several else (ready,)
    if node.kind is Kind.CACHE:
        ping = ("redis", HEALTH, "PING")
        return (ping, ("sentinel", HEALTH, "PING")) if several else (ping,)
    return _WATCHED[node.kind]


def render_monitoring(architecture: Architecture) -> str:
    """The ports to watch as a table for people, with a last line break."""
    return render_table(("NODE", "SERVICE", "PORT", "PROTOCOL", "TELLS", "ASK"), watches(architecture))
