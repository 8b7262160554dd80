"""`asbuilt failover`: another primary, planned (nothing is lost) or forced (the loss is said first).

Invariants: a planned one changes nothing unless the replica has every acknowledged write; a forced one is
done only by who was told what is at risk and named the environment.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asbuilt.engines.postgresql.admin import DatabaseAdmin, Member, open_admin
from asbuilt.engines.redis import admin as cache
from asbuilt.graph.model import Kind
from asbuilt.operations.prepare import Prepared, prepare
from asbuilt.operations.progress import Event, told
from asbuilt.operations.session import open_session
from asbuilt.values.errors import AsbuiltError, RefusedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from asbuilt.operations.progress import Tell
    from asbuilt.values.stage import Stage

KINDS: Final = {"database": Kind.DATABASE, "cache": Kind.CACHE}
_REDUNDANT_WITHIN: Final = 90.0
_LOOK: Final = 0.1


@dataclass(frozen=True, slots=True)
class Changed:
    """What came of it.

    Args:
        what: `database` or `cache`.
        before: the primary before; empty when there was none.
        after: the primary now.
        seconds: until the new primary led.
        redundant: seconds until a replica confirms every commit again; None when that was not seen in time.
        forced: without the old primary's word.
        risk: what may be lost, in words; empty for nothing.
    """

    what: str
    before: str
    after: str
    seconds: float
    redundant: float | None
    forced: bool
    risk: str


def change_primary(
    stage: Stage, what: str, node: str | None, tell: Tell, *, agree: Callable[[str], None] | None = None
) -> Changed:
    """Make another node the primary.

    Args:
        stage: the environment.
        what: `database` or `cache`.
        node: who shall lead; by default the replica that has everything.
        tell: hears what is done.
        agree: for a forced change: is told what may be lost, and raises to refuse. None: planned.

    Raises:
        UsageError: FAILOVER-001, there is no such thing or node.
        RefusedError: FAILOVER-002, it has no replicas; DATABASE-012, CACHE-001, no replica may lead now.
    """
    prepared = prepare(stage, touch=False, tell=tell)
    members = [one.id for one in prepared.architecture.of(KINDS[what])]
    if node is not None and node not in members:
        raise UsageError(
            "FAILOVER-001",
            f"{node} is no node of the {what}",
            hint=f"there are {', '.join(members)}" if members else f"{stage.environment} has no {what}",
        )
    if len(members) < 2:  # noqa: PLR2004 - a primary and somebody else
        raise RefusedError("FAILOVER-002", f"the {what} of {stage.environment} has no replica to take over")
    with open_session(stage, "failover", tell) as session, session.operation({"failover": what, "to": node}):
        change = _database if what == "database" else _cache
        return change(prepared, node, tell, agree)


def _database(
    prepared: Prepared, node: str | None, tell: Tell, agree: Callable[[str], None] | None
) -> Changed:
    admin = open_admin(prepared.architecture, prepared.site)
    before = admin.leader() or ""
    began = time.monotonic()
    risk = ""
    if agree is None:
        with told(tell, "database", f"hand over from {before or 'the primary'}"):
            after = admin.switch_over(node)
    else:
        candidate, risk = assess(admin.members(), node)
        agree(risk)
        with told(tell, "database", f"make {candidate} the primary"):
            after = admin.force(candidate)
    seconds = time.monotonic() - began
    return Changed(
        "database", before, after, seconds, _await_redundancy(admin, began, tell), agree is not None, risk
    )


def assess(members: tuple[Member, ...], node: str | None) -> tuple[str, str]:
    """Who would lead, and in words what may be lost. Pure.

    Raises RefusedError FAILOVER-003 when no replica answers.
    """
    replicas = [one for one in members if one.role != "leader" and one.state in {"running", "streaming"}]
    if node is not None:
        replicas = [one for one in replicas if one.node == node]
    if not replicas:
        raise RefusedError(
            "FAILOVER-003",
            f"{node or 'no replica'} {'does not answer' if node else 'answers'}: nothing can be promoted",
            evidence=tuple(f"{one.node}: {one.role}, {one.state}" for one in members),
            hint="start the nodes first: asbuilt up; or restore from a backup",
        )
    best = min(
        replicas, key=lambda one: (one.role != "sync_standby", one.lag is None, one.lag or 0, one.node)
    )
    if best.role == "sync_standby":
        return best.node, f"{best.node} confirmed every commit: nothing that was acknowledged is lost"
    if best.lag is None:
        return best.node, f"how far {best.node} is behind is not known: acknowledged commits may be lost"
    return (
        best.node,
        f"{best.node} is {best.lag:,} bytes of log behind what is known: acknowledged commits may be lost",
    )


def _await_redundancy(admin: DatabaseAdmin, began: float, tell: Tell) -> float | None:
    while time.monotonic() - began < _REDUNDANT_WITHIN:
        try:
            if admin.surely_protected():
                return time.monotonic() - began
        except AsbuiltError:
            pass
        waited = time.monotonic() - began
        tell(Event("waiting", "database", "a replica that confirms every commit", waited))
        time.sleep(_LOOK)
    return None


def _cache(prepared: Prepared, node: str | None, tell: Tell, agree: Callable[[str], None] | None) -> Changed:
    architecture, site = prepared.architecture, prepared.site
    before = cache.find_primary(architecture, site) or ""
    if agree is not None:
        raise RefusedError(
            "FAILOVER-004",
            "a cache's primary that does not answer is replaced by itself, within a second of its death",
            hint="asbuilt status shows who leads; without --force the primary hands over and loses nothing",
        )
    began = time.monotonic()
    if before == node:
        return Changed("cache", before, before, 0.0, 0.0, forced=False, risk="")
    with told(tell, "cache", f"hand over from {before or 'the primary'}"):
        after = cache.switch_over(architecture, site, to=node)
    seconds = time.monotonic() - began
    return Changed("cache", before, after, seconds, seconds, forced=False, risk="")
