"""A sensible spec for a folder without one: what `init` writes and `up` starts from.

Reads files, runs nothing. Invariant: what is written passes `load`, and every guess is said in `assumptions`.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import tomllib
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from asbuilt.spec.command import CommandError, parse_command
from asbuilt.spec.runtimes import find_wanted_python, parse_exact_node
from asbuilt.spec.text import quote
from asbuilt.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES: Final = 512 * 1024
MAX_SOURCES: Final = 400
_SKIPPED: Final = frozenset(
    {"node_modules", "venv", "env", "dist", "build", "site-packages", "__pycache__", "tests"}
)
_HEALTH: Final = re.compile(
    r"""["'](/(?:api/|v\d/)?(?:__heartbeat__|healthz?|health_check|livez|readyz|ping|up|status))/?["']"""
)
_PYTHON_APP: Final = re.compile(
    r"^(\w+)\s*(?::[^=\n]+)?=\s*(?:\w+\.)?(FastAPI|Starlette|Litestar|Quart|Sanic|Flask|Bottle|Falcon)\(",
    re.MULTILINE,
)
_ASGI: Final = frozenset({"FastAPI", "Starlette", "Litestar", "Quart"})
_DOCSTRING: Final = re.compile(r'"""[^"]*"""|^\s*#[^\n]*', re.MULTILINE)
_SERVERS: Final = frozenset({"granian", "hypercorn", "uvicorn", "gunicorn"})
_ENTRY_FILES: Final = ("main.py", "app.py", "asgi.py", "wsgi.py", "application.py", "server.py", "api.py")


@dataclass(frozen=True, slots=True)
class Inferred:
    """The text of a commented asbuilt.yaml, and what was assumed in it, one sentence each."""

    text: str
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Guess:
    command: str = ""
    build: str = "none"
    migrate: str = ""
    node: str = ""
    python: str = ""
    reasons: tuple[str, ...] = ()

    def because(self, reason: str, **changes: str) -> _Guess:
        return replace(self, reasons=(*self.reasons, reason), **changes)


def infer(folder: Path) -> Inferred:
    """A spec for the app in a folder.

    Raises:
        UsageError: INFER-001, nothing there is recognised.
    """
    guess = _from_dockerfile(
        folder, _from_procfile(folder, _from_node(folder, _from_python(folder, _Guess())))
    )
    if not guess.command:
        raise UsageError(
            "INFER-001",
            f"no app was recognised in {folder}",
            hint="add a Procfile with a line like `web: gunicorn shop:app --bind $HOST:$PORT`",
        )
    health, why = _find_health(folder)
    reasons = (*guess.reasons, *_missing_server(folder, guess), why)
    if guess.build != "none":
        reasons = (*reasons, f"build: {guess.build}")
    return Inferred(_render(_name_of(folder), guess, health), reasons)


def _render(name: str, guess: _Guess, health: str) -> str:
    lines = [
        "# What runs, and where. Every key is in the reference manual; `asbuilt check` validates this file.",
        f"name: {name}",
        "app:",
        "  # One instance; it listens on $PORT. There is no shell: words and variables only.",
        f"  command: {quote(guess.command)}",
        f"  build: {guess.build}  # pip, npm or none: how a release is made from the folder",
    ]
    if guess.node:
        lines.append(f'  node: "{guess.node}"')
    if guess.python:
        lines.append(f"  python: {guess.python}")
    if guess.migrate:
        lines += [
            "  # Once for each release, before it takes traffic.",
            f"  migrate: {quote(guess.migrate)}",
        ]
    lines += [
        f"  health: {quote(health)}  # answers 2xx or 3xx while the app can serve",
        "  # env: {LOG_LEVEL: info}",
        "  # secrets: {SESSION_KEY: {env: SESSION_KEY}}  # by reference, never the secret itself",
        "environments:",
        "  development: {}  # one app server on this folder with reload, one database, one cache",
        "  staging: {}      # a load balancer, two app servers, one database, one cache",
        "  production: {}   # a load balancer, 3 app servers, PostgreSQL and Redis with 2 replicas each",
    ]
    return "\n".join(lines) + "\n"


def _name_of(folder: Path) -> str:
    declared = _pyproject(folder).get("project", {})
    given = declared.get("name") if isinstance(declared, dict) else None
    text = given if isinstance(given, str) else str(_package(folder).get("name") or folder.resolve().name)
    name = re.sub(r"[^a-z0-9]+", "-", text.lower().rpartition("/")[2]).strip("-")
    name = name if name[:1].isalpha() else f"app-{name}".rstrip("-")
    return name[:32].rstrip("-") or "app"


