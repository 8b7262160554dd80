"""One step of a plan, and a whole plan: plain data that the executor runs and the renderers print.

Invariant: the steps of a `Plan` are in an order in which each comes after all it needs.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property


class StepKind(StrEnum):
    """What a step does to its subject."""

    SETUP = "setup"
    """Run a setup; finished when it is done."""
    START = "start"
    """Make a workload run and wait until it is ready. Where a process with the wanted digest runs already and
    is not ready yet, this adopts it: nothing is started twice."""
    RELOAD = "reload"
    """Write the files and make the process read them; it serves all the while."""
    RESTART = "restart"
    """Stop it, start it with what is wanted now, and wait until it is ready."""
    STOP = "stop"
    """End it; finished when the whole tree of processes is gone. Its data stays."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one thing.

    Args:
        id: stable, like `restart:db-1`; one thing has at most one step in a plan.
        kind: what is done.
        subject: id of the workload or setup.
        node_kind: kind of the subject's node in the words of `status --json`; empty for a setup.
        title: what the progress line says, like "restart db-1".
        reason: why, as part of a sentence, like "its configuration changed".
        needs: ids of the steps that must have succeeded before, sorted.
        destructive: it takes a copy of data (database, cache, objects, files, consensus) out of service.
    """

    id: str
    kind: StepKind
    subject: str
    node_kind: str
    title: str
    reason: str
    needs: tuple[str, ...] = ()
    destructive: bool = False


@dataclass(frozen=True)
class Plan:
    """Steps in an order that respects their needs; those that do not need each other may run in parallel."""

    steps: tuple[Step, ...] = ()

    @cached_property
    def by_id(self) -> dict[str, Step]:
        """Every step under its id."""
        return {step.id: step for step in self.steps}

    @property
    def empty(self) -> bool:
        """True when there is nothing to do."""
        return not self.steps

    @property
    def destructive(self) -> tuple[Step, ...]:
        """The steps that take a copy of data out of service."""
        return tuple(step for step in self.steps if step.destructive)

    def counts(self) -> dict[StepKind, int]:
        """How many steps of each kind there are; kinds without a step are left out."""
        found = Counter(step.kind for step in self.steps)
        return {kind: found[kind] for kind in StepKind if found[kind]}


_DIGITS = re.compile(r"(\d+)")


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key under which `app-10` comes after `app-9`."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(name))
