"""One environment of one project on this machine, as a value. A named tuple: `status` imports it."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - a named tuple evaluates its fields
from typing import NamedTuple


class Stage(NamedTuple):
    """One environment of one project on this machine.

    Args:
        file: the spec.
        name: name of the system.
        environment: name of the environment.
        home: folder of all state of this user.
    """

    file: Path
    name: str
    environment: str
    home: Path

    @property
    def project(self) -> Path:
        """Folder of the spec."""
        return self.file.absolute().parent

    @property
    def root(self) -> Path:
        """Folder of everything this environment stores."""
        return self.home / self.name / self.environment
