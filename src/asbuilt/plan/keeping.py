"""Which backups stay by their age: what is the same for those of the database and all others. Pure.

Retention is a floor, never a reason to be left without a backup, and nothing ages while nothing new is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol, TypeVar

from asbuilt.values.units import Duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from asbuilt.plan.copies import Copy


class Kept(Protocol):
    """Any backup."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def ended(self) -> datetime:
        """Nothing in it is newer."""

    @property
    def bad(self) -> bool:
        """It could not be restored."""

    @property
    def good(self) -> bool:
        """It could be restored."""

    @property
    def long_term(self) -> bool:
        """It is marked."""


K = TypeVar("K", bound=Kept)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the spec promises.

    Args:
        retention: every moment of so long before now can be reached.
        long_term: for so long one backup of each month is kept, as it is, and all that are marked. None: no
            more than those that are marked, until they are not.
    """

    retention: Duration
    long_term: Duration | None = None


def before(now: datetime, duration: Duration) -> datetime:
    """So long ago."""
    return now - timedelta(seconds=duration.seconds)


def name_usable(one: Kept) -> str:
    """Why a newest one stays."""
    return "the newest that is known to be good" if one.good else "the newest that may be good"


def find_newest_usable(usable: Sequence[K]) -> Iterator[K]:
    """Of those that are not bad, oldest first: the newest, and the newest that was tried."""
    yield from usable[-1:]
    yield from [one for one in usable if one.good][-1:]


def find_long_term(marked: Iterable[K], usable: Iterable[K], policy: Policy, now: datetime) -> Iterator[K]:
    """Those that are marked, and of each month (UTC) without one the first good one, else the first.

    Args:
        marked: all there are, oldest first.
        usable: those that could stand for their month, oldest first.
        policy: what is promised.
        now: with a zone.
    """
    if policy.long_term is None:
        yield from (one for one in marked if one.long_term)
        return
    edge = before(now, policy.long_term)
    months: dict[str, list[K]] = {}
    for one in usable:
        if one.ended >= edge:
            months.setdefault(f"{one.ended.astimezone(UTC):%Y-%m}", []).append(one)
    for backups in months.values():
        long = [one for one in backups if one.long_term]
        yield from long or [next((one for one in backups if one.good), backups[0])]


def decide_copies(copies: Iterable[Copy], policy: Policy, now: datetime) -> Mapping[str, str]:
    """Why copies of one part stay, by id; those that are not named may go.

    As what was at the beginning of the retention has to be reached, the last usable one before it stays, too.
    Without any usable one all stay. Property-tested: what is not needed now is not needed later; deciding
    again after all of it is gone keeps all that is left.
    """
    ordered = sorted(copies, key=lambda one: (one.ended, one.id))
    usable = [one for one in ordered if not one.bad]
    if not usable:
        return {one.id: "there is no usable backup" for one in ordered}
    now = min(now, ordered[-1].ended)
    edge = before(now, policy.retention)
    why = {ordered[-1].id: "the newest"}
    whole = [one for one in usable if not one.problems]
    for one in (*find_newest_usable(usable), *find_newest_usable(whole)):
        why[one.id] = name_usable(one)
    for one in [one for one in usable if one.ended <= edge][-1:]:
        why.setdefault(one.id, f"the last {policy.retention} begin with it")
    for one in ordered:
        if one.ended > edge:
            why[one.id] = f"younger than {policy.retention}"
    for one in find_long_term(ordered, usable, policy, now):
        why.setdefault(one.id, "marked for the long term" if one.long_term else "the one of its month")
    return why
