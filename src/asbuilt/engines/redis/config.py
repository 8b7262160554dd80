"""Configuration of cache nodes and sentinels, rendered from the architecture and the place. Pure.

Invariant: the app's password is there as a digest only; whatever a value holds, it stays one word.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from asbuilt.engines.redis.resp import encode
from asbuilt.graph.model import Kind
from asbuilt.plan.workload import Exchange
from asbuilt.values.units import Size

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture, Node
    from asbuilt.plan.site import Site

MONITOR = "cache"
"""The cluster's name for the sentinels."""
ADMIN = "asbuilt"
"""The user of replication, sentinels and asbuilt. The app is the default user, without administration."""
_DOWN_AFTER = 10_000
"""Milliseconds without an answer after which a sentinel holds the primary for down.

A sentinel can't see whether a primary is dead or only slow, and it fences nobody: a slow one goes on taking
writes for about a second after another was promoted, and they are lost. So it comes last. A primary that is
dead, frozen or deaf is killed by its supervisor before, and replaced at once (`succession`).
"""
_FAILOVER_TIMEOUT = 5000
"""Milliseconds after which a sentinel gives up waiting for a change that it asked for.

With 1500 a busy machine is late, and a change that came about after all is taken back: half a minute later
the sentinels promote another node, and what is being written then is lost.
"""
_SHARE_OF_MACHINE = 0.25
"""What all cache nodes of one environment together may take of the machine's memory."""
_LEAST_MEMORY = 64 * 2**20
_POLICIES = {"lru": "allkeys-lru", "lfu": "allkeys-lfu", "none": "noeviction"}


def is_replicated(architecture: Architecture) -> bool:
    """Whether there is more than one cache node, and so sentinels."""
    cache = architecture.spec.cache
    return cache is not None and cache.replicas > 0


def size_memory(architecture: Architecture, site: Site) -> int:
    """Bytes for the data of one node: the spec's, clamped to a fair share of the machine."""
    cache = architecture.spec.cache
    if cache is None:
        return 0
    share = int(site.memory * _SHARE_OF_MACHINE) // (1 + cache.replicas)
    return max(min(_LEAST_MEMORY, cache.memory.bytes), min(cache.memory.bytes, share))


def render_notes(architecture: Architecture, site: Site) -> tuple[str, ...]:
    """What `status` should say: memory that is less than the spec asks for."""
    cache = architecture.spec.cache
    fits = size_memory(architecture, site)
    if cache is None or fits == cache.memory.bytes:
        return ()
    return (
        f"cache: {Size(fits // 2**20 * 2**20)} for each node, not {cache.memory}: this machine's fair share",
    )


def quote(value: str) -> str:
    """A value as one quoted word of redis.conf."""
    safe = [chr(b) if 0x20 <= b < 0x7F and b not in b'"\\' else f"\\x{b:02x}" for b in value.encode()]  # noqa: PLR2004 - ASCII
    return '"' + "".join(safe) + '"'


def render_server(architecture: Architecture, site: Site, node: Node) -> str:
    """redis.conf of one node, without whom it follows."""
    cache = architecture.spec.cache
    eviction = cache.eviction if cache is not None else "none"
    host, port = site.addresses[node.id], site.ports["redis"]
    app = hashlib.sha256(site.secret("cache.password").reveal().encode()).hexdigest()
    admin = site.secret("cache.admin").reveal()
    admin_digest = hashlib.sha256(admin.encode()).hexdigest()
    lines = [
        "# Made by asbuilt: changes here are lost.",
        f"bind {host}",
        f"port {port}",
        f"bind-source-addr {host}",
        "protected-mode yes",
        "daemonize no",
        'logfile ""',
        "loglevel notice",
        f"dir {quote(str(site.node_dir(node.id) / 'data'))}",
        f"user default on #{app} ~* &* +@all -@admin",
        f"user {ADMIN} on #{admin_digest} ~* &* +@all",
        f"maxmemory {size_memory(architecture, site)}",
        f"maxmemory-policy {_POLICIES[eviction]}",
        "appendonly yes",
        "appendfsync everysec",
        "aof-load-truncated yes",
        "save 3600 1 300 100 60 10000",
        "stop-writes-on-bgsave-error no",
        "tcp-keepalive 60",
        "maxclients 10000",
        "shutdown-timeout 5",
        "lazyfree-lazy-eviction yes",
        "lazyfree-lazy-expire yes",
    ]
    if is_replicated(architecture):
        lines += [
            f"masteruser {ADMIN}",
            f"masterauth {quote(admin)}",
            f"replica-announce-ip {host}",
            f"replica-announce-port {port}",
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
            "repl-backlog-size 16mb",
            "repl-ping-replica-period 2",
            "repl-timeout 10",
        ]
        if len(architecture.of(Kind.CACHE)) > 2:  # noqa: PLR2004 - with two, a lost node would stop all writes
            lines += ["min-replicas-to-write 1", "min-replicas-max-lag 3"]
    return "\n".join(lines) + "\n"


