"""The composition root: which folder, which environment, whose state. Light, so that `status` is instant."""

from __future__ import annotations

import os
from pathlib import Path

from asbuilt.values.errors import UsageError
from asbuilt.values.stage import Stage

SPEC_FILE = "asbuilt.yaml"


def find_home() -> Path:
    """Where state lives: $ASBUILT_HOME, /var/lib/asbuilt for root, else the user's data folder."""
    given = os.environ.get("ASBUILT_HOME")
    if given:
        return Path(given).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/asbuilt")
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "asbuilt"


def find_spec(given: str | None) -> Path:
    """The spec's path: as given, else asbuilt.yaml here. It need not exist."""
    return Path(given) if given else Path(SPEC_FILE)


def split_environment(file: Path, words: list[str]) -> tuple[str | None, list[str]]:
    """The environment that a verb's words begin with, or None, and the other words."""
    from asbuilt.spec.names import read_names

    _, environments = read_names(file)
    return (words[0], words[1:]) if words and words[0] in environments else (None, list(words))


def choose_stage(file: Path, environment: str | None) -> Stage:
    """The environment a command is about. Raises UsageError CLI-002 when it is unclear or unknown."""
    from asbuilt.spec.names import read_names

    name, environments = read_names(file)
    if environment is None:
        if len(environments) != 1:
            raise UsageError(
                "CLI-002",
                f"which environment? {file.name} has {', '.join(environments) or 'none'}",
                hint="name one after the verb, like: asbuilt up production",
            )
        environment = environments[0]
    if environment not in environments:
        raise UsageError(
            "CLI-003",
            f"no environment {environment!r} in {file.name}",
            where=str(file),
            hint=f"it has {', '.join(environments) or 'none'}",
        )
    return Stage(file, name, environment, find_home())
