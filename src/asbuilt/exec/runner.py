"""The one place that runs commands. Words in a list, no shell, secrets only by environment or stdin.

Invariant: an error text never holds a secret that was handed to the command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from asbuilt.exec.identity import Identity
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.secret import Secret, mask

if TYPE_CHECKING:
    from pathlib import Path

_EVIDENCE_LINES = 12


@cache
def _bound_to_us() -> tuple[str, ...]:
    """Words that make a command die with this process: whatever kills us leaves no half-done work running."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


@dataclass(frozen=True, slots=True)
class Command:
    """One command to run to its end.

    Args:
        argv: program and arguments; never a secret.
        env: variables added to a minimal environment (PATH, LANG); the caller's own is not inherited.
        secret_env: secret variables.
        stdin: text for its standard input; may be secret.
        cwd: working directory.
        timeout: seconds until it is killed.
        unprivileged: run as the identity that engines run as.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    secret_env: tuple[tuple[str, Secret], ...] = ()
    stdin: str | None = None
    cwd: str | None = None
    timeout: float = 120.0
    unprivileged: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What a command said."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs commands as `identity`."""

    identity: Identity

    def ask(self, command: Command) -> Result:
        """Run it and return whatever it says; raises AsbuiltError only when it cannot start or times out."""
        argv = (*_bound_to_us(), *command.argv)
        argv = self.identity.wrap(argv) if command.unprivileged else argv
        env = _build_env(command)
        program = command.argv[0].rsplit("/", 1)[-1]
        # asked here, because the words put before the command would answer with a status of their own
        if shutil.which(command.argv[0], path=env["PATH"]) is None:
            raise _cannot_start(program, command.argv[0], "there is no such program")
        try:
            done = subprocess.run(
                argv,
                env=env,
                cwd=command.cwd,
                input=command.stdin or "",
                text=True,
                errors="replace",
                capture_output=True,
                timeout=command.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise AsbuiltError(
                "EXEC-002",
                f"{program} did not end within {command.timeout:g} s",
                where=" ".join(command.argv),
                hint="the machine may be very busy; run the command again",
            ) from None
        except OSError as error:
            raise _cannot_start(program, command.argv[0], str(error.strerror)) from None
        secrets = tuple(secret for _, secret in command.secret_env)
        return Result(done.returncode, done.stdout, mask(done.stderr, secrets))

    def start(self, command: Command, log: Path) -> subprocess.Popen[bytes]:
        """Start it beside us; it dies with us, whatever ends us. What it says is appended to `log`.

        Raises AsbuiltError EXEC-001. `stdin` and `timeout` do not count.
        """
        argv = (*_bound_to_us(), *command.argv)
        argv = self.identity.wrap(argv) if command.unprivileged else argv
        try:
            with log.open("ab") as said:
                return subprocess.Popen(
                    argv,
                    env=_build_env(command),
                    cwd=command.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                )
        except OSError as error:
            program = command.argv[0].rsplit("/", 1)[-1]
            raise _cannot_start(program, command.argv[0], str(error.strerror)) from None

    def run(self, command: Command) -> Result:
        """Run it and raise AsbuiltError EXEC-003 with its last words when it fails."""
        result = self.ask(command)
        if result.status != 0:
            program = command.argv[0].rsplit("/", 1)[-1]
            secrets = tuple(secret for _, secret in command.secret_env)
            said = (mask(result.stdout, secrets) + "\n" + result.stderr).strip().splitlines()
            raise AsbuiltError(
                "EXEC-003",
                f"{program} failed with status {result.status}",
                where=" ".join(command.argv),
                evidence=tuple(line for line in said if line.strip())[-_EVIDENCE_LINES:],
            )
        return result


def _build_env(command: Command) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        **dict(command.env),
        **{name: value.reveal() for name, value in command.secret_env},
    }


def _cannot_start(program: str, path: str, why: str) -> AsbuiltError:
    return AsbuiltError(
        "EXEC-001",
        f"cannot start {program}: {why}",
        where=path,
        hint="asbuilt doctor says what is missing",
    )
