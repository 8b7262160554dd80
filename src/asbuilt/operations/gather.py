"""What an operation finds out once: the spec, the programs, the secrets. App servers may change after it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from asbuilt.engines.backup.settings import IDENTITY
from asbuilt.engines.contract import Engine
from asbuilt.engines.registry import ENGINES
from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.operations.progress import Event, Tell
from asbuilt.operations.secrets import resolve_secrets
from asbuilt.plan.site import Tools
from asbuilt.record.vault import Vault
from asbuilt.spec.load import Loaded, load
from asbuilt.targets.local.files import read_json
from asbuilt.targets.local.names import Paths
from asbuilt.values.secret import Secret
from asbuilt.values.stage import Stage

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture
    from asbuilt.spec.schema import App, Environment


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


@dataclass(frozen=True, slots=True)
class Gathered:
    """What does not depend on which app servers there are: the same for every move of an operation.

    Args:
        stage: the environment.
        loaded: the spec.
        runner: runs commands.
        engines: those that realize the environment.
        tools: their programs.
        secrets: the app's own, resolved.
        vault: the generated ones.
        touch: whether things may be written.
        tell: hears what is waited for.
        recall: secrets are those that the app servers were given, not those of this shell.
        backup_secrets: keys of the store of backups, where the spec names one.
    """

    stage: Stage
    loaded: Loaded
    runner: Runner
    engines: tuple[Engine, ...]
    tools: Mapping[str, Tools]
    secrets: Mapping[str, Secret]
    vault: Vault
    touch: bool
    tell: Tell
    recall: bool = False
    backup_secrets: Mapping[str, Secret] = field(default_factory=dict)

    @property
    def environment(self) -> Environment:
        """The spec of the environment."""
        return self.loaded.spec.environments[self.stage.environment]


def gather(stage: Stage, *, touch: bool, tell: Tell, recall: bool = False) -> Gathered:
    """Read the spec, find the programs, resolve the secrets (not with `recall`: nobody's shell is there)."""
    loaded = load(stage.file)
    architecture = build(loaded.spec, stage.environment)
    runner = Runner(find_identity())
    engines = engines_for(architecture)
    with ThreadPoolExecutor() as pool:
        tools = pool.submit(find_all_tools, architecture, engines, runner)
        app = loaded.spec.environments[stage.environment].app
        secrets = {} if recall else resolve_app_secrets(stage, app, tell)
        vault = Vault(stage.root / "secrets.json", keep=touch, makers={IDENTITY: make_backup_key})
        store = resolve_backup_secrets(stage, loaded, tell) if not recall else {}
        return Gathered(
            stage, loaded, runner, engines, tools.result(), secrets, vault, touch, tell, recall, store
        )


def resolve_app_secrets(stage: Stage, app: App, tell: Tell) -> Mapping[str, Secret]:
    """The secrets of one configuration of the app, by name of their variable."""
    return resolve_secrets(app.secrets, stage.project, os.environ, lambda text: tell(Event("note", "", text)))


def resolve_backup_secrets(stage: Stage, loaded: Loaded, tell: Tell) -> Mapping[str, Secret]:
    """Access and secret key of the store that the spec names for backups."""
    database = loaded.spec.environments[stage.environment].database
    store = database.backup.store if database is not None and database.backup is not None else None
    if store is None:
        return {}
    references = {"access": store.access_key, "secret": store.secret_key}
    return resolve_secrets(references, stage.project, os.environ, lambda text: tell(Event("note", "", text)))


def make_backup_key() -> str:
    """A new key for backups. Its library is only needed that one time."""
    from asbuilt.exec.sealing import make_identity  # noqa: PLC0415

    return make_identity()[0].reveal()


def recall_app_secrets(stage: Stage, app: App, release: str) -> Mapping[str, Secret] | None:
    """The secrets that a server of this release was given; None where none of them is on record."""
    for file in sorted(Paths(stage.root).workloads.glob("app-*.json")):
        state = read_json(file)
        workload = state.get("workload") if state else None
        if not isinstance(workload, dict) or workload.get("release") != release:
            continue
        given = dict(workload["secret_env"])
        if set(app.secrets) <= set(given):
            return {name: Secret(given[name]) for name in app.secrets}
    return None
