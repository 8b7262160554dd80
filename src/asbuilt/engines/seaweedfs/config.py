"""What SeaweedFS is told. Pure.

Invariants: the four processes talk to each other by mutual TLS with certificates of their own authority, and
to the volume server with signed, short-lived tokens; only the S3 port serves anybody else, and it refuses
whoever has no key. The app's key is good for the app's bucket alone.

The processes are started one by one, not as `weed server`: that one makes sockets with fixed names in /tmp
(`seaweedfs-filer-grpc-18888.sock`), and a second environment on the same machine would take them over.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asbuilt.engines.seaweedfs.names import ADMIN_ACCESS, ADMIN_SECRET, APP_ACCESS, APP_SECRET
from asbuilt.graph.model import Kind
from asbuilt.values.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.graph.model import Architecture
    from asbuilt.plan.site import Site
    from asbuilt.values.units import Size

GRPC_OFFSET: Final = 10_000
"""The engine's own rule: the gRPC port of each of its services is its HTTP port plus this."""
CERTIFICATE: Final = "seaweedfs"
_KEY_ENCRYPTION: Final = "objects.kek"
_TOKENS: Final = {
    "WEED_JWT_SIGNING_KEY": "objects.jwt.write",
    "WEED_JWT_SIGNING_READ_KEY": "objects.jwt.read",
    "WEED_JWT_FILER_SIGNING_KEY": "objects.jwt.filer-write",
    "WEED_JWT_FILER_SIGNING_READ_KEY": "objects.jwt.filer-read",
}
_MEGABYTE: Final = 2**20
_VOLUMES: Final = 100
"""Volumes that the storage is cut into; they grow as they are filled, nothing is allocated ahead."""
_SMALLEST_VOLUME: Final = 64
_LARGEST_VOLUME: Final = 1024
_LEAST_VOLUMES: Final = 8
"""A bucket needs two volumes of its own, and so does what belongs to no bucket."""
MEMORY_SOFT_LIMIT: Final = "384MiB"
"""GOMEMLIMIT of each process. The filer's live heap is 220 MB (buffers of which it touches a part): below
that the collector runs without end, a quarter of a core in an idle environment."""


@dataclass(frozen=True, slots=True)
class Volumes:
    """How the storage is cut: `count` files of at most `megabytes`."""

    count: int
    megabytes: int


