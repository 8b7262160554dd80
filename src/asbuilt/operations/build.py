"""Makes an immutable build of the app's folder, once for each content.

Invariants: a build that was not finished is never used (its mark is written last); each attempt has a folder
of its own, so that what a killed builder left running writes where nobody looks. A finished build is
read-only. Builders of one environment are kept apart by its operation lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asbuilt.engines.folders import make_folder
from asbuilt.operations.install import (
    Installer,
    Node,
    Place,
    ask_python,
    find_node,
    find_python,
    install_npm,
    install_pip,
)
from asbuilt.operations.source import Source, copy_source, read_source
from asbuilt.spec.runtimes import parse_least_node
from asbuilt.spec.schema import SecretFromFile
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from asbuilt.exec.runner import Runner
    from asbuilt.spec.schema import App

_FORMAT: Final = 2
"""Raised when the layout of a build changes: older builds are then made again."""
_MARK: Final = "complete.json"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished build.

    Args:
        id: content address, 16 hexadecimal digits.
        folder: the app's files: its working directory.
        path: directories put before PATH.
        env: variables that it needs at run time.
        bytes: size of the source files.
    """

    id: str
    folder: str
    path: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Build:
    """What will be, or is, the build of some sources: its place is known before it is made.

    Args:
        artifact: what the instances are given.
        finished: it is there.
        make: makes it; told what is waited for. Raises AsbuiltError BUILD-001 to BUILD-012.
    """

    artifact: Artifact
    finished: bool
    make: Callable[[Callable[[str], None]], None]


def find_build(project: Path, app: App, releases_dir: Path, runner: Runner) -> Build:
    """The build of `project`/`app.directory`: the one that is there, or one to make. Writes nothing.

    With `app.reload` only the dependencies are built, because the working tree itself is run.

    Args:
        project: folder of asbuilt.yaml.
        app: the app of one environment.
        releases_dir: where builds are kept.
        runner: runs git, pip, npm; unprivileged.
    """
    source, python, node, artifact = _read_inputs(project, app, runner)
    home = releases_dir / artifact
    there = read_mark(home)
    attempt = there or home / secrets.token_hex(4)

    def make(progress: Callable[[str], None]) -> None:
        make_folder(runner.identity, releases_dir)
        _build(attempt, source, app, runner, progress, python=python, node=node)

    return Build(describe(artifact, attempt, app, node, source.bytes), there is not None, make)


def _read_inputs(project: Path, app: App, runner: Runner) -> tuple[Source, str, Node | None, str]:
    """The files, the interpreter, Node.js, and the content address of them all."""
    folder = project / app.directory
    secret_files = [project / one.file for one in app.secrets.values() if isinstance(one, SecretFromFile)]
    source = read_source(folder, runner, secret_files=secret_files, manifests_only=app.reload)
    python = find_python(app.python) if app.build == "pip" else ""
    node = None
    if app.build == "npm" or app.node:
        node = find_node(runner, app.node, least=read_least_node(folder))
    tool = ask_python(runner, python) if python else node.version if node else ""
    return source, python, node, compute_artifact_id(source, app, f"{python} {tool}")


def read_least_node(folder: Path) -> int:
    """The oldest major version of Node.js that package.json says it works with; 0 when it does not say."""
    try:
        package = json.loads((folder / "package.json").read_text())
    except (OSError, ValueError, RecursionError):
        return 0
    return parse_least_node(package) if isinstance(package, dict) else 0


def compute_artifact_id(source: Source, app: App, tool: str) -> str:
    """Content address: the files, how they are built, with what."""
    parts = [_FORMAT, source.digest, app.build, app.reload, tool, os.uname().machine]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def read_mark(home: Path) -> Path | None:
    """Folder of the finished attempt, None when there is none."""
    try:
        attempt = home / str(json.loads((home / _MARK).read_text())["attempt"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return attempt if (attempt / "app").is_dir() else None


def describe(artifact: str, attempt: Path, app: App, node: Node | None, size: int) -> Artifact:
    """What the instances are given of a build."""
    path: list[str] = []
    env: dict[str, str] = {}
    if app.build == "pip":
        path.append(str(attempt / "venv" / "bin"))
        env |= {"VIRTUAL_ENV": str(attempt / "venv"), "PYTHONDONTWRITEBYTECODE": "1"}
    if node:
        path += [str(attempt / "app" / "node_modules" / ".bin"), node.folder]
        env["NODE_ENV"] = "development" if app.reload else "production"
        if app.reload:
            env["NODE_PATH"] = str(attempt / "app" / "node_modules")
    return Artifact(artifact, str(attempt / "app"), tuple(path), tuple(sorted(env.items())), size)


def find_finished(artifact: str, app: App, releases_dir: Path, runner: Runner) -> Artifact:
    """A build that was made before, whatever the folder is like now.

    Raises AsbuiltError RELEASE-003 when it is gone.
    """
    attempt = read_mark(releases_dir / artifact)
    if attempt is None:
        raise AsbuiltError(
            "RELEASE-003",
            f"the build {artifact} is not there any more",
            where=str(releases_dir / artifact),
            hint="`asbuilt releases` lists what can be gone back to",
        )
    node = None
    if app.build == "npm" or app.node:
        node = find_node(runner, app.node, least=read_least_node(attempt / "app"))
    return describe(artifact, attempt, app, node, 0)


def _build(
    attempt: Path,
    source: Source,
    app: App,
    runner: Runner,
    progress: Callable[[str], None],
    *,
    python: str,
    node: Node | None,
) -> None:
    home = attempt.parent
    remove_build(home)
    make_folder(runner.identity, home)
    make_folder(runner.identity, attempt)
    place = Place(
        app=attempt / "app",
        environment=attempt / "venv",
        home=make_folder(runner.identity, attempt / "home"),
        cache=make_folder(runner.identity, home.parent / "cache"),
        log=home.parent / f"{home.name}.log",
    )
    progress("copy the app's files")
    try:
        copy_source(source, place.app)
        _give_tree(runner, place.app)
        installer = Installer(runner, place, progress)
        if app.build == "pip":
            install_pip(installer, python, dependencies_only=app.reload)
        elif app.build == "npm" and node:
            install_npm(installer, node, dependencies_only=app.reload)
        shutil.rmtree(place.home, ignore_errors=True)
        make_read_only(attempt)
        _write_mark(home, attempt)
    except OSError as error:
        remove_build(home)
        raise AsbuiltError(
            "BUILD-009",
            f"the release cannot be written: {error.strerror or error}",
            where=str(error.filename or home),
            hint="look for a full disk or a folder without write permission",
        ) from None
    except BaseException:
        remove_build(home)
        raise


def _write_mark(home: Path, attempt: Path) -> None:
    temporary = home / f"{_MARK}.tmp"
    with temporary.open("w") as file:
        json.dump({"attempt": attempt.name}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(home / _MARK)


def _give_tree(runner: Runner, folder: Path) -> None:
    if runner.identity.uid == os.geteuid():
        return
    for base, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            os.chown(Path(base, name), runner.identity.uid, runner.identity.gid, follow_symlinks=False)


def make_read_only(folder: Path) -> None:
    """Take the permission to write from a whole tree (links are left alone)."""
    for base, _, files in os.walk(folder):
        for path in (Path(base), *(Path(base, name) for name in files)):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222)


def remove_build(folder: Path) -> None:
    """Delete a build, read-only or half done. What a left-over installer still writes is skipped."""
    if not folder.exists():
        return
    (folder / _MARK).unlink(missing_ok=True)
    for base, _, _ in os.walk(folder):
        Path(base).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
