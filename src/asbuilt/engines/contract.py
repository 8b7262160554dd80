"""What every engine offers. The contract suite in tests/contract runs over all of `registry.ENGINES`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from asbuilt.plan.workload import Setup, Workload

if TYPE_CHECKING:
    from asbuilt.exec.runner import Runner
    from asbuilt.graph.model import Architecture, Kind
    from asbuilt.plan.site import Site, Tools


@dataclass(frozen=True, slots=True)
class Realization:
    """What an engine wants to run and to do for its nodes of one architecture.

    `notes` are facts that the owner should know: a limit that was clamped, a promise this machine can't keep.
    """

    workloads: tuple[Workload, ...] = ()
    setups: tuple[Setup, ...] = ()
    notes: tuple[str, ...] = ()


class Engine(Protocol):
    """One engine.

    `engine.py` of its folder holds the class, `config.py` the pure rendering, `admin.py` talks to the running
    engine.
    """

    @property
    def name(self) -> str:
        """Registry name, like `haproxy`."""
        ...

    @property
    def kinds(self) -> frozenset[Kind]:
        """Kinds of nodes that it realizes."""
        ...

    def find(self, architecture: Architecture, runner: Runner) -> Tools:
        """The programs on this machine.

        In this order: the spec's path, the system's package when its major version is the wanted one, the
        wheel. Raises AsbuiltError (code ENGINE-001 missing, ENGINE-002 wrong version) that names the one
        command that helps.
        """
        ...

    def realize(self, architecture: Architecture, site: Site, runner: Runner) -> Realization:
        """Workloads and setups for all its nodes. Pure but for closures in setups, which use `runner`."""
        ...