def decide_volumes(storage: Size) -> Volumes:
    """Volumes that together hold `storage` (at least eight of 64 MB)."""
    total = storage.bytes // _MEGABYTE
    megabytes = min(max(total // _VOLUMES, _SMALLEST_VOLUME), _LARGEST_VOLUME)
    return Volumes(max(total // megabytes, _LEAST_VOLUMES), megabytes)


def bucket_name(architecture: Architecture) -> str | None:
    """Name of the app's bucket, or None without object storage."""
    objects = architecture.spec.objects
    if objects is None or not architecture.of(Kind.OBJECTS):
        return None
    return objects.bucket or f"{architecture.name}-{architecture.environment}"


def internal_dir(site: Site) -> Path:
    """Folder of the authority that only these processes trust, and of the certificate it issued."""
    return site.authority_dir / "objects"


def render_identities(site: Site, bucket: str) -> str:
    """The S3 gateway's keys as JSON: one that may do everything, for asbuilt, and the app's."""

    def identity(name: str, access: str, secret: str, actions: tuple[str, ...]) -> dict[str, object]:
        return {
            "name": name,
            "credentials": [
                {"accessKey": site.secret(access).reveal(), "secretKey": site.secret(secret).reveal()}
            ],
            "actions": list(actions),
        }

    mine = tuple(f"{action}:{bucket}" for action in ("Read", "Write", "List", "Tagging"))
    everything = ("Admin", "Read", "Write", "List", "Tagging")
    return json.dumps(
        {
            "identities": [
                identity("asbuilt", ADMIN_ACCESS, ADMIN_SECRET, everything),
                identity("app", APP_ACCESS, APP_SECRET, mine),
            ]
        },
        indent=1,
    )


def build_env(site: Site, node: str) -> tuple[tuple[str, str], ...]:
    """Variables of all four processes that are no secrets."""
    folder = internal_dir(site)
    env = {
        **site.tools["seaweedfs"].env,
        "GOMEMLIMIT": MEMORY_SOFT_LIMIT,
        "HOME": str(site.node_dir(node) / "home"),
        "TMPDIR": str(site.node_dir(node) / "tmp"),
        "WEED_GRPC_CA": str(folder / "ca.crt"),
        "WEED_MASTER_VOLUME_GROWTH_COPY_1": "2",
    }
    for part in ("MASTER", "VOLUME", "FILER", "S3", "CLIENT"):
        env[f"WEED_GRPC_{part}_CERT"] = str(folder / f"{CERTIFICATE}.crt")
        env[f"WEED_GRPC_{part}_KEY"] = str(folder / f"{CERTIFICATE}.key")
    return tuple(sorted(env.items()))


def build_secret_env(site: Site) -> tuple[tuple[str, Secret], ...]:
    """Keys that sign the tokens between the processes, and the one that encrypts the objects' keys."""
    tokens = tuple((variable, site.secret(name)) for variable, name in sorted(_TOKENS.items()))
    return (*tokens, ("WEED_S3_SSE_KEK", build_key_encryption_key(site)))


def build_key_encryption_key(site: Site) -> Secret:
    """The key of SSE-S3: 256 bits as hexadecimal digits, derived from the generated secret of any form."""
    return Secret(hashlib.sha256(site.secret(_KEY_ENCRYPTION).reveal().encode()).hexdigest())


def master_dir(site: Site, node: str) -> Path:
    """Where the master keeps the state of its consensus, which names it by its address.

    Each address has a folder of its own, because a master with the state of another one waits for that one
    for ever. Nothing is lost: volumes and numbers are learned from the volume server.
    """
    return site.node_dir(node) / "data" / "master" / site.addresses[node]


def render_master_argv(weed: str, site: Site, node: str, volumes: Volumes) -> tuple[str, ...]:
    """The directory of volumes: one member, leader at once, no HTTP, no telemetry."""
    host = site.addresses[node]
    return (
        weed,
        "-logtostderr=true",
        "master",
        f"-ip={host}",
        f"-ip.bind={host}",
        f"-port={site.ports['seaweedfs-master']}",
        f"-mdir={master_dir(site, node)}",
        f"-volumeSizeLimitMB={volumes.megabytes}",
        "-volumePreallocate=false",
        "-telemetry=false",
        "-disableHttp",
        "-raftHashicorp",
        "-raftBootstrap",
        "-electionTimeout=1s",
        "-heartbeatInterval=100ms",
    )


def render_volume_argv(weed: str, site: Site, node: str, volumes: Volumes) -> tuple[str, ...]:
    """The server that holds the bytes."""
    host = site.addresses[node]
    return (
        weed,
        "-logtostderr=true",
        "volume",
        f"-ip={host}",
        f"-ip.bind={host}",
        f"-port={site.ports['seaweedfs-volume']}",
        f"-dir={site.node_dir(node) / 'data' / 'volume'}",
        f"-master={host}:{site.ports['seaweedfs-master']}",
        f"-max={volumes.count}",
        "-preStopSeconds=0",
        "-minFreeSpace=1",
    )


def render_filer_argv(weed: str, site: Site, node: str) -> tuple[str, ...]:
    """The names of the objects, in a LevelDB below its folder; no HTTP."""
    host = site.addresses[node]
    return (
        weed,
        "-logtostderr=true",
        "filer",
        f"-ip={host}",
        f"-ip.bind={host}",
        f"-port={site.ports['seaweedfs-filer']}",
        f"-master={host}:{site.ports['seaweedfs-master']}",
        f"-defaultStoreDir={site.node_dir(node) / 'data' / 'filer'}",
        "-localSocket=tmp/filer.sock",
        "-disableHttp",
    )


def render_s3_argv(weed: str, site: Site, node: str) -> tuple[str, ...]:
    """The S3 gateway. Ports 0 turn off two services that would take fixed ports."""
    host = site.addresses[node]
    return (
        weed,
        "-logtostderr=true",
        "s3",
        f"-ip.bind={host}",
        f"-port={site.ports['s3']}",
        f"-filer={host}:{site.ports['seaweedfs-filer']}",
        f"-config={identities_path(site, node)}",
        "-localSocket=tmp/s3.sock",
        "-port.lance=0",
        "-port.iceberg=0",
        "-autoCreateBucket=false",
    )


def identities_path(site: Site, node: str) -> str:
    """Where the keys of the S3 gateway are written (0600)."""
    return str(site.node_dir(node) / "conf" / "identities.json")
