"""What etcd is told. Pure.

Invariants: clients need a certificate of an authority that issues for the store alone, so neither another
local user nor a holder of a public certificate can rewrite the leader key; what is served without a
certificate (`/health`, `/metrics` on a port of its own) can only be read.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

from asbuilt.graph.model import Kind
from asbuilt.plan.workload import ClientTls, Exchange

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.graph.model import Architecture, Node
    from asbuilt.plan.site import Site

SERVER: Final = "etcd-server"
CLIENT: Final = "etcd-client"
"""Names of the two certificates."""
_QUOTA: Final = 512 * 2**20
"""Bytes the store may take. Its keys are some kilobytes; compaction keeps the file at a few megabytes."""


def find_node(architecture: Architecture) -> Node | None:
    """The node of the store, or None when nothing in the architecture needs one."""
    nodes = architecture.of(Kind.CONSENSUS)
    return nodes[0] if nodes else None


def internal_dir(site: Site) -> Path:
    """Folder of the authority that the store trusts, and of the certificates it issued."""
    return site.authority_dir / "internal"


def build_client_tls(site: Site, node: str) -> ClientTls:
    """How a client proves itself to the store."""
    folder = internal_dir(site)
    return ClientTls(
        str(folder / "ca.crt"),
        str(folder / f"{CLIENT}.crt"),
        str(folder / f"{CLIENT}.key"),
        site.addresses[node],
    )


def render_argv(program: str, site: Site, node: str) -> tuple[str, ...]:
    """The command line of a store with one member.

    The `initial` words count only for an empty data folder; later starts keep their membership whatever the
    addresses are by then, because a single member never dials itself.
    """
    host = site.addresses[node]
    folder = internal_dir(site)
    client = f"https://{host}:{site.ports['etcd']}"
    peer = f"https://{host}:{site.ports['etcd-peer']}"
    options = {
        "name": node,
        "data-dir": str(site.node_dir(node) / "data"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"{node}={peer}",
        "initial-cluster-state": "new",
        "listen-metrics-urls": f"http://{host}:{site.ports['etcd-metrics']}",
        "client-cert-auth": "true",
        "trusted-ca-file": str(folder / "ca.crt"),
        "cert-file": str(folder / f"{SERVER}.crt"),
        "key-file": str(folder / f"{SERVER}.key"),
        "peer-client-cert-auth": "true",
        "peer-trusted-ca-file": str(folder / "ca.crt"),
        "peer-cert-file": str(folder / f"{SERVER}.crt"),
        "peer-key-file": str(folder / f"{SERVER}.key"),
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "10m",
        "snapshot-count": "10000",
        "quota-backend-bytes": str(_QUOTA),
        # milliseconds; short, because a single member only ever waits for itself: after a restart it would
        # stand for election no sooner than the usual second
        "heartbeat-interval": "20",
        "election-timeout": "200",
        "logger": "zap",
        "log-level": "warn",
        "log-outputs": "stderr",
    }
    return (program, *(f"--{name}={value}" for name, value in options.items()))


def encode(text: str) -> str:
    """A key or value as the store's JSON gateway wants it."""
    return base64.b64encode(text.encode()).decode()


def render_delete_if_equal(key: str, value: str) -> dict[str, Any]:
    """A transaction that deletes `key` when, and only when, it holds `value`."""
    return {
        "compare": [{"key": encode(key), "target": "VALUE", "result": "EQUAL", "value": encode(value)}],
        "success": [{"requestDeleteRange": {"key": encode(key)}}],
    }


def render_put_if_absent(key: str, value: str) -> dict[str, Any]:
    """A transaction that writes `key` when, and only when, it does not exist."""
    return {
        "compare": [{"key": encode(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}],
        "success": [{"requestPut": {"key": encode(key), "value": encode(value)}}],
    }


def render_transaction(site: Site, node: str, body: dict[str, Any], shown: str) -> Exchange:
    """A transaction as one HTTP exchange; it matches when the store took it, whatever the comparison said."""
    host, port = site.addresses[node], site.ports["etcd"]
    data = json.dumps(body, separators=(",", ":")).encode()
    head = (
        "POST /v3/kv/txn HTTP/1.0\r\n"
        f"Host: {host}:{port}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return Exchange(
        host,
        port,
        head.encode() + data,
        r"^HTTP/1\.[01] 200 .*\"revision\"",
        timeout=2.0,
        tls=build_client_tls(site, node),
        shown=shown,
    )
