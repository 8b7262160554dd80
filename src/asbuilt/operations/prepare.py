"""From a spec to everything an operation needs: architecture, place, programs, release, wanted workloads.

With `touch` False nothing is written and nothing is started, so that `plan` and `--dry-run` are exactly what
`up` would do, seen from outside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asbuilt.engines.app.config import BUILD
from asbuilt.engines.app.engine import check_program
from asbuilt.engines.registry import ENGINES
from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.graph.model import Architecture
from asbuilt.operations.build import Artifact, Build, find_build
from asbuilt.operations.progress import Event
from asbuilt.operations.releases import choose_release, foresee_release
from asbuilt.operations.secrets import resolve_secrets
from asbuilt.plan.planner import Desired
from asbuilt.plan.site import Release, Site, Tools
from asbuilt.plan.workload import Setup
from asbuilt.record.journal import Journal
from asbuilt.record.vault import Vault
from asbuilt.spec.load import Loaded, load
from asbuilt.targets.local.place import Place, settle
from asbuilt.values.errors import AsbuiltError, RefusedError
from asbuilt.values.stage import Stage

if TYPE_CHECKING:
    from asbuilt.engines.contract import Engine
    from asbuilt.operations.progress import Tell
    from asbuilt.spec.schema import App

JOURNAL: Final = "journal.sqlite"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What an operation works with.

    Args:
        stage: the environment.
        loaded: the spec.
        architecture: its graph.
        place: addresses and ports.
        site: the place as engines see it.
        desired: what should run and be done.
        runner: runs commands.
        notes: facts the owner should know (clamps, what is not supported yet).
        setups_done: what the journal remembers as done.
        release: id of the release that should take traffic.
    """

    stage: Stage
    loaded: Loaded
    architecture: Architecture
    place: Place
    site: Site
    desired: Desired
    runner: Runner
    notes: tuple[str, ...]
    setups_done: Mapping[str, str]
    release: str


def engines_for(architecture: Architecture) -> tuple[Engine, ...]:
    """The engines that realize the architecture's supported nodes, in the order of the registry."""
    kinds = {node.kind for node in architecture.nodes if node.supported}
    return tuple(engine for engine in ENGINES if engine.kinds & kinds)


def find_all_tools(
    architecture: Architecture, engines: tuple[Engine, ...], runner: Runner
) -> Mapping[str, Tools]:
    """The programs of all engines, looked for side by side. The first that is missing is raised."""
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda engine: engine.find(architecture, runner), engines)
        return {tools.engine: tools for tools in found}


def prepare(stage: Stage, *, touch: bool, tell: Tell, journal: Journal | None = None) -> Prepared:
    """Work everything out. `touch`: the place is settled, secrets are kept, a release gets its number."""
    loaded = load(stage.file)
    architecture = build(loaded.spec, stage.environment)
    environment = loaded.spec.environments[stage.environment]
    runner = Runner(find_identity())
    engines = engines_for(architecture)
    with ThreadPoolExecutor() as pool:
        tools_found = pool.submit(find_all_tools, architecture, engines, runner)
        app_secrets = resolve_secrets(
            environment.app.secrets,
            stage.project,
            os.environ,
            lambda text: tell(Event("note", "", text)),
        )
        made = find_build(stage.project, environment.app, stage.root / "releases", runner)
        tools = tools_found.result()
    place = settle(stage.root, stage.home, architecture, touch=touch)
    vault = Vault(stage.root / "secrets.json", keep=touch)
    artifact = made.artifact
    release = Release(
        _release_id(stage, journal, artifact, environment.app),
        artifact.id,
        artifact.folder,
        artifact.path,
        artifact.env,
    )
    site = Site(
        root=stage.root,
        project=stage.project,
        addresses=place.addresses,
        ports=place.ports,
        entry=place.entry,
        tools=tools,
        secret=vault.secret,
        release=release,
        app_secrets=app_secrets,
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )
    wanted = [engine.realize(architecture, site, runner) for engine in engines]
    setups = {setup.id: setup for one in wanted for setup in one.setups}
    setups[BUILD] = _build_setup(made, architecture, site, release, tell)
    workloads = {workload.id: workload for one in wanted for workload in one.workloads}
    desired = Desired(workloads, setups, release.id, _find_satisfied(setups))
    notes = (
        *_own_warnings(loaded, stage.environment),
        *place.notes,
        *_unsupported(architecture),
        *(n for one in wanted for n in one.notes),
    )
    done = _setups_done(stage, journal)
    return Prepared(stage, loaded, architecture, place, site, desired, runner, notes, done, release.id)


def _own_warnings(loaded: Loaded, environment: str) -> list[str]:
    """The spec's warnings without those about another environment."""
    others = tuple(f"environments.{name}:" for name in loaded.spec.environments if name != environment)
    own = f"environments.{environment}: "
    return [text.removeprefix(own) for text in loaded.warnings if not text.startswith(others)]


def _release_id(stage: Stage, journal: Journal | None, artifact: Artifact, app: App) -> str:
    if journal is not None:
        return choose_release(stage, journal, artifact.id, app).id
    return foresee_release(stage, artifact.id, app)


def _build_setup(made: Build, architecture: Architecture, site: Site, release: Release, tell: Tell) -> Setup:
    if made.finished:
        check_program(architecture, site, release)

    def run() -> None:
        began = time.monotonic()
        made.make(lambda text: tell(Event("waiting", BUILD, text, time.monotonic() - began)))
        check_program(architecture, site, release)

    return Setup(
        id=BUILD,
        title=f"build the app ({architecture.spec.app.build})",
        needs=(),
        key=made.artifact.id,
        satisfied=lambda: made.finished,
        run=run,
        remembered=False,
    )


def _setups_done(stage: Stage, journal: Journal | None) -> Mapping[str, str]:
    if journal is not None:
        return journal.setups()
    path = stage.root / JOURNAL
    if not path.exists():
        return {}
    opened = Journal.open(path, clock=time.time)
    try:
        return opened.setups()
    finally:
        opened.close()


def _find_satisfied(setups: Mapping[str, Setup]) -> frozenset[str]:
    """Ask reality about all setups side by side."""

    def ask(setup: Setup) -> bool:
        try:
            return setup.satisfied()
        except AsbuiltError:
            return False  # what cannot be asked is not known to be done

    with ThreadPoolExecutor() as pool:
        answers = pool.map(ask, setups.values())
        return frozenset(name for name, good in zip(setups, answers, strict=True) if good)


def _unsupported(architecture: Architecture) -> tuple[str, ...]:
    missing = sorted({str(node.kind) for node in architecture.nodes if not node.supported})
    if not missing:
        return ()
    return (f"not supported yet: {', '.join(missing)}: drawn in the diagram, not run",)


def make_root(stage: Stage) -> None:
    """Make the environment's folder (mode 0700) and mark whose it is."""
    refuse_foreign(stage)
    stage.root.mkdir(parents=True, exist_ok=True)
    stage.root.chmod(0o700)
    (stage.root / "project").write_text(f"{stage.project}\n")


def refuse_foreign(stage: Stage) -> None:
    """Raises RefusedError STATE-001 when the environment's state belongs to another folder's spec."""
    owner_file = stage.root / "project"
    try:
        owner = Path(owner_file.read_text().strip())
    except FileNotFoundError:
        return
    if owner != stage.project and (owner / stage.file.name).exists():
        raise RefusedError(
            "STATE-001",
            f"the environment {stage.name}/{stage.environment} belongs to the project in {owner}",
            where=str(stage.root),
            hint="give one of the two projects another name, or use another ASBUILT_HOME",
        )
