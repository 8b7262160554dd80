"""Routes of the app to the database and the cache: always to whichever node has the right role now.

Pure. Invariant: a route is rendered only where roles can change, that is for replicated nodes; elsewhere the
app's URL points at the node itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.engines.haproxy.words import quote
from asbuilt.graph.model import Kind

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture, Node
    from asbuilt.plan.site import Site

_CACHE_CONNECTIONS = 4000
_FRONTEND = (
    "    mode tcp",
    "    option tcplog",
    "    option dontlog-normal",
    "    option clitcpka",
    "    timeout client 24h",
)
_BACKEND = (
    "    mode tcp",
    "    option srvtcpka",
    "    timeout server 24h",
    "    # another try on a node that just died only delays the client's own retry on the next primary",
    "    retries 0",
    "    no option redispatch",
)


def database_routed(architecture: Architecture) -> bool:
    """Whether the app reaches the database through the load balancer."""
    database = architecture.spec.database
    return database is not None and database.replicas > 0 and bool(architecture.of(Kind.LOAD_BALANCER))


def cache_routed(architecture: Architecture) -> bool:
    """Whether the app reaches the cache through the load balancer."""
    cache = architecture.spec.cache
    return cache is not None and cache.replicas > 0 and bool(architecture.of(Kind.LOAD_BALANCER))


def count_connections(architecture: Architecture) -> int:
    """Connections the routes may hold in all."""
    total = 0
    if database_routed(architecture) and architecture.spec.database is not None:
        total += 2 * _database_connections(architecture)
    return total + (_CACHE_CONNECTIONS if cache_routed(architecture) else 0)


def render_routes(architecture: Architecture, site: Site, balancer: Node) -> list[str]:
    """The lines of all routes; empty when nothing is replicated."""
    lines: list[str] = []
    if database_routed(architecture):
        lines += _render_database(architecture, site, balancer)
    if cache_routed(architecture):
        lines += _render_cache(architecture, site, balancer)
    return lines


def _database_connections(architecture: Architecture) -> int:
    """Twice what one server takes: PostgreSQL should refuse, with its own words, not a silent queue here."""
    database = architecture.spec.database
    return 2 * database.max_connections if database is not None else 0


def _render_database(architecture: Architecture, site: Site, balancer: Node) -> list[str]:
    database = architecture.spec.database
    lag = database.max_replica_lag.bytes if database is not None else 0
    host, limit = site.addresses[balancer.id], _database_connections(architecture)
    servers = [
        f"    server {node.id} {site.addresses[node.id]}:{site.ports['postgresql']} "
        f"port {site.ports['patroni']} check"
        for node in architecture.of(Kind.DATABASE)
    ]
    checks = (
        "    timeout check 2s",
        (
            "    default-server inter 500ms fastinter 250ms downinter 250ms fall 2 rise 1 "
            "on-marked-down shutdown-sessions"
        ),
    )
    return [
        "",
        "frontend route-primary",
        f"    bind {host}:{site.ports['route-primary']}",
        f"    maxconn {limit}",
        *_FRONTEND,
        "    default_backend database-primary",
        "",
        "frontend route-replica",
        f"    bind {host}:{site.ports['route-replica']}",
        f"    maxconn {limit}",
        *_FRONTEND,
        "    # reads go to the primary when no replica is near enough to it",
        "    use_backend database-replica if { nbsrv(database-replica) gt 0 }",
        "    default_backend database-primary",
        "",
        "backend database-primary",
        *_BACKEND,
        "    option httpchk",
        "    http-check send meth OPTIONS uri /primary",
        "    http-check expect status 200",
        *checks,
        *servers,
        "",
        "backend database-replica",
        *_BACKEND,
        "    balance leastconn",
        "    option httpchk",
        f"    http-check send meth OPTIONS uri /replica?lag={lag}",
        "    http-check expect status 200",
        *checks,
        *servers,
    ]


def _render_cache(architecture: Architecture, site: Site, balancer: Node) -> list[str]:
    password = site.secret("cache.password").reveal()
    asks = _resp("AUTH", password)
    return [
        "",
        "frontend route-cache",
        f"    bind {site.addresses[balancer.id]}:{site.ports['route-cache']}",
        f"    maxconn {_CACHE_CONNECTIONS}",
        *_FRONTEND,
        "    default_backend cache-primary",
        "",
        "backend cache-primary",
        *_BACKEND,
        "    option tcp-check",
        "    # AUTH and its password",
        f"    tcp-check send-binary {asks.hex()}",
        "    tcp-check expect string +OK",
        f"    tcp-check send {quote('PING')}\\r\\n",
        "    tcp-check expect string +PONG",
        "    # QUIT in the same breath: the end of a replica's answer is its refusal; otherwise the check",
        "    # would wait until its time is up, and a demoted primary stay in use for seconds",
        f"    tcp-check send {quote('INFO replication')}\\r\\n{quote('QUIT')}\\r\\n",
        "    tcp-check expect string role:master",
        "    timeout check 1s",
        (
            "    default-server inter 500ms fastinter 100ms downinter 200ms fall 2 rise 1 "
            "on-marked-down shutdown-sessions"
        ),
        *(
            f"    server {node.id} {site.addresses[node.id]}:{site.ports['redis']} check"
            for node in architecture.of(Kind.CACHE)
        ),
    ]


def _resp(*words: str) -> bytes:
    """A Redis command in the form that needs no quoting."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
