"""A release that never becomes healthy, made on purpose. Pure.

Invariant: only what is made anew from the spec is broken. A release on record keeps its own configuration.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asbuilt.operations.gather import Gathered

COMMAND: Final = ("sh", "-c", "echo this release is broken on purpose: asbuilt drill; sleep 0.2; exit 1")


def spoil(gathered: Gathered) -> Gathered:
    """The same, where the app of the spec ends as soon as it was started, and migrates nothing."""
    spec, name = gathered.loaded.spec, gathered.stage.environment
    environment = spec.environments[name]
    app = environment.app.model_copy(update={"command": list(COMMAND), "migrate": None})
    environments = {**spec.environments, name: environment.model_copy(update={"app": app})}
    loaded = replace(gathered.loaded, spec=spec.model_copy(update={"environments": environments}))
    return replace(gathered, loaded=loaded)
