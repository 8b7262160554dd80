"""Turns the secret references of a spec into values. Invariant: no value is ever in an error or a warning."""

from __future__ import annotations

import os
import stat
import subprocess
from typing import TYPE_CHECKING, Final

from asbuilt.spec.schema import SecretFromCommand, SecretFromEnvironment, SecretFromFile
from asbuilt.values.errors import UsageError
from asbuilt.values.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from asbuilt.spec.schema import SecretReference

_TIMEOUT: Final = 60.0
"""Seconds for a password manager to answer; it may ask a person to unlock it."""
_LARGEST: Final = 64 * 1024
"""Bytes of a secret at most: an environment variable has to hold it."""


class _MissingError(Exception):
    """Why a reference has no value."""


def resolve_secrets(
    references: Mapping[str, SecretReference],
    project: Path,
    environ: Mapping[str, str],
    warn: Callable[[str], None],
) -> dict[str, Secret]:
    """The value of every reference.

    Args:
        references: by the name of the app's variable.
        project: folder of asbuilt.yaml: files are relative to it, commands run in it.
        environ: variables of the shell that runs asbuilt.
        warn: told of a secret file that every user can read.

    Raises:
        UsageError: SECRET-001 with every reference that has no value.
    """
    found: dict[str, Secret] = {}
    missing: list[str] = []
    for name, reference in sorted(references.items()):
        try:
            value = _resolve(name, reference, project, environ, warn)
        except _MissingError as reason:
            missing.append(f"{name}: {reason}")
            continue
        found[name] = Secret(value)
    if missing:
        raise UsageError(
            "SECRET-001",
            f"{len(missing)} secret{'s have' if len(missing) > 1 else ' has'} no value",
            where="app.secrets",
            evidence=tuple(missing),
            hint="set the variables, write the files, or correct the references in asbuilt.yaml",
        )
    return found


def _resolve(
    name: str,
    reference: SecretReference,
    project: Path,
    environ: Mapping[str, str],
    warn: Callable[[str], None],
) -> str:
    match reference:
        case SecretFromEnvironment(env=variable):
            value = environ.get(variable, "")
            reason = f"the variable {variable} is not set"
        case SecretFromFile(file=file):
            value, reason = _read(name, project / file, warn), f"the file {file} is empty"
        case SecretFromCommand(command=command):
            value = _ask(tuple(command), project, environ)
            reason = f"{command[0] if command else 'the command'} printed nothing"
    if not value:
        raise _MissingError(reason)
    if "\0" in value or len(value.encode()) > _LARGEST:
        raise _MissingError("it is longer than 64 KB or has a NUL character: no variable can hold it")
    return value


def _read(name: str, path: Path, warn: Callable[[str], None]) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise _MissingError(f"{path} is no file")
            content = file.read(_LARGEST + 2)
    except OSError as error:
        raise _MissingError(f"cannot read {path}: {error.strerror}") from None
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"the file of the secret {name} can be read by other users: chmod 600 {path}")
    return _text(content)


def _ask(command: tuple[str, ...], project: Path, environ: Mapping[str, str]) -> str:
    """Standard output of a command; it runs as the owner, because password managers know them alone."""
    if not command:
        raise _MissingError("the command is empty")
    try:
        done = subprocess.run(
            command,
            cwd=project,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _MissingError(f"{command[0]} did not answer within {_TIMEOUT:g} s") from None
    except OSError as error:
        raise _MissingError(f"cannot start {command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise _MissingError(f"{command[0]} failed with status {done.returncode}")
    return _text(done.stdout)


def _text(content: bytes) -> str:
    """Without the last line break."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise _MissingError("it is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")
