"""The place where an architecture is realized, as data: addresses, ports, folders, programs, secrets.

A target fills it in; engines read it while they render. Nothing in it acts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from asbuilt.plan.fleet import Fleet
from asbuilt.spec.schema import App
from asbuilt.values.secret import Secret


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs of one engine, as found on this machine.

    Args:
        engine: registry name, like `postgresql`.
        version: as the program itself says, like `16.14`.
        source: `spec`, `system` or `wheel`.
        why: one line for `doctor`: why this one was taken.
        programs: absolute path by name, like `{"postgres": "/.../bin/postgres"}`.
        env: variables the programs need (library paths).
    """

    engine: str
    version: str
    source: str
    why: str
    programs: Mapping[str, str]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Release:
    """An immutable build of the app and its configuration.

    Args:
        id: `r1`, `r2`, ... within an environment.
        artifact: content address of the build.
        folder: absolute path of the unpacked build, read-only while it runs.
        path: directories put before PATH (the virtual environment's bin, node_modules/.bin).
        env: variables the build needs at run time (VIRTUAL_ENV, PYTHONDONTWRITEBYTECODE, NODE_ENV).
        app: the configuration it was made with; None for that of the spec.
        secrets: its secrets, resolved; None for those of the spec.
    """

    id: str
    artifact: str
    folder: str
    path: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    app: App | None = None
    secrets: Mapping[str, Secret] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """Where users come in: the public address and ports of the environment."""

    address: str
    https_port: int | None
    http_port: int | None


@dataclass(frozen=True, slots=True)
class Site:
    """Everything an engine needs to know of the place.

    Args:
        root: the environment's own folder (state, data, logs); only its owner can enter it.
        project: the folder of asbuilt.yaml.
        addresses: IP address of each node.
        ports: port of each service by name: `postgresql`, `patroni`, `redis`, `sentinel`, `etcd`,
            `etcd-peer`, `etcd-metrics`, `s3`, `seaweedfs-master`, `seaweedfs-volume`, `seaweedfs-filer`,
            `route-primary`, `route-replica`, `route-cache`, `haproxy-stats`, and `NODE` for each app
            instance's own port. Standard ports unless another program holds them.
        entry: the public way in.
        tools: programs by engine name.
        secret: makes (first time) or returns a generated secret by name, like `database.app`.
        release: the newest one: it is migrated, and app nodes that are not in `releases` run it; None while
            there is none.
        releases: the release of each app node, while not all run the newest.
        app_secrets: resolved `secrets:` of the spec.
        cpus: cores of this machine.
        memory: bytes of memory of this machine.
        fleet: which part of the traffic goes where; None: every app node takes its part.
        migrates: `release` brings its migration; not so on the way back to an older one.
        file: name of the spec in the project's folder.
        sidecar: a restored copy of the database runs beside it.
        backup_secrets: `access` and `secret` key of the store of backups, where the spec names one.
    """

    root: Path
    project: Path
    addresses: Mapping[str, str]
    ports: Mapping[str, int]
    entry: Entry
    tools: Mapping[str, Tools]
    secret: Callable[[str], Secret]
    release: Release | None
    app_secrets: Mapping[str, Secret]
    cpus: int
    memory: int
    releases: Mapping[str, Release] = field(default_factory=dict)
    fleet: Fleet | None = None
    migrates: bool = True
    file: str = "asbuilt.yaml"
    backup_secrets: Mapping[str, Secret] = field(default_factory=dict)
    sidecar: bool = False

    def node_dir(self, node: str) -> Path:
        """The folder of one node: `data/`, `conf/`, `tmp/`, `home/` live below it."""
        return self.root / "nodes" / node

    @property
    def authority_dir(self) -> Path:
        """Folder of the environment's certificates: `ca.crt`, `NAME.crt`, `NAME.key`, `NAME.pem`."""
        return self.root / "certificates"
