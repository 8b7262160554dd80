"""What this machine offers for an environment: engines, identity, limits, space."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from dataclasses import dataclass

from asbuilt.engines.registry import ENGINES
from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.spec.load import load
from asbuilt.spec.presets import PRESETS
from asbuilt.spec.schema import Environment, Spec
from asbuilt.targets.local.limits import describe_limits
from asbuilt.values.errors import AsbuiltError, UsageError
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture
    from pathlib import Path

_LEAST_SPACE = 2 * 2**30
_LEAST_MEMORY = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `good` or not, what was found, why it was taken, and the command that fixes it."""

    about: str
    good: bool
    found: str
    why: str = ""
    fix: str = ""


def examine(file: Path, environment: str | None, home: Path) -> tuple[Finding, ...]:
    """Look at everything that `up` needs; the spec's production environment, or the preset's without a spec."""
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
    space = shutil.disk_usage(folder).free
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    version = ".".join(str(part) for part in sys.version_info[:3])
    return [
        Finding(
            "system",
            sys.platform == "linux",
            sys.platform,
            fix="the local target is for Linux" if sys.platform != "linux" else "",
        ),
        Finding("python", sys.version_info >= (3, 11), version),
        Finding("cores", True, str(os.cpu_count())),
        Finding(
            "memory",
            memory >= _LEAST_MEMORY,
            f"{memory / 2**30:.1f} GB",
            "production uses about 1 GB when idle",
        ),
        Finding(
            "state folder",
            os.access(folder, os.W_OK),
            str(home),
            fix="" if os.access(folder, os.W_OK) else f"mkdir -p {home}, or set ASBUILT_HOME",
        ),
        Finding(
            "space",
            space >= _LEAST_SPACE,
            f"{space / 2**30:.1f} GB free",
            "2 GB is the least",
            "" if space >= _LEAST_SPACE else "free some space, or set ASBUILT_HOME to a larger disk",
        ),
        Finding("open files", True, f"{files} at most", "10,000 connections want 20,100; fewer are clamped"),
        Finding("limits", True, describe_limits(), "how cpu and memory of nodes are kept in bounds"),
    ]


def _identity_and_engines(architecture: Architecture) -> list[Finding]:
    try:
        identity = find_identity()
    except AsbuiltError as error:
        return [Finding("identity", False, "none", error.what, error.hint)]
    findings = [Finding("identity", True, identity.kind, "who the engines run as")]
    runner = Runner(identity)
    kinds = {node.kind for node in architecture.nodes if node.supported}
    for engine in ENGINES:
        if not engine.kinds & kinds:
            continue
        try:
            tools = engine.find(architecture, runner)
        except AsbuiltError as error:
            findings.append(Finding(engine.name, False, "none", error.what, error.hint))
        else:
            findings.append(Finding(engine.name, True, tools.version, tools.why))
    return findings
