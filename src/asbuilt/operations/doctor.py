"""What this machine offers for an environment: engines, identity, limits, space."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.operations.gather import engines_for
from asbuilt.spec.load import load
from asbuilt.spec.presets import PRESETS
from asbuilt.spec.schema import Environment, Spec
from asbuilt.targets.local.limits import describe_limits, read_machine
from asbuilt.values.errors import AsbuiltError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.graph.model import Architecture

_LEAST_SPACE = 2 * 2**30
_LEAST_MEMORY = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `good` or not, what was found, why it was taken, and the command that fixes it."""

    about: str
    found: str
    good: bool = True
    why: str = ""
    fix: str = ""


def examine(file: Path, environment: str | None, home: Path) -> tuple[Finding, ...]:
    """Look at all that `up` needs, for the spec's production environment or, without a spec, the preset's."""
    architecture = _architecture(file, environment)
    return (*_machine(home), *_identity_and_engines(architecture))


def _architecture(file: Path, environment: str | None) -> Architecture:
    if file.exists():
        spec = load(file).spec
        names = tuple(spec.environments)
        wanted = environment or ("production" if "production" in names else names[0])
        if wanted not in names:
            raise UsageError(
                "CLI-003", f"no environment {wanted!r} in {file}", hint=f"it has {', '.join(names)}"
            )
        return build(spec, wanted)
    preset = PRESETS["production"]
    whole = {**preset, "kind": "production", "app": {**preset["app"], "command": "none"}}
    spec = Spec(name="none", environments={"production": Environment.model_validate(whole)})
    return build(spec, "production")


def _machine(home: Path) -> list[Finding]:
    folder = next(one for one in (home, *home.parents) if one.exists())
    writable = os.access(folder, os.W_OK)
    space = shutil.disk_usage(folder).free
    machine = read_machine()
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    linux = sys.platform == "linux"
    return [
        Finding("system", sys.platform, good=linux, fix="" if linux else "the local target is for Linux"),
        Finding("python", ".".join(str(part) for part in sys.version_info[:3])),
        Finding("cores", f"{machine.cpus:g}"),
        Finding(
            "memory",
            f"{machine.memory / 2**30:.1f} GB",
            good=machine.memory >= _LEAST_MEMORY,
            why="production uses about 1 GB when idle",
        ),
        Finding(
            "state folder",
            str(home),
            good=writable,
            fix="" if writable else f"make {folder} writable, or set ASBUILT_HOME",
        ),
        Finding(
            "space",
            f"{space / 2**30:.1f} GB free",
            good=space >= _LEAST_SPACE,
            why="2 GB is the least",
            fix="" if space >= _LEAST_SPACE else "free some space, or set ASBUILT_HOME to a larger disk",
        ),
        Finding("open files", f"{files} at most", why="10,000 connections want 21,000; fewer are clamped"),
        Finding("limits", describe_limits(), why="how cpu and memory of nodes are kept in bounds"),
    ]


def _identity_and_engines(architecture: Architecture) -> list[Finding]:
    try:
        identity = find_identity()
    except AsbuiltError as error:
        return [Finding("identity", "none", good=False, why=error.what, fix=error.hint)]
    findings = [Finding("identity", identity.kind, why="who the engines run as")]
    runner = Runner(identity)
    for engine in engines_for(architecture):
        try:
            tools = engine.find(architecture, runner)
        except AsbuiltError as error:
            findings.append(Finding(engine.name, "none", good=False, why=error.what, fix=error.hint))
        else:
            findings.append(Finding(engine.name, tools.version, why=tools.why))
    return findings