def quorum(architecture: Architecture) -> int:
    """Sentinels that must agree that a primary is down: most of them. With two nodes that is both."""
    return len(architecture.of(Kind.CACHE)) // 2 + 1


def render_sentinel(architecture: Architecture, site: Site, node: Node) -> str:
    """sentinel.conf of one node, without whom it watches first."""
    host, port = site.addresses[node.id], site.ports["sentinel"]
    own = quote(site.secret("cache.sentinel").reveal())
    lines = [
        f"bind {host}",
        f"port {port}",
        f"bind-source-addr {host}",
        "protected-mode yes",
        "daemonize no",
        'logfile ""',
        f"dir {quote(str(site.node_dir(node.id) / 'tmp'))}",
        f"requirepass {own}",
        f"sentinel sentinel-pass {own}",
        f"sentinel announce-ip {host}",
        f"sentinel announce-port {port}",
        "sentinel deny-scripts-reconfig yes",
        f"sentinel auth-user {MONITOR} {ADMIN}",
        f"sentinel auth-pass {MONITOR} {quote(site.secret('cache.admin').reveal())}",
        f"sentinel down-after-milliseconds {MONITOR} {_DOWN_AFTER}",
        f"sentinel failover-timeout {MONITOR} {_FAILOVER_TIMEOUT}",
        f"sentinel parallel-syncs {MONITOR} {max(1, len(architecture.of(Kind.CACHE)) - 1)}",
    ]
    return "\n".join(lines) + "\n"


def render_arguments(architecture: Architecture, site: Site, node: Node, what: str) -> str:
    """The file that `before_start` reads; `what` is `server` or `sentinel`."""
    folder = site.node_dir(node.id)
    name = "redis.conf" if what == "server" else "sentinel.conf"
    return json.dumps(
        {
            "node": node.id,
            "what": what,
            "source": str(folder / "conf" / name),
            "target": str(folder / "run" / name),
            **describe_members(architecture, site),
        },
        indent=1,
    )


def describe_members(architecture: Architecture, site: Site) -> dict[str, Any]:
    """Where all nodes and sentinels are, and the passwords: what `members.parse_members` reads."""
    return {
        "members": {
            one.id: {
                "host": site.addresses[one.id],
                "port": site.ports["redis"],
                "sentinel": site.ports["sentinel"],
                "folder": str(site.node_dir(one.id)),
            }
            for one in architecture.of(Kind.CACHE)
        },
        "monitor": MONITOR,
        "quorum": quorum(architecture),
        "user": ADMIN,
        "password": site.secret("cache.admin").reveal(),
        "sentinel_password": site.secret("cache.sentinel").reveal(),
    }


def render_ready(architecture: Architecture, site: Site, node: Node) -> Exchange:
    """A node can serve: it is primary, or in step with the one it follows."""
    commands = (("AUTH", site.secret("cache.password").reveal()), ("PING",), ("INFO", "replication"))
    expect = r"\+PONG.*role:master" + ("|master_link_status:up" if is_replicated(architecture) else "")
    return _exchange(site.addresses[node.id], site.ports["redis"], commands, expect, "PING")


def render_role(site: Site, node: Node) -> Exchange:
    """Whether a node is primary now."""
    commands = (("AUTH", site.secret("cache.password").reveal()), ("INFO", "replication"))
    return _exchange(
        site.addresses[node.id], site.ports["redis"], commands, "role:master", "INFO replication"
    )


def render_sentinel_ready(architecture: Architecture, site: Site, node: Node) -> Exchange:
    """A sentinel can do its work: it knows every replica and every other sentinel."""
    others = len(architecture.of(Kind.CACHE)) - 1
    commands = (("AUTH", site.secret("cache.sentinel").reveal()), ("SENTINEL", "MASTER", MONITOR))
    expect = rf"num-slaves\r\n\$\d+\r\n{others}\r\n.*num-other-sentinels\r\n\$\d+\r\n{others}\r\n"
    return _exchange(
        site.addresses[node.id], site.ports["sentinel"], commands, expect, f"SENTINEL MASTER {MONITOR}"
    )


def render_url(architecture: Architecture, site: Site) -> str:
    """REDIS_URL of the app: the route to the primary, or the only node. Holds the password."""
    balancers = architecture.of(Kind.LOAD_BALANCER)
    if is_replicated(architecture) and balancers:
        host, port = site.addresses[balancers[0].id], site.ports["route-cache"]
    else:
        host, port = site.addresses[architecture.of(Kind.CACHE)[0].id], site.ports["redis"]
    return f"redis://:{site.secret('cache.password').reveal()}@{host}:{port}/0"


def _exchange(
    host: str, port: int, commands: tuple[tuple[str, ...], ...], expect: str, shown: str
) -> Exchange:
    send = b"".join(encode(*words) for words in commands)
    return Exchange(host, port, send, expect, shown=f"{shown} at {host}:{port}")
