"""Who a cache node follows when it starts. Pure deciding; only the standard library.

Invariant: a node that starts never becomes a second primary, and an empty node never becomes primary while
another one has data.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE = 30.0
"""Seconds that a failed primary waits for another node to be promoted, before it goes on itself. That needs a
second, or 15 by the sentinels alone; when it is not done by then it can't be (too few of them are left)."""
ALL_ANSWER_WITHIN = 1.0
"""Seconds that a node which does not answer is waited for: it may have more of the data than the others."""


@dataclass(frozen=True, slots=True)
class Living:
    """What another cache node says of itself now.

    Args:
        primary: whether it is one.
        follows: the node it follows, or None.
        synced: whether it has been in step with its primary since it was started.
        offset: how much of the stream it has.
    """

    primary: bool
    follows: str | None = None
    synced: bool = False
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """What the disk of a node holds: whether there is data, and when it was written last (Unix time)."""

    data: bool
    written: float = 0.0


@dataclass(frozen=True, slots=True)
class Named:
    """Whom a sentinel names primary, and in which epoch; `living` when it answered, not its file alone."""

    node: str
    epoch: int
    living: bool


class Start(Enum):
    """What to do."""

    PRIMARY = "primary"
    REPLICA = "replica"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Decision:
    """How to start, whom to follow, and why, for the log."""

    start: Start
    follows: str | None
    why: str


def decide(
    me: str,
    living: Mapping[str, Living],
    stored: Mapping[str, Stored],
    named: tuple[Named, ...],
    waited: float,
) -> Decision:
    """How the node `me` starts.

    Args:
        me: its id.
        living: the other nodes that answer.
        stored: every node's disk, also its own.
        named: what the sentinels say.
        waited: seconds since it first had to wait.
    """
    names = max(named, key=lambda n: (n.epoch, n.living), default=None)
    primaries = [node for node, other in living.items() if other.primary]
    if primaries:
        chosen = max(primaries, key=lambda n: (names is not None and n == names.node, living[n].offset, n))
        return Decision(Start.REPLICA, chosen, f"{chosen} is primary")
    synced = [node for node, other in living.items() if other.synced]
    if names is not None and names.node != me and (names.living or synced):
        return Decision(Start.REPLICA, names.node, f"the sentinels name {names.node}")
    own = stored.get(me, Stored(data=False))
    if synced:
        if waited < PATIENCE or not own.data:
            return Decision(
                Start.WAIT, None, f"{', '.join(sorted(synced))} has the data: to be promoted first"
            )
        return Decision(Start.PRIMARY, None, "nobody was promoted in time, and the data is here")
    return _decide_cold(me, living, stored, names)


def choose_successor(
    me: str, others: int, living: Mapping[str, Living], named: tuple[Named, ...], waited: float
) -> str | None:
    """Who is to be made primary in place of `me`, which is dead; None when that is not to be done (now).

    Args:
        me: the node that was primary, if the newest sentinel names it and answers.
        others: how many other nodes there should be.
        living: those that answer.
        named: what the sentinels say.
        waited: seconds since `me` was first proven dead.
    """
    names = max(named, key=lambda n: (n.epoch, n.living), default=None)
    if names is None or names.node != me or not names.living or any(one.primary for one in living.values()):
        return None
    if len(living) < others and waited < ALL_ANSWER_WITHIN:
        return None
    synced = [node for node, other in living.items() if other.synced]
    return max(synced, key=lambda node: (living[node].offset, node), default=None)


def _decide_cold(
    me: str, living: Mapping[str, Living], stored: Mapping[str, Stored], names: Named | None
) -> Decision:
    """Nobody serves and nobody is in step with anybody: all come from rest, perhaps at once.

    Everyone sees the same disks and files, so everyone comes to the same answer.
    """
    followed = sorted({other.follows for other in living.values() if other.follows})
    with_data = [node for node, disk in stored.items() if disk.data]
    if names is not None and (stored.get(names.node, Stored(data=False)).data or not with_data):
        chosen, why = names.node, "was the last primary"
    elif len(followed) == 1 and (followed[0] in with_data or not with_data):
        chosen, why = followed[0], "is waited for by the others"
    elif with_data:
        chosen = max(sorted(with_data), key=lambda node: stored[node].written)
        why = "has the newest data"
    else:
        chosen, why = min(stored), "is the first, and there is no data yet"
    if chosen == me:
        return Decision(Start.PRIMARY, None, f"{me} {why}")
    return Decision(Start.REPLICA, chosen, f"{chosen} {why}")
