from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.operations.build import Artifact, find_build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asbuilt.exec.runner import Runner
    from asbuilt.spec.schema import App


def build_release(
    project: Path, app: App, releases: Path, runner: Runner, progress: Callable[[str], None]
) -> Artifact:
    """Find the build and make it unless it is there, as `up` does."""
    build = find_build(project, app, releases, runner)
    if not build.finished:
        build.make(progress)
    return build.artifact
