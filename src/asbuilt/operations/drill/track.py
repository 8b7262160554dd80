"""One round of a drill on its way: what was seen so far; every wait asks the stop conditions.

Invariant: however a block of `fault` is left, the fault is taken away first, before anybody is waited for.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from asbuilt.operations.drill.ground import Ground
from asbuilt.operations.drill.injection import Injected, Injection
from asbuilt.operations.progress import Event, Tell
from asbuilt.plan.fault import Fault, is_lasting
from asbuilt.plan.guard import Vitals, find_dependents, find_down, find_stop
from asbuilt.plan.ledger import Losses
from asbuilt.plan.verdict import Check
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.graph.model import Kind

_LOOK: Final = 1.0
_POLL: Final = 0.1
Condition = Callable[[], object]


class StopError(Exception):
    """A stop condition tripped; its text says which."""


class LateError(Exception):
    """What was waited for did not come in time."""


@dataclass
class Track:
    """One round.

    Args:
        ground: where.
        drill: id of the drill.
        blast: nodes that may be hurt.
        patience: seconds without service after which it is stopped.
        tell: hears what is done and waited for.
    """

    ground: Ground
    drill: str
    blast: tuple[str, ...]
    patience: float
    tell: Tell
    moment: float = 0.0
    legs: dict[str, float] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    proven: bool = False
    removed: bool = True
    aborted: str = ""
    whole: bool = False
    rto: float | None = None
    rpo: float | None = None
    """Where it is not told by the ledger."""
    losses: Losses | None = None
    writes: bool = False
    """Whether writes are counted in this drill."""
    rate: float | None = None
    two_primaries: int = 0
    judges: list[Callable[[], None]] = field(default_factory=list)
    """Called at the end of the round, when all clients have ended, however it ended."""
    probes: dict[str, Callable[[], float]] = field(default_factory=dict)
    """Each tells when it was served last."""
    _down: dict[str, float] = field(default_factory=dict)
    _looked: float = 0.0

    # -- telling ------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Say something about the whole."""
        self.tell(Event("note", "", text))

    def check(self, name: str, good: object, detail: str = "") -> None:
        """Keep what must hold."""
        self.checks.append(Check(name, bool(good), detail))

    def leg(self, name: str) -> float:
        """A leg ends now."""
        self.legs[name] = round(time.monotonic() - self.moment, 3)
        return self.legs[name]

    # -- waiting ------------------------------------------------------------------------------------------

    def until(self, what: str, condition: Condition, within: float, *, every: float = _POLL) -> None:
        """Wait. Raises LateError after `within` seconds, StopError when a stop condition trips."""
        began = time.monotonic()
        while not condition():
            waited = time.monotonic() - began
            if waited > within:
                raise LateError(f"{what}: not within {within:g} s")
            self.look()
            self.tell(Event("waiting", "drill", what, waited))
            time.sleep(every)

    def rest(self, what: str, seconds: float) -> None:
        """Let some time pass, and stay watchful."""
        until = time.monotonic() + seconds
        self.until(what, lambda: time.monotonic() >= until, seconds + 5.0)

    def look(self) -> None:
        """Raise StopError when a stop condition trips. Looks once a second, however often it is asked."""
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        exempt = {*self.blast, *find_dependents(self.ground.prepared.architecture, self.blast)}
        down = find_down(self.ground.status()["nodes"], exempt)
        self._down = {node: self._down.get(node, now) for node in down}
        vitals = Vitals(
            now,
            {name: probe() for name, probe in self.probes.items()},
            shutil.disk_usage(self.ground.root).free,
            self._down,
        )
        why = find_stop(vitals, self.patience)
        if why:
            raise StopError(f"stopped: {why}")

    # -- breaking -----------------------------------------------------------------------------------------

    @contextmanager
    def fault(self, fault: Fault, *, main: bool = True) -> Iterator[Injected]:
        """The fault is on inside the block, and off after it. `main`: the recovery from it is measured."""
        self.look()
        self.tell(Event("started", "fault", fault.words))
        self.removed = False
        with self._holding(fault) as injection:
            self.note(f"now: {fault.words}")
            injected = injection.begin()
            if main:
                self.moment, self.proven = injected.moment, injected.proven
            self.evidence.append(
                f"{fault.words}: {injected.hurt} of {injected.victims} processes were seen "
                + ("frozen or gone" if "freeze" in fault.words else "gone")
                + (f"; {injected.problem}" if injected.problem else "")
            )
            if main and not self.proven:
                raise LateError(f"{fault.words}: not seen to be on")
            yield injected
        if is_lasting(fault):
            self.note(f"off again: {fault.words}")

    @contextmanager
    def _holding(self, fault: Fault) -> Iterator[Injection]:
        injection = Injection(self.ground.root, self.drill, fault)
        try:
            with injection:
                yield injection
        finally:
            self.removed = injection.remove()

    # -- getting whole ------------------------------------------------------------------------------------

    def wait_whole(self, *kinds: Kind, within: float = 180.0) -> None:
        """Until redundancy is back."""
        missing: list[str] = []

        def complete() -> bool:
            missing[:] = self.ground.missing(*kinds)
            return not missing

        try:
            self.until("redundancy to be complete", complete, within, every=0.2)
        except LateError as late:
            raise LateError(f"{late} ({'; '.join(missing[:3])})") from None
        self.whole = True
        if self.moment:
            self.leg("full redundancy")


def explain(error: BaseException) -> str:
    """One line on why a round ended early."""
    if isinstance(error, AsbuiltError):
        return f"{error.code} {error.what}" + (
            f" ({'; '.join(error.evidence[:2])})" if error.evidence else ""
        )
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return str(error) or type(error).__name__
