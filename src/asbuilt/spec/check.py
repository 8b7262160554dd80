"""Checks that need more than one field, on a complete component. All but `check_folder` are pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from asbuilt.spec.command import CommandError, UnknownVariableError, find_variables, parse_command
from asbuilt.spec.explain import ANY_WAY, Finding, Location, suggest
from asbuilt.spec.schema import App, Environment, LoadBalancer, SecretFromCommand

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ALWAYS_SET: Final = frozenset({"PORT", "HOST", "ASBUILT_RELEASE", "ASBUILT_NODE", "ASBUILT_ENVIRONMENT"})
SET_BY: Final[dict[str, frozenset[str]]] = {
    "database": frozenset({"DATABASE_URL", "DATABASE_REPLICA_URL"}),
    "cache": frozenset({"REDIS_URL"}),
    "objects": frozenset({"AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "S3_BUCKET"}),
    "files": frozenset({"FILES_DIR"}),
}
"""Variables of the app that come with a component."""
_SYSTEM: Final = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "USER", "OTEL_EXPORTER_OTLP_ENDPOINT"})
_BUILD_FILES: Final = {"pip": ("requirements.txt", "pyproject.toml", "setup.py"), "npm": ("package.json",)}

_SECRET_WORD: Final = re.compile(
    r"(?:^|_)(?:PASSWORDS?|PASSWD|PWD|PASSPHRASE|SECRETS?|TOKENS?|CREDENTIALS?|API_?KEYS?|ACCESS_?KEY|PRIVATE_?KEY|"
    r"MASTER_?KEY|APP_KEY|ENCRYPTION_?KEY|SIGNING_?KEY|CLIENT_?KEY)(?:_|$)"
)
_HARMLESS_END: Final = re.compile(
    r"_(?:FILE|PATH|DIR|TTL|LENGTH|MIN|MAX|NAME|HEADER|EXPIRY|EXPIRES|EXPIRATION|TIMEOUT|SECONDS|MINUTES|HOURS|DAYS|"
    r"ALGORITHM|TYPE|ENABLED|REQUIRED|COUNT|LIMIT|PREFIX|POLICY|FIELD|COOKIE|URL|URI|ISSUER|AUDIENCE|LIFETIME|HASHER|"
    r"ROUNDS|AGE|SIZE|USER|USERNAME|ID|BACKEND|CLASS|VERSION)$"
)
_SECRET_TEXT: Final = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@]*:(?!\$)[^\s/@]+@|-----BEGIN [A-Z ]*PRIVATE KEY-----|"
    r"\b(?:ghp_|gho_|github_pat_|glpat-|sk_live_|rk_live_|xox[abprs]-|AKIA)[A-Za-z0-9_-]{12,}"
)
_SWITCHES: Final = frozenset({"", "true", "false", "yes", "no", "on", "off", "none", "null", "0", "1"})
_REFERENCE: Final = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})")
_SECRET_OPTION: Final = re.compile(
    r"--?[a-z-]*(?:password|passwd|secret|token|api-?key)=(?!\$)\S", re.IGNORECASE
)


def looks_secret(name: str, value: str) -> bool:
    """A variable whose name or value says that it is a secret standing in the open."""
    if _SECRET_TEXT.search(value):
        return True
    upper = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()
    if not _SECRET_WORD.search(upper) or _HARMLESS_END.search(upper):
        return False
    return value.strip().lower() not in _SWITCHES and not _REFERENCE.fullmatch(value)


def check_app(app: App) -> Iterator[Finding]:
    """Commands, variables, secrets: what can be told from the app alone."""
    yield from _check_variables(app)
    for name in ("command", "migrate"):
        command = getattr(app, name)
        if command is not None:
            yield from _check_command(app, (name,), command)


def _check_variables(app: App) -> Iterator[Finding]:
    for name, value in app.env.items():
        if looks_secret(name, value):
            yield Finding(
                ("env", name),
                "SPEC-015",
                "a secret must not stand in the spec",
                f"under secrets: {name}: {ANY_WAY}",
            )
        if name in app.secrets:
            yield Finding(
                ("secrets", name), "SPEC-017", "is in env as well", "keep it in one of them", at_key=True
            )
    for block, names in (("env", app.env), ("secrets", app.secrets)):
        for name in names:
            if name in ALWAYS_SET or name.startswith("ASBUILT_"):
                yield Finding(
                    (block, name), "SPEC-016", "asbuilt sets this variable itself", "remove it", at_key=True
                )
    for name, reference in app.secrets.items():
        if isinstance(reference, SecretFromCommand) and not reference.command[0]:
            yield Finding(("secrets", name, "<command>", "command"), "SPEC-013", "the command is empty")


def _check_command(app: App, location: Location, command: str | Sequence[str]) -> Iterator[Finding]:
    line = command if isinstance(command, str) else " ".join(command)
    if _SECRET_TEXT.search(line) or _SECRET_OPTION.search(line):
        hint = f"under secrets: NAME: {ANY_WAY}, and let the app read the variable"
        yield Finding(location, "SPEC-015", "a secret must not stand in the spec", hint)
    known = ALWAYS_SET | _SYSTEM | frozenset().union(*SET_BY.values()) | app.env.keys() | app.secrets.keys()
    try:
        words = parse_command(command)
        for name in find_variables(words):
            if name not in known:
                near = suggest(name, known)
                unknown = UnknownVariableError(name)
                hint = near if near.startswith("did") else unknown.hint
                yield Finding(location, "SPEC-014", unknown.what, hint)
    except CommandError as error:
        yield Finding(location, "SPEC-013", error.what, error.hint)


def check_folder(app: App, project: Path) -> Iterator[Finding]:
    """The app's folder is there, and holds what its build needs."""
    folder = project / app.directory
    try:
        if not folder.is_dir():
            yield Finding(
                ("directory",),
                "SPEC-018",
                f"there is no folder {app.directory!r} beside the spec",
                "correct it",
            )
            return
        wanted = _BUILD_FILES.get(app.build, ())
        if wanted and not any((folder / each).exists() for each in wanted):
            what = f"build: {app.build} needs {' or '.join(wanted)} in {app.directory!r}"
            yield Finding(("build",), "SPEC-018", what, "add it, or write build: none")
    except OSError:
        yield Finding(
            ("directory",), "SPEC-018", "the folder can't be looked at", "check its path and permissions"
        )


