"""One operation's hold on an environment: journal, lock, epoch."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asbuilt.operations.execute import Watch
from asbuilt.operations.progress import Event, Tell
from asbuilt.operations.reading import JOURNAL
from asbuilt.record.journal import Journal
from asbuilt.record.lock import Held, acquire, look, renewing
from asbuilt.values.errors import AsbuiltError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.targets.local.client import AgentClient
    from asbuilt.values.stage import Stage


SCALE_VERB: Final = "scale"
"""The verb that nobody is refused for: it begins by itself, and it is short."""
_PATIENCE: Final = 120.0
_LOOK: Final = 0.1


@dataclass(frozen=True, slots=True)
class Session:
    """The open journal and the taken lock."""

    journal: Journal
    held: Held
    verb: str

    @property
    def epoch(self) -> int:
        """Goes into every request to the agent; an older one is refused there."""
        return self.held.epoch

    def lift_epoch(self, client: AgentClient) -> None:
        """Get above what the agent has seen: a lost or rolled-back journal must not reuse an epoch."""
        seen = client.snapshot().epoch
        if seen >= self.epoch:
            self.held.lift(seen)

    @contextmanager
    def operation(self, plan: object) -> Iterator[int]:
        """Record one operation from its start to its outcome."""
        operation = self.journal.begin_operation(
            self.verb, epoch=self.epoch, owner=self.held.client.owner, plan=plan
        )
        try:
            yield operation
        except KeyboardInterrupt:
            self.journal.finish_operation(operation, "interrupted")
            raise
        except AsbuiltError as error:
            self.journal.finish_operation(operation, "failed", error=error.to_json())
            raise
        self.journal.finish_operation(operation, "done")

    def watch(self, operation: int) -> Watch:
        """What the executor asks and tells around each step of an operation."""
        return Watch(
            lambda step: self.journal.intend_step(operation, step.id),
            lambda step, said: self.journal.complete_step(
                operation, step.id, "done" if said == "done" else "failed", said
            ),
            self.held.check,
        )


@contextmanager
def open_session(stage: Stage, verb: str, tell: Tell, *, patient: bool = True) -> Iterator[Session]:
    """Take the environment's lock for one verb; a change of the number of app servers is waited for.

    Args:
        stage: the environment.
        verb: what it is taken for.
        tell: hears what is waited for.
        patient: False: not even that is waited for.

    Raises RefusedError LOCK-001 while somebody else holds it.
    """
    journal = Journal.open(stage.root / JOURNAL, clock=time.time)
    try:
        if journal.moved_aside:
            tell(
                Event(
                    "note",
                    "",
                    f"the journal was damaged and is rebuilt; the old one is {journal.moved_aside}",
                )
            )
        held = _acquire(journal, verb, tell, _PATIENCE if patient else 0.0)
        if held.taken_over:
            tell(Event("note", "", held.taken_over))
        with renewing(held):
            yield Session(journal, held, verb)
    finally:
        journal.close()


def _acquire(journal: Journal, verb: str, tell: Tell, patience: float) -> Held:
    began = time.monotonic()
    while True:
        try:
            return acquire(journal, verb)
        except RefusedError:
            holder = look(journal)
            waited = time.monotonic() - began
            scales = holder is not None and holder.verb == SCALE_VERB
            if not scales or waited >= patience:
                raise
        tell(Event("waiting", "lock", "the number of app servers to be changed", waited))
        time.sleep(_LOOK)
