"""How an engine finds its programs. Shared by all engines; decides nothing about any of them.

Order: the folder named in the spec, the system's own package when its version is the wanted one (a server's
owner wants its security updates), the wheel. Invariants: a folder named in the spec is taken or refused,
never silently passed over; nothing is downloaded; the version is what the program itself says.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from asbuilt.exec.runner import Command, Runner
from asbuilt.plan.site import Tools
from asbuilt.values.errors import AsbuiltError

Source = Literal["spec", "system", "wheel"]

_MORE_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Searched after PATH: an ordinary user's PATH often lacks the sbin folders, where servers live."""
_VERSION_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One place where an engine's programs may be.

    Args:
        source: `spec`, `system` or `wheel`.
        folder: where they are; None when this source has nothing on this machine.
        env: variables they need (library paths).
        names: file name by program where it differs, like `{"redis-server": "valkey-server"}`.
        label: what `doctor` calls it, like "package postgresql-16"; by default the source.
        version: known without asking, for a program that takes long to tell; by default it is asked.
    """

    source: Source
    folder: Path | None
    env: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    version: str | None = None

    @property
    def title(self) -> str:
        """What people are told."""
        return f"{self.label or self.source} in {self.folder}" if self.folder else self.label or self.source


def from_spec(
    path: str | None, project: Path | None = None, *, names: Mapping[str, str] | None = None
) -> tuple[Candidate, ...]:
    """The candidate for `engines.NAME.path` of the spec, or nothing; a relative path starts at `project`."""
    if path is None:
        return ()
    folder = (project or Path.cwd()) / Path(path).expanduser()
    return (Candidate("spec", folder, label="path of the spec", names=names or {}),)


def system_folder(program: str, first: Sequence[str] = ()) -> Path | None:
    """Folder of `program` on PATH or in the usual system folders, leaving out this Python's own bin folder.

    The latter holds small Python starters of wheels, which would hide what they start. `first` is
    searched before all others.
    """
    own = {Path(sys.prefix, "bin"), Path(sys.executable).parent}
    folders = [*first, *os.environ.get("PATH", os.defpath).split(os.pathsep), *_MORE_FOLDERS]
    for name in dict.fromkeys(folders):
        folder = Path(name)
        if name and folder.is_absolute() and folder not in own and _is_program(folder / program):
            return folder
    return None


def wheel_folder(module: str, *parts: str) -> Path | None:
    """Folder `parts` inside the installed package `module`, found without importing it; None when absent."""
    found = importlib.util.find_spec(module)
    for root in (found.submodule_search_locations or ()) if found else ():
        folder = Path(root, *parts)
        if folder.is_dir():
            return folder
    return None


def wheel_version(package: str) -> str | None:
    """The version of an installed package that has the version of the engine in it; None when absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def find_tools(
    runner: Runner,
    *,
    engine: str,
    programs: Sequence[str],
    candidates: Sequence[Candidate],
    parse_version: Callable[[str], str | None],
    accept: Callable[[str], bool],
    wanted: str,
    hint: str,
    optional: Sequence[str] = (),
    version_argv: Sequence[str] = ("--version",),
) -> Tools:
    """The first candidate that has all `programs` in a version that is accepted.

    Args:
        runner: asks the program for its version.
        engine: registry name.
        programs: needed programs; the first one is asked for the version.
        candidates: in the order of preference.
        parse_version: the version in what the program said (both streams), None when there is none.
        accept: whether a version will do.
        wanted: the accepted versions in words, like "PostgreSQL 16".
        hint: the one command that installs it.
        optional: programs that are listed when they are there.
        version_argv: arguments that make the first program print its version.

    Returns:
        Tools whose `why` says what was taken and what was passed over.

    Raises:
        AsbuiltError: ENGINE-001 when it is nowhere, ENGINE-002 when only wrong versions are there.
    """
    passed: list[str] = []
    wrong = False
    for candidate in candidates:
        missing = [name for name in programs if not _is_program(_path(candidate, name))]
        if missing:
            reason = (
                f"{candidate.title}: {'no ' + ', '.join(missing) if candidate.folder else 'not installed'}"
            )
            if candidate.source == "spec":
                raise _not_found(engine, wanted, (reason,), "correct the path of the engine, or leave it out")
            passed.append(reason)
            continue
        version = candidate.version or _ask_version(
            runner, candidate, programs[0], version_argv, parse_version
        )
        if version is None or not accept(version):
            reason = f"{candidate.title}: version {version or 'unknown'} is not {wanted}"
            if candidate.source == "spec":
                raise _wrong_version(
                    engine, wanted, (reason,), "correct the path of the engine, or leave it out"
                )
            passed.append(reason)
            wrong = True
            continue
        names = (*programs, *(name for name in optional if _is_program(_path(candidate, name))))
        return Tools(
            engine=engine,
            version=version,
            source=candidate.source,
            why="; ".join([f"{version} from {candidate.title}", *(f"passed over {one}" for one in passed)]),
            programs={name: str(_path(candidate, name)) for name in names},
            env=dict(candidate.env),
        )
    raise (_wrong_version if wrong else _not_found)(engine, wanted, tuple(passed), hint)


def _not_found(engine: str, wanted: str, evidence: tuple[str, ...], hint: str) -> AsbuiltError:
    return AsbuiltError(
        "ENGINE-001", f"{wanted} is not installed", where=engine, evidence=evidence, hint=hint
    )


def _wrong_version(engine: str, wanted: str, evidence: tuple[str, ...], hint: str) -> AsbuiltError:
    return AsbuiltError(
        "ENGINE-002", f"{wanted} is needed, found another", where=engine, evidence=evidence, hint=hint
    )


def _path(candidate: Candidate, program: str) -> Path | None:
    if candidate.folder is None:
        return None
    name = candidate.names.get(program, program)
    direct = candidate.folder / name
    return direct if _is_program(direct) or candidate.source != "spec" else candidate.folder / "bin" / name


def _is_program(path: Path | None) -> bool:
    return path is not None and path.is_file() and os.access(path, os.X_OK)


def _ask_version(
    runner: Runner,
    candidate: Candidate,
    program: str,
    version_argv: Sequence[str],
    parse_version: Callable[[str], str | None],
) -> str | None:
    argv = (str(_path(candidate, program)), *version_argv)
    try:
        said = runner.ask(Command(argv, env=tuple(candidate.env.items()), timeout=_VERSION_TIMEOUT))
    except AsbuiltError:  # not a program of this machine, or it hangs: as good as not there
        return None
    return parse_version(f"{said.stdout}\n{said.stderr}")
