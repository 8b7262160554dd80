"""The app's instances as workloads, and its migration as a setup.

Invariants: the migration of a release is done before its first instance starts; an instance can write to its
own home and temporary folder and the shared files, not to the release.
"""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.engines.app.config import BUILD, build_argv, build_variables, has_route
from asbuilt.engines.app.migrate import MIGRATE, build_migration
from asbuilt.engines.contract import Realization
from asbuilt.engines.files.engine import DIRECTORY
from asbuilt.engines.seaweedfs.config import bucket_name
from asbuilt.engines.seaweedfs.engine import BUCKET
from asbuilt.graph.model import Kind
from asbuilt.plan.site import Tools
from asbuilt.plan.workload import Limits, Listen, Probe, Stop, Workload, render_http_get
from asbuilt.values.errors import UsageError
from asbuilt.values.python import own_python

if TYPE_CHECKING:
    from asbuilt.exec.runner import Runner
    from asbuilt.graph.model import Architecture, Node
    from asbuilt.plan.site import Release, Site
    from asbuilt.plan.workload import Setup

_DATABASE_READY = "database.ready"
"""Id of the database's setup that is done when the app may use it."""


@dataclass(frozen=True, slots=True)
class AppEngine:
    """Realizes the app nodes."""

    name: str = "app"
    kinds: frozenset[Kind] = frozenset({Kind.APP})

    def find(self, architecture: Architecture, runner: Runner) -> Tools:  # noqa: ARG002 - the contract
        """Nothing to find: a release brings its own programs."""
        return Tools(self.name, architecture.spec.app.build, "spec", "the app's own release", {})

    def realize(self, architecture: Architecture, site: Site, runner: Runner) -> Realization:
        """One workload for each app node, and the migration; nothing while there is no release."""
        release = site.release
        nodes = architecture.of(Kind.APP)
        if release is None or not nodes:
            return Realization()
        needs = find_needs(architecture)
        setups: tuple[Setup, ...] = ()
        if architecture.spec.app.migrate is not None and site.migrates:
            setups = (build_migration(architecture, site, release, runner, needs),)
            needs = (*needs, MIGRATE)
        return Realization(
            tuple(
                build_instance(architecture, site, site.releases.get(node.id, release), node, needs)
                for node in nodes
            ),
            setups,
            find_clamps(architecture, site),
        )


def find_clamps(architecture: Architecture, site: Site) -> tuple[str, ...]:
    """What the spec gives an instance and this machine does not have."""
    app = architecture.spec.app
    notes = []
    if app.cpu > site.cpus:
        notes.append(f"app.cpu: {app.cpu:g} is more than this machine has; {site.cpus} are used")
    if app.memory.bytes > site.memory:
        notes.append(f"app.memory: {app.memory} is more than this machine has; all of it may be used")
    return tuple(notes)


def find_needs(architecture: Architecture) -> tuple[str, ...]:
    """What must be there before the app can work: its database, cache, bucket and folder."""
    needs: list[str] = [BUILD]
    for kind in (Kind.DATABASE, Kind.CACHE):
        needs += [node.id for node in architecture.of(kind)]
        if has_route(architecture, kind):
            needs += [node.id for node in architecture.of(Kind.LOAD_BALANCER)]
    if architecture.of(Kind.DATABASE):
        needs.append(_DATABASE_READY)
    if bucket_name(architecture):
        needs.append(BUCKET)
    if architecture.of(Kind.FILES):
        needs.append(DIRECTORY)
    return tuple(dict.fromkeys(needs))


def check_program(architecture: Architecture, site: Site, release: Release) -> None:
    """Raise UsageError APP-003 when the release does not have the program of `app.command`."""
    node = architecture.of(Kind.APP)[0]
    variables = build_variables(architecture, site, release, node, writable=str(site.node_dir(node.id)))
    word = build_argv(architecture.spec.app.command, variables, field="app.command")[0]
    if "/" in word:
        found = shutil.which(str(Path(app_dir(architecture, site, release), word)))
    else:
        found = shutil.which(word, path=dict(variables.plain)["PATH"])
    if found is None:
        raise UsageError(
            "APP-003",
            f"app.command: there is no program {word}",
            where="app.command",
            hint="name it among the app's requirements (build: pip or npm), or write its whole path",
        )


def app_dir(architecture: Architecture, site: Site, release: Release) -> str:
    """Working directory of the app: its folder in the release, or in the working tree with `reload`."""
    app = release.app or architecture.spec.app
    return str(site.project / app.directory) if app.reload else release.folder


def build_instance(
    architecture: Architecture, site: Site, release: Release, node: Node, needs: tuple[str, ...]
) -> Workload:
    """One app server."""
    app = release.app or architecture.spec.app
    host, port = site.addresses[node.id], site.ports[node.id]
    folder = site.node_dir(node.id)
    cwd = app_dir(architecture, site, release)
    variables = build_variables(architecture, site, release, node, writable=str(folder))
    argv = build_argv(app.command, variables, field="app.command")
    plain = variables.plain
    if app.reload:
        argv = render_reloader(argv, cwd)
        plain = tuple(sorted({**dict(plain), "PYTHONPYCACHEPREFIX": f"{folder}/tmp/pycache"}.items()))  # noqa: S108 - its own
    return Workload(
        id=node.id,
        node=node.id,
        kind=node.kind,
        engine=f"app {app.build}",
        argv=argv,
        cwd=cwd,
        env=plain,
        secret_env=variables.secret,
        directories=tuple(str(folder / name) for name in ("home", "tmp")),
        listens=(Listen(host, port, "app", wildcard_ok=True),),
        ready=Probe(
            render_http_get(host, port, app.health, timeout=5.0, name=find_host_name(architecture)),
            # The balancer has taken it out long before. Shorter would kill the servers that do one request at
            # a time in a slow one. Somebody who edits the code may stop it in a debugger.
            hang_after=0.0 if app.reload else 30.0,
            start_timeout=app.start_timeout.seconds,
        ),
        needs=needs,
        stop=Stop(grace=app.stop_timeout.seconds),
        limits=Limits(cpu=min(app.cpu, float(site.cpus)), memory=min(app.memory.bytes, site.memory)),
        address=f"{host}:{port}",
        zone=node.zone,
        release=release.id,
    )


def find_host_name(architecture: Architecture) -> str:
    """The name that checks call the app by: its first domain, else localhost.

    Many applications refuse a Host that they don't know; their own address they seldom know.
    """
    balancer = architecture.spec.load_balancer
    domains = balancer.domains if balancer else ()
    return next((name for name in domains if not name.startswith("*")), "localhost")


def render_reloader(argv: tuple[str, ...], folder: str) -> tuple[str, ...]:
    """The command line that runs `argv` and runs it again when a file below `folder` changes.

    Its default filter leaves out .git, node_modules, __pycache__, .venv and editors' own files.
    """
    return (
        own_python(),
        "-m",
        "watchfiles",
        "--target-type",
        "command",
        "--sigint-timeout",
        "5",
        "--ignore-permission-denied",
        shlex.join(argv),
        folder,
    )
