"""The app's migration: run once for each release, before its first instance.

Invariant: its mark is written only after it succeeded, so a killed one runs again (a migration has to be
idempotent; those of every common framework are).
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asbuilt.engines.app.advice import render_log_advice
from asbuilt.engines.app.config import build_argv, build_variables
from asbuilt.engines.folders import make_folder
from asbuilt.exec.runner import Command
from asbuilt.plan.workload import Setup
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.secret import mask

if TYPE_CHECKING:
    from asbuilt.exec.runner import Runner
    from asbuilt.graph.model import Architecture
    from asbuilt.plan.site import Release, Site

MIGRATE: Final = "app.migrate"
_TIMEOUT: Final = 3600.0
_EVIDENCE_LINES: Final = 15
_MISSING_EXTENSION: Final = re.compile(
    r'extension "([a-z0-9_-]{1,63})" is not available|/([a-z0-9_-]+)\.control'
)


def build_migration(
    architecture: Architecture, site: Site, release: Release, runner: Runner, needs: tuple[str, ...]
) -> Setup:
    """The setup that runs `migrate` of the spec with the app's own environment."""
    command = architecture.spec.app.migrate
    assert command is not None  # noqa: S101 - the caller asks only for apps that have one
    app = architecture.spec.app
    key = hashlib.sha256(json.dumps([release.artifact, command]).encode()).hexdigest()[:16]
    folder = site.root / "migrate"
    done = folder / f"{key}.done"
    cwd = str(site.project / app.directory) if app.reload else release.folder
    variables = build_variables(architecture, site, release, None, writable=str(folder))
    words = build_argv(command, variables, field="app.migrate")

    def run() -> None:
        for one in (folder, folder / "home", folder / "tmp", site.root / "logs"):
            make_folder(runner.identity, one)
        path = dict(variables.plain)["PATH"]
        program = shutil.which(words[0] if "/" not in words[0] else str(Path(cwd, words[0])), path=path)
        if program is None:
            raise AsbuiltError(
                "APP-003",
                f"app.migrate: there is no program {words[0]}",
                hint="name it among the app's requirements (build: pip or npm), or write its whole path",
            )
        result = runner.ask(
            Command(
                (program, *words[1:]),
                env=variables.plain,
                secret_env=variables.secret,
                cwd=cwd,
                timeout=_TIMEOUT,
            )
        )
        said = mask(f"{result.stdout}\n{result.stderr}", tuple(value for _, value in variables.secret))
        log = site.root / "logs" / f"{MIGRATE}.log"
        with log.open("a") as file:
            file.write(said.rstrip() + "\n")
        if result.status != 0:
            raise render_failure(result.status, said, str(log))
        done.write_text(release.id + "\n")

    return Setup(
        id=MIGRATE,
        title="migrate the database",
        needs=needs,
        key=key,
        satisfied=done.exists,
        run=run,
        remembered=False,  # the mark has the key in its name: a lost journal is no reason to migrate again
    )


def render_failure(status: int, said: str, log: str) -> AsbuiltError:
    """The error of a failed migration. Knows the commonest cause: an extension that PostgreSQL lacks."""
    lines = tuple(line for line in said.splitlines() if line.strip())
    missing = _MISSING_EXTENSION.search(said)
    hint = f"the whole output is in {log}"
    told = render_log_advice("\n".join(lines[-_EVIDENCE_LINES:]))
    if told:
        hint = f"{told}; {hint}"
    if missing:
        hint = (
            f"the PostgreSQL in use lacks the extension {missing[1] or missing[2]}: install the package "
            f"postgresql-16 (it has all of contrib), and asbuilt takes that one; the whole output is in {log}"
        )
    return AsbuiltError(
        "APP-004",
        f"the migration failed with status {status}",
        where="app.migrate",
        evidence=lines[-_EVIDENCE_LINES:],
        hint=hint,
    )
