"""Generated secrets of one environment: made once, kept in one private file, never shown.

Invariant: a secret that was handed out is on disk before anyone can use it, so that no engine is ever started
with a password that a crash could lose.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from typing import TYPE_CHECKING, Final

from asbuilt.values.errors import AsbuiltError
from asbuilt.values.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_BYTES = 24


_NO_MAKERS: Final[Mapping[str, Callable[[], str]]] = {}


class Vault:
    """The secrets in `path` (mode 0600).

    Args:
        path: the file.
        keep: False: new ones live in memory only, for a look.
        makers: how the secrets that are no random words are made, by name.
    """

    def __init__(
        self, path: Path, *, keep: bool = True, makers: Mapping[str, Callable[[], str]] = _NO_MAKERS
    ) -> None:
        self._path = path
        self._keep = keep
        self._makers = makers
        self._lock = threading.Lock()
        self._values = _read(path)

    def secret(self, name: str) -> Secret:
        """The secret of that name, made now if there is none. Random words are letters and digits only."""
        with self._lock:
            if name not in self._values:
                self._values[name] = self._makers.get(name, _make_word)()
                if self._keep:
                    _write(self._path, self._values)
            return Secret(self._values[name])


def _make_word() -> str:
    return secrets.token_hex(_BYTES)


def _read(path: Path) -> dict[str, str]:
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise AsbuiltError(
            "VAULT-001",
            "the file of generated passwords is damaged",
            where=str(path),
            hint="restore it from a backup; without it the engines' passwords are lost",
        ) from None
    return {str(name): str(value) for name, value in raw.items()}


def _write(path: Path, values: dict[str, str]) -> None:
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(values, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise AsbuiltError(
            "VAULT-002",
            f"cannot write the file of generated passwords: {error.strerror}",
            where=str(path),
            hint="free some space or fix the folder's permissions, then run the command again",
        ) from None
