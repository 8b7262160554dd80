"""The right door to each thing: the program, its words, and the secrets it gets by its environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asbuilt.engines.backup.engine import SIDECAR_WORKLOAD
from asbuilt.engines.postgresql.admin import open_admin
from asbuilt.engines.redis import admin as cache
from asbuilt.graph.model import Kind
from asbuilt.operations.prepare import Prepared, prepare
from asbuilt.operations.progress import silent
from asbuilt.values.errors import AsbuiltError, UsageError
from asbuilt.values.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from asbuilt.plan.workload import Workload
    from asbuilt.values.stage import Stage


@dataclass(frozen=True, slots=True)
class Door:
    """A program to become. `argv` never holds a secret."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    secret_env: tuple[tuple[str, Secret], ...] = ()
    cwd: str | None = None


def find_door(
    stage: Stage, name: str, *, admin: bool = False, replica: bool = False, sidecar: bool = False
) -> Door:
    """The door of that name. Raises UsageError CONNECT-001 naming the doors there are."""
    if not stage.root.is_dir():
        raise AsbuiltError(
            "CONNECT-002",
            f"{stage.name} {stage.environment} has never run here",
            hint=f"asbuilt up {stage.environment}",
        )
    prepared = prepare(stage, touch=False, tell=silent)
    architecture = prepared.architecture
    doors: dict[str, Callable[[], Door]] = {}
    if architecture.of(Kind.DATABASE):
        doors["psql"] = lambda: _psql(prepared, admin=admin, replica=replica, sidecar=sidecar)
    if architecture.of(Kind.CACHE):
        doors["redis"] = lambda: _redis(prepared)
    apps = [prepared.desired.workloads[node.id] for node in architecture.of(Kind.APP)]
    if apps:
        doors["shell"] = lambda: _shell(apps[0])
    for app in apps:
        doors[app.id] = lambda app=app: _shell(app)  # type: ignore[misc]
    if name not in doors:
        raise UsageError("CONNECT-001", f"there is no door {name!r}", hint=f"there are {', '.join(doors)}")
    return doors[name]()


def _psql(prepared: Prepared, *, admin: bool, replica: bool, sidecar: bool) -> Door:
    database = open_admin(prepared.architecture, prepared.site)
    if sidecar:
        copy = prepared.desired.workloads.get(SIDECAR_WORKLOAD)
        if copy is None:
            raise AsbuiltError(
                "CONNECT-004", "there is no restored copy", hint="asbuilt restore --to TARGET makes one"
            )
        found = database.connection_to(copy.address, superuser=admin)
        return Door(found.argv, found.env, found.secret_env)
    node = None
    if replica:
        node = next((one.node for one in database.members() if one.role != "leader"), None)
        if node is None:
            raise AsbuiltError("CONNECT-003", "this environment has no replica", hint="leave --replica out")
    found = database.connection(node, superuser=admin)
    return Door(found.argv, found.env, found.secret_env)


def _redis(prepared: Prepared) -> Door:
    words, secret = cache.render_connect(prepared.architecture, prepared.site)
    return Door(words, secret_env=tuple((name, Secret(value)) for name, value in secret.items()))


def _shell(app: Workload) -> Door:
    shell = os.environ.get("SHELL", "/bin/sh")
    return Door((shell,), app.env, app.secret_env, app.cwd)