def check_load_balancer(balancer: LoadBalancer) -> Iterator[Finding]:
    """Its two public ports."""
    https, http = balancer.https_port, balancer.http_port
    if https is not None and https == http:
        yield Finding(("http_port",), "SPEC-019", f"is {http} as https_port is", "choose another one")


def check_environment(environment: Environment) -> Iterator[Finding]:
    """What concerns more than one component; locations begin with the component."""
    for component, names in SET_BY.items():
        if getattr(environment, component) is None:
            continue
        for block, mine in (("env", environment.app.env), ("secrets", environment.app.secrets)):
            for name in sorted(names & mine.keys()):
                hint = f"remove it, or leave the {component} out with {component}: none"
                yield Finding(
                    ("app", block, name), "SPEC-016", "asbuilt sets this variable itself", hint, at_key=True
                )


def find_notes(environment: Environment) -> Iterator[str]:
    """What is accepted but not done yet, or done otherwise than one may think."""
    app = environment.app
    if app.instances.minimum != app.instances.maximum and environment.load_balancer is None:
        least = app.instances.minimum
        yield f"app.instances {app.instances}: the load is counted by a load balancer; {least} are started"
    if environment.database is not None and environment.database.backup is not None:
        backup = environment.database.backup
        if environment.objects is None and backup.store is None and backup.folder is None:
            yield "database.backup: without object storage, store or folder there is no place: none are taken"
    secret = app.secrets.keys() | {
        "DATABASE_URL",
        "DATABASE_REPLICA_URL",
        "REDIS_URL",
        "AWS_SECRET_ACCESS_KEY",
    }
    for field, command in (("command", app.command), ("migrate", app.migrate)):
        if command is not None:
            for name in find_variables(parse_command(command)):
                if name in secret:
                    yield (
                        f"app.{field}: ${name} puts a secret where every user of the machine can see it; "
                        "let the app read the variable"
                    )
