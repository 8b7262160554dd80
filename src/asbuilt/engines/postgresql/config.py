"""What Patroni and PostgreSQL are told. Pure.

Invariants: every value leaves through a YAML or configuration quoting function, never pasted; Patroni has no
`bootstrap` section, so it can join or clone a database but never make an empty one; the only way in is TCP
with a SCRAM password from this machine, each role only to what it needs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import yaml

from asbuilt.engines.etcd.config import build_client_tls
from asbuilt.engines.postgresql.sizing import build_cluster_parameters, build_parameters, size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asbuilt.plan.site import Site
    from asbuilt.spec.schema import Database

SCOPE: Final = "database"
PREFIX: Final = f"/service/{SCOPE}/"
"""Where Patroni keeps what its members agree on."""
SUPERUSER: Final = "postgres"
REPLICATOR: Final = "replicator"
REWIND: Final = "rewind"
APP: Final = "app"
MONITOR: Final = "monitor"
_ARCHIVER: Final = "backup-1"
SLOT: Final = "archive"
"""Keeps the log until it is archived; Patroni takes it along to the next primary."""
ROLES: Final = (SUPERUSER, REPLICATOR, REWIND, APP, MONITOR)
REST_USER: Final = "patroni"

HBA: Final = (
    f"host replication {REPLICATOR} 127.0.0.0/8 scram-sha-256",
    f"host all {SUPERUSER} 127.0.0.0/8 scram-sha-256",
    f"host postgres {REWIND} 127.0.0.0/8 scram-sha-256",
    f"host postgres,{APP} {MONITOR} 127.0.0.0/8 scram-sha-256",
    f"host {APP} {APP} 127.0.0.0/8 scram-sha-256",
)
"""Who may connect. A process bound to one loopback address leaves from 127.0.0.1, hence the whole network."""


def build_cluster_config(database: Database, site: Site) -> dict[str, Any]:
    """What all members share and Patroni keeps in the store, in seconds and bytes."""
    # without anybody who reads it, a slot would only keep the log
    slots = {"slots": {SLOT: {"type": "physical"}}} if _ARCHIVER in site.addresses else {}
    return {
        **slots,
        "ttl": 20,  # the least that Patroni takes; a proven-dead leader's key is deleted, not waited for
        "loop_wait": 1,
        "retry_timeout": 3,
        # only the synchronous standby may lead, and it has every commit; a tighter bound would refuse it when
        # the primary dies in the middle of a large load that nobody was promised
        "maximum_lag_on_failover": 2**30,
        "primary_start_timeout": 0,  # prefer failing over to crash recovery
        "synchronous_mode": True,
        "failsafe_mode": database.without_consensus == "continue",
        "postgresql": {
            "use_pg_rewind": True,
            "use_slots": True,
            "remove_data_directory_on_rewind_failure": True,
            "remove_data_directory_on_diverged_timelines": True,
            "parameters": build_cluster_parameters(database, size(database, site)),
        },
    }


def render_cluster_config(config: Mapping[str, Any]) -> str:
    """`build_cluster_config` as the text of its key."""
    return json.dumps(config, separators=(",", ":"), sort_keys=True)


def render_patroni(database: Database, site: Site, node: str, consensus: str) -> str:
    """The configuration file of one member."""
    host, port, rest = site.addresses[node], site.ports["postgresql"], site.ports["patroni"]
    folder = site.node_dir(node)
    tls = build_client_tls(site, consensus)
    postgres = site.tools["postgresql"].programs["postgres"]
    config = {
        "scope": SCOPE,
        "namespace": "/service/",
        "name": node,
        "log": {
            "level": "INFO",
            "deduplicate_heartbeat_logs": True,
            "format": "%(asctime)s %(levelname)s %(message)s",
        },
        "restapi": {
            "listen": f"{host}:{rest}",
            "connect_address": f"{host}:{rest}",
            "authentication": {"username": REST_USER, "password": site.secret("patroni.rest").reveal()},
        },
        "etcd3": {
            "hosts": [f"{site.addresses[consensus]}:{site.ports['etcd']}"],
            "protocol": "https",
            "use_proxies": True,  # one member at a known address: nothing to discover
            "cacert": tls.ca,
            "cert": tls.certificate,
            "key": tls.key,
        },
        "postgresql": {
            "listen": f"{host}:{port}",
            "connect_address": f"{host}:{port}",
            "data_dir": str(folder / "data"),
            "bin_dir": postgres.rsplit("/", 1)[0],
            "pgpass": str(folder / "conf" / "pgpass"),
            "use_unix_socket": False,
            "use_unix_socket_repl": False,
            "authentication": {
                "superuser": _login(site, SUPERUSER, "database.superuser"),
                "replication": _login(site, REPLICATOR, "database.replicator"),
                "rewind": _login(site, REWIND, "database.rewind"),
            },
            "pg_hba": list(HBA),
            "parameters": build_parameters(database, size(database, site)),
            "create_replica_methods": ["basebackup"],
            "basebackup": [{"checkpoint": "fast"}],
        },
        "watchdog": {"mode": "off"},
    }
    return yaml.safe_dump(config, sort_keys=False, width=10_000)


def _login(site: Site, role: str, secret: str) -> dict[str, str]:
    return {"username": role, "password": site.secret(secret).reveal()}


def render_standalone(database: Database, site: Site, node: str) -> str:
    """postgresql.conf of a database without replicas."""
    sizes = size(database, site)
    parameters: dict[str, str | int] = {
        "listen_addresses": site.addresses[node],
        "port": site.ports["postgresql"],
        **build_cluster_parameters(database, sizes),
        **build_parameters(database, sizes),
        "cluster_name": SCOPE,
    }
    return "".join(f"{name} = {quote(str(value))}\n" for name, value in parameters.items())


def render_hba() -> str:
    """pg_hba.conf."""
    return "".join(f"{line}\n" for line in HBA)


def quote(text: str) -> str:
    """A value of postgresql.conf, or an SQL literal. Raises ValueError for what neither can hold safely."""
    if any(c in text for c in "\n\r\0\\"):
        raise ValueError("a line break, NUL or backslash cannot be in a setting")
    return "'" + text.replace("'", "''") + "'"