def _read(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _pyproject(folder: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read(folder / "pyproject.toml"))
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _package(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read(folder / "package.json") or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _requirements(folder: Path) -> set[str]:
    project = _pyproject(folder).get("project", {})
    declared = project.get("dependencies", []) if isinstance(project, dict) else []
    lines = [
        *_read(folder / "requirements.txt").splitlines(),
        *map(str, declared if isinstance(declared, list) else []),
    ]
    names = (re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line) for line in lines)
    return {name[1].lower().replace("_", "-") for name in names if name}


def _from_python(folder: Path, guess: _Guess) -> _Guess:
    files = [name for name in ("requirements.txt", "pyproject.toml", "setup.py") if (folder / name).is_file()]
    if files:
        guess = _with_python(folder, guess.because(f"Python app: {files[0]}", build="pip"))
    needs = _requirements(folder)
    if (folder / "manage.py").is_file():
        settings = re.search(
            r"DJANGO_SETTINGS_MODULE[\"'],\s*[\"']([\w.]+)\.settings", _read(folder / "manage.py")
        )
        if settings:
            module = settings[1]
            command = _serve(needs, f"{module}.asgi:application", f"{module}.wsgi:application", is_asgi=False)
            return guess.because(
                "Django: manage.py", command=command, migrate="python manage.py migrate --noinput"
            )
    found = _find_python_app(folder)
    if found:
        target, framework, file = found
        asgi = framework in _ASGI
        guess = guess.because(f"{framework} app: {file}", command=_serve(needs, target, target, is_asgi=asgi))
    elif (ini := next(iter(sorted(folder.glob("*.ini"))), None)) and {"pyramid", "kinto"} & needs:
        guess = guess.because(
            f"Pyramid: {ini.name}", command=f"pserve {shlex.quote(ini.name)} http_port=$PORT"
        )
    if (folder / "alembic.ini").is_file():
        guess = guess.because("database changes: alembic.ini", migrate="alembic upgrade head")
    return guess


def _with_python(folder: Path, guess: _Guess) -> _Guess:
    """The interpreter that the folder asks for, where it is another than ours and installed."""
    wanted = find_wanted_python(folder)
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not wanted or wanted == running:
        return guess
    if shutil.which(f"python{wanted}") is None:
        return guess.because(f"Python {running}: the folder asks for {wanted}, which is not installed")
    return guess.because(f"the folder asks for Python {wanted}", python=f"python{wanted}")


def _serve(needs: set[str], asgi: str, wsgi: str, *, is_asgi: bool) -> str:
    """The server that the app depends on; without one, the usual one for its kind."""
    target = asgi if is_asgi else wsgi
    known = {
        "granian": f"granian --interface {'asgi' if is_asgi else 'wsgi'} {target} --host $HOST --port $PORT",
        "hypercorn": f"hypercorn {target} --bind $HOST:$PORT",
        "uvicorn": f"uvicorn {asgi} --host $HOST --port $PORT",
        "gunicorn": f"gunicorn {wsgi} --bind $HOST:$PORT",
        "waitress": f"waitress-serve --host=$HOST --port=$PORT {wsgi}",
    }
    usable = [name for name in known if name in needs and (is_asgi or name != "uvicorn")]
    usable = [name for name in usable if not is_asgi or name not in {"gunicorn", "waitress"}]
    return known[usable[0] if usable else "uvicorn" if is_asgi else "gunicorn"]


def _missing_server(folder: Path, guess: _Guess) -> tuple[str, ...]:
    """A word on a server that is named and that the requirements do not mention."""
    program = guess.command.split(" ", 1)[0]
    needs = _requirements(folder)
    if guess.build != "pip" or program not in _SERVERS or program in needs or not needs:
        return ()
    return (f"{program} is the server, but the requirements do not name it: add it, if nothing else does",)


def _find_python_app(folder: Path) -> tuple[str, str, str] | None:
    candidates = [folder / name for name in _ENTRY_FILES]
    for below in (folder, folder / "src"):
        if below.is_dir():
            packages = sorted(p for p in below.iterdir() if p.is_dir() and p.name.isidentifier())
            candidates += [
                p / name
                for p in packages
                if p.name not in _SKIPPED
                for name in (*_ENTRY_FILES, "__init__.py")
            ]
    for path in candidates:
        match = _PYTHON_APP.search(_read(path))
        if match:
            parts = list(path.relative_to(folder).with_suffix("").parts)
            parts = parts[1:] if parts[0] == "src" and len(parts) > 1 else parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            return f"{'.'.join(parts)}:{match[1]}", match[2], str(path.relative_to(folder))
    return None


def _from_node(folder: Path, guess: _Guess) -> _Guess:
    if guess.command or not (folder / "package.json").is_file():
        return guess
    package = _package(folder)
    guess = guess.because("Node.js app: package.json", build="npm")
    scripts = package.get("scripts")
    start = scripts.get("start") if isinstance(scripts, dict) else None
    main = package.get("main")
    script = re.fullmatch(r"node ([\w./-]+)", start) if isinstance(start, str) else None
    if script:
        guess = guess.because("scripts.start", command=f"node {script[1]}")
    elif isinstance(start, str):
        guess = guess.because("scripts.start", command="npm start")
    else:
        names = [main] if isinstance(main, str) else []
        for name in (*names, "server.js", "index.js", "app.js", "server.mjs", "index.mjs"):
            if not name.startswith("/") and ".." not in name.split("/") and (folder / name).is_file():
                guess = guess.because(f"started with {name}", command=f"node {shlex.quote(name)}")
                break
    wanted = parse_exact_node(package)
    if wanted:
        guess = guess.because(f"engines.node: Node.js {wanted}", node=wanted)
    if isinstance(scripts, dict) and "build" in scripts:
        guess = guess.because("scripts.build is run when a release is made")
    if (folder / "prisma" / "schema.prisma").is_file():
        guess = guess.because("database changes: prisma", migrate="npx prisma migrate deploy")
    return guess


def _from_procfile(folder: Path, guess: _Guess) -> _Guess:
    for line in _read(folder / "Procfile").splitlines():
        match = re.match(r"\s*(web|release)\s*:\s*(\S.*?)\s*$", line)
        if match:
            field = "command" if match[1] == "web" else "migrate"
            guess = guess.because(f"Procfile: {match[1]}", **{field: _runnable(match[2])})
    return guess


def _from_dockerfile(folder: Path, guess: _Guess) -> _Guess:
    if guess.command:
        return guess
    text = _read(folder / "Dockerfile")
    commands = re.findall(r"^\s*CMD\s+(.+?)\s*$", text, re.MULTILINE | re.IGNORECASE)
    if not commands:
        return guess
    try:
        words = json.loads(commands[-1])
        command = shlex.join(map(str, words)) if isinstance(words, list) else commands[-1]
    except ValueError:
        command = commands[-1]
    port = re.search(r"^\s*EXPOSE\s+(\d+)", text, re.MULTILINE | re.IGNORECASE)
    if port:
        command = re.sub(rf"(?<!\d){port[1]}(?!\d)", "$PORT", command).replace("'", "")
    return guess.because("Dockerfile: CMD, as the last resort", command=_runnable(command))


def _runnable(line: str) -> str:
    """A line as it is when it needs no shell, else handed to one."""
    try:
        parse_command(line)
    except CommandError:
        return shlex.join(["sh", "-c", line])
    return line


def _find_health(folder: Path) -> tuple[str, str]:
    ranks = ("__heartbeat__", "health", "healthz", "health_check", "readyz", "livez", "ping", "up", "status")
    found: list[tuple[int, str, str]] = []
    for path in islice(_sources(folder), MAX_SOURCES):
        found += [
            (ranks.index(match[1].rpartition("/")[2]), match[1], str(path.relative_to(folder)))
            for match in _HEALTH.finditer(_read(path))
        ]
    if not found:
        return _default_health(folder)
    _, health, file = min(found)
    return health, f"health path {health}: {file}"


def _default_health(folder: Path) -> tuple[str, str]:
    routes = "\n".join(_read(path) for path in sorted(folder.glob("*/urls.py")))
    routes = _DOCSTRING.sub("", routes)  # the one that Django writes shows examples of routes
    if "admin.site.urls" in routes and not re.search(r"""path\(\s*r?(["'])\^?\$?\1""", routes):
        return "/admin/login/", "health path /admin/login/: Django's admin, because no page is at /"
    return "/", "health path /: no other was found in the sources"


def _sources(folder: Path, depth: int = 4) -> Iterator[Path]:
    try:
        children = sorted(folder.iterdir())
    except OSError:
        return
    for path in children:
        if path.is_file() and path.suffix in {".py", ".js", ".mjs", ".cjs", ".ts"}:
            yield path
        elif (
            depth
            and path.is_dir()
            and not path.is_symlink()
            and path.name not in _SKIPPED | {".git", ".venv"}
        ):
            yield from _sources(path, depth - 1)
