"""What a drill is. Each is one small file in `drills`; the registry names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from asbuilt.graph.model import Architecture, Kind
from asbuilt.operations.drill.ground import Ground
from asbuilt.operations.drill.track import Track
from asbuilt.plan.verdict import Promise

DATABASE: Final = Promise("database failure", 300.0, 0.0)
APPLICATION: Final = Promise("application failure", 120.0)
CACHE: Final = Promise("cache failure", 120.0, 1.0)
CORRUPTION: Final = Promise("data corruption", 4 * 3600.0, 0.0)
RELEASE: Final = Promise("bad release", 120.0)
PROMISES: Final = (DATABASE, APPLICATION, CACHE, RELEASE, CORRUPTION)
"""The recoveries that are promised and can be drilled. That of a region is not supported yet."""
ONE_MACHINE: Final = "the loss of the machine: every node runs on one"


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill.

    Args:
        name: on the command line.
        title: what happens, in one line.
        promise: what it is compared with.
        needs: the kinds of nodes that it needs.
        replicated: the first of them must have replicas.
        blast: the nodes that are hurt.
        run: injects, waits for the recovery, keeps what it sees.
        variants: ways to do it, the default first; none where there is only one.
        unsupported: why not, for each variant that cannot be had; "" stands for the whole drill.
        about: how long it takes, roughly, in seconds.
        locks: it holds the environment's lock all the time; False where operations in it take that lock.
        not_tested: what it does not show.
        backups: it needs the environment's backups.
    """

    name: str
    title: str
    promise: Promise
    needs: tuple[Kind, ...]
    replicated: bool
    blast: Callable[[Ground, str], tuple[str, ...]]
    run: Callable[[Track, str], None]
    variants: tuple[str, ...] = ()
    unsupported: Mapping[str, str] = field(default_factory=dict)
    about: float = 30.0
    locks: bool = True
    not_tested: tuple[str, ...] = (ONE_MACHINE,)
    backups: bool = False


def find_obstacle(drill: Drill, variant: str, architecture: Architecture) -> str:
    """Why this drill cannot be had here; empty when it can. Pure."""
    why = drill.unsupported.get("") or drill.unsupported.get(variant, "")
    if why:
        return why
    for kind in (*drill.needs, *((Kind.BACKUP,) if drill.backups else ())):
        if not architecture.of(kind):
            return f"this environment has no {kind}"
    if drill.replicated and len(architecture.of(drill.needs[0])) < 2:  # noqa: PLR2004 - one and another
        return f"this environment has only one {drill.needs[0]} node"
    return ""


def runs_of(drill: Drill) -> tuple[str, ...]:
    """The variants that are supported; one empty word where there is only one way."""
    if "" in drill.unsupported:
        return ()
    return tuple(one for one in drill.variants or ("",) if one not in drill.unsupported)
