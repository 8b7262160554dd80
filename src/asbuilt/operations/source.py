"""What of a folder belongs to a release, and its content address.

Invariant: the same files give the same digest, wherever and whenever they are read; nothing outside of the
folder gets in.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from asbuilt.exec.runner import Command
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from asbuilt.exec.runner import Runner

_JUNK: Final = frozenset(
    {
        ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache", ".pytest_cache",
        ".ruff_cache", ".tox", ".nox", ".hypothesis", ".idea", ".vscode", ".DS_Store", ".asbuilt",
    }
)  # fmt: skip
_JUNK_ENDINGS: Final = (".pyc", ".pyo", ".swp", "~")
_SPEC: Final = "asbuilt.yaml"
"""Not part of the build: it is configuration, and a changed number of servers needs no new build."""
_MANIFESTS: Final = ("requirements", "constraints", "pyproject.toml", "setup.py", "setup.cfg", "package.json",
                     "package-lock.json", "npm-shrinkwrap.json", ".npmrc")  # fmt: skip
_CHUNK: Final = 2**20
MAX_BYTES: Final = 4 * 2**30
"""More than this is not an application but its data (4 GB)."""


@dataclass(frozen=True, slots=True)
class Source:
    """The files of a release.

    Args:
        folder: where they are.
        files: relative paths with `/`, sorted.
        digest: SHA-256 over names, kinds, executable bits and contents.
        bytes: their sizes together.
    """

    folder: Path
    files: tuple[str, ...]
    digest: str
    bytes: int


def read_source(
    folder: Path, runner: Runner, *, secret_files: Iterable[Path] = (), manifests_only: bool = False
) -> Source:
    """What a release of `folder` is made of.

    In a git work tree: what is tracked, and what is not ignored. Else everything but well-known junk. Files
    that hold secrets (`.env`, those named in the spec) stay out.

    Args:
        folder: the app's folder.
        runner: runs git.
        secret_files: files that the spec names as secrets.
        manifests_only: only the files that say what the app depends on.

    Raises:
        AsbuiltError: BUILD-001 no such folder, BUILD-002 a link leaves it, BUILD-003 it is too large.
    """
    if not folder.is_dir():
        raise AsbuiltError(
            "BUILD-001", "there is no such folder", where=str(folder), hint="correct app.directory"
        )
    names = find_names(folder, runner, secret_files=secret_files)
    if manifests_only:
        names = [name for name in names if name.startswith(_MANIFESTS)]
    total = 0
    digest = hashlib.sha256()
    kept: list[str] = []
    for name in names:
        path = folder / name
        try:
            entry = _describe(folder, path)
        except FileNotFoundError:  # tracked, but deleted in the work tree
            continue
        if entry is None:
            continue
        kind, size, content = entry
        total += size
        if total > MAX_BYTES:
            raise AsbuiltError(
                "BUILD-003",
                f"the folder has more than {MAX_BYTES // 2**30} GB of files",
                where=str(folder),
                hint="keep data out of it, or name it in .gitignore",
            )
        digest.update(f"{kind}\0{name}\0{content}\0".encode("utf-8", "surrogateescape"))
        kept.append(name)
    return Source(folder, tuple(kept), digest.hexdigest(), total)


def find_names(folder: Path, runner: Runner, *, secret_files: Iterable[Path] = ()) -> list[str]:
    """The relative paths of what a release of `folder` is made of, sorted; some may not be there any more."""
    secret = {path.resolve() for path in secret_files}
    return sorted(
        name
        for name in (_ask_git(folder, runner) or walk_files(folder))
        if name != _SPEC and (folder / name).absolute() not in secret
    )


def copy_source(source: Source, target: Path) -> None:
    """Copy the files to `target` (made here). Owner and group are those of the caller."""
    target.mkdir(parents=True)
    for name in source.files:
        path, to = source.folder / name, target / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            to.symlink_to(path.readlink())
        else:
            shutil.copyfile(path, to)
            to.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


def _describe(folder: Path, path: Path) -> tuple[str, int, str] | None:
    """Kind, size and content digest (or link target); None for sockets and pipes."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        _check_link(folder, path)
        return "link", 0, str(path.readlink())
    if not stat.S_ISREG(mode):
        return None
    content = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            content.update(chunk)
    return ("program" if mode & stat.S_IXUSR else "file"), path.stat().st_size, content.hexdigest()


def _check_link(folder: Path, path: Path) -> None:
    target = Path(os.path.normpath(path.parent / path.readlink()))
    if path.readlink().is_absolute() or not target.is_relative_to(os.path.normpath(folder)):
        raise AsbuiltError(
            "BUILD-002",
            f"the link {path.relative_to(folder)} leaves the folder: a release would change under the app",
            where=str(path),
            hint="copy what it points to, or name the link in .gitignore",
        )


def _ask_git(folder: Path, runner: Runner) -> list[str]:
    """Names by git; empty when this is no work tree, git is not there, or it will not answer."""
    git = shutil.which("git")
    if git is None:
        return []
    names: list[str] = []
    for option in ("--cached", "--others"):
        try:
            said = runner.ask(
                Command((git, "ls-files", "-z", option, "--exclude-standard"), cwd=str(folder), timeout=60.0)
            )
        except AsbuiltError:
            return []
        if said.status != 0 or "\ufffd" in said.stdout:  # a name that is not UTF-8: look for ourselves
            return []
        found = [name for name in said.stdout.split("\0") if name]
        if option == "--others":  # somebody who tracks such a file means it
            found = [name for name in found if not is_junk(name)]
        names += found
    expanded: list[str] = []
    for name in dict.fromkeys(names):
        path = folder / name
        if path.is_dir() and not path.is_symlink():  # a submodule
            expanded += [f"{name.rstrip('/')}/{inner}" for inner in walk_files(path)]
        else:
            expanded.append(name)
    return expanded


def walk_files(folder: Path) -> Iterator[str]:
    """The relative paths of all files of a folder but junk. Links are named, not followed."""
    for base, folders, files in os.walk(folder):
        relative = Path(base).relative_to(folder)
        links = [name for name in folders if (Path(base) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in _JUNK and name not in links)
        for name in (*files, *links):
            path = (relative / name).as_posix()
            if not is_junk(path):
                yield path


def is_junk(name: str) -> bool:
    """Whether a file is known to belong to no release: caches, editors' files, `.env` with its secrets."""
    parts = PurePosixPath(name).parts
    last = parts[-1]
    secret = last == ".env" or (last.startswith(".env.") and not last.endswith((".example", ".sample")))
    return secret or last.endswith(_JUNK_ENDINGS) or not _JUNK.isdisjoint(parts)
