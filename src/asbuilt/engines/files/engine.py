"""File storage on one machine: a plain folder. It has no process.

A shared file system in user space needs root to mount; on one machine every app server sees the same disk
anyway, so the folder itself is the strongest and simplest thing to give them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from asbuilt.engines.contract import Realization
from asbuilt.engines.folders import make_folder
from asbuilt.graph.model import Kind
from asbuilt.plan.site import Tools
from asbuilt.plan.workload import Setup

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.exec.runner import Runner
    from asbuilt.graph.model import Architecture
    from asbuilt.plan.site import Site

DIRECTORY = "files.directory"
"""Id of the setup that makes the folder."""


def files_dir(site: Site) -> Path:
    """The folder behind `FILES_DIR`."""
    return site.root / "files"


@dataclass(frozen=True, slots=True)
class FilesEngine:
    """Realizes the file storage node, without a process."""

    name: str = "files"
    kinds: frozenset[Kind] = frozenset({Kind.FILES})

    def find(self, architecture: Architecture, runner: Runner) -> Tools:  # noqa: ARG002 - the contract
        """Nothing to find: the kernel's own file system."""
        return Tools(self.name, "1", "system", "a folder of this machine", {})

    def realize(self, architecture: Architecture, site: Site, runner: Runner) -> Realization:
        """The setup that makes the folder; nothing when the architecture has no file storage."""
        if not architecture.of(Kind.FILES):
            return Realization()
        folder = files_dir(site)

        def satisfied() -> bool:
            return folder.is_dir() and folder.stat().st_uid == runner.identity.uid

        def run() -> None:
            make_folder(runner.identity, folder)

        return Realization(
            setups=(
                Setup(
                    id=DIRECTORY,
                    title="make the shared files folder",
                    needs=(),
                    key=str(folder),
                    satisfied=satisfied,
                    run=run,
                ),
            )
        )
