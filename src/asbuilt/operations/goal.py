"""An order becomes the goal of a walk, which is kept on record until it is reached."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from asbuilt.operations.build import Build
from asbuilt.operations.choose import find_last_good, find_release, get_release
from asbuilt.operations.order import AUTO, Order
from asbuilt.operations.prepare import count_servers
from asbuilt.operations.reading import FLEET, LOAD, ROLLOUT, SCALE, read_facts
from asbuilt.plan.fleet import WHOLE, Fleet, from_json
from asbuilt.plan.rollout import Goal, Strategy, abandon
from asbuilt.plan.site import Release
from asbuilt.record.releases import Releases, ReleaseState
from asbuilt.values.errors import RefusedError

if TYPE_CHECKING:
    from asbuilt.operations.gather import Gathered
    from asbuilt.record.journal import Journal
    from asbuilt.values.stage import Stage

MOST_SERVERS: Final = 254
"""A server's number is the last byte of its address."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A walk that is under way.

    Args:
        goal: where it goes.
        before: the release that served when it began.
        back: it is the way back, after a failure or an abort.
        forward: the goal's migration is part of it.
        rollback: the release that it leaves is taken back.
        made: the goal's build, made or to be made; not kept on record.
        newest: the goal's release, when it is of the folder of now; not kept on record.
    """

    goal: Goal
    before: str
    back: bool = False
    forward: bool = True
    rollback: bool = False
    made: Build | None = None
    newest: Release | None = None

    def turned_back(self, fleet: Fleet) -> Pending:
        """The way back from where it is: to the release that served before."""
        goal = abandon(fleet, self.goal, self.before)
        return Pending(goal, self.before, back=True, forward=False)

    @property
    def state_when_left(self) -> ReleaseState:
        """What the goal's release is when somebody turns back from it."""
        return ReleaseState.RETIRED if self.rollback else ReleaseState.ROLLED_BACK

    @property
    def stays(self) -> bool:
        """The release stays, only the number of its servers changes: that is on record anyhow."""
        return self.goal.release == self.before and not self.back


def load_fleet(journal: Journal, stage: Stage) -> Fleet:
    """The fleet on record. Raises RefusedError DEPLOY-001 where there is none."""
    fleet = from_json(journal.fact(FLEET))
    if fleet is None:
        raise RefusedError(
            "DEPLOY-001",
            f"{stage.environment} was never up",
            hint=f"asbuilt up {stage.environment} comes first",
        )
    return fleet


def keep_pending(journal: Journal, pending: Pending) -> None:
    """Write down what is under way."""
    kept = {
        "schema": 1,
        "goal": asdict(pending.goal),
        "before": pending.before,
        "back": pending.back,
        "forward": pending.forward,
        "rollback": pending.rollback,
    }
    journal.remember_facts({ROLLOUT: json.dumps(kept)})


def load_pending(journal: Journal) -> Pending | None:
    """What is under way, whoever began it."""
    text = journal.fact(ROLLOUT)
    if text is None:
        return None
    raw: dict[str, Any] = json.loads(text)
    values = raw["goal"]
    goal = Goal(**{**values, "strategy": Strategy(values["strategy"]), "shares": tuple(values["shares"])})
    return Pending(goal, raw["before"], raw["back"], raw["forward"], raw["rollback"])


def choose_goal(gathered: Gathered, journal: Journal, order: Order, fleet: Fleet) -> Pending:
    """A new goal. Raises RefusedError DEPLOY-002 when there is nothing to abort or go back to, DEPLOY-006."""
    if order.abort:
        raise RefusedError("DEPLOY-002", "no release is on its way: there is nothing to abort")
    if order.verb == "cool":
        count = len(fleet.running(fleet.stable))
        return Pending(Goal(fleet.stable, Strategy.ROLLING, count), fleet.stable, forward=False)
    if order.scale is not None:
        return _scaled(gathered, journal, order, fleet)
    releases = Releases(journal)
    count = count_servers(gathered.environment, read_facts(gathered.stage, journal))
    rollout = gathered.environment.rollout
    balanced = gathered.environment.load_balancer is not None
    if order.verb == "rollback":
        found = (
            get_release(releases, order.release) if order.release else find_last_good(releases, fleet.stable)
        )
        # the bad one must go at once, for everybody
        strategy = Strategy.BLUE_GREEN if balanced else Strategy.ROLLING
        _check_room(strategy, fleet, count)
        return Pending(Goal(found.id, strategy, count), fleet.stable, forward=False, rollback=True)
    strategy = Strategy(order.strategy or rollout.strategy)
    if strategy is not Strategy.ROLLING and not balanced:
        raise RefusedError(
            "DEPLOY-006",
            f"{strategy} needs a load balancer, and {gathered.stage.environment} has none",
            hint="--strategy rolling replaces the app servers one after the other",
        )
    _check_room(strategy, fleet, count)
    made, newest = find_release(gathered, journal)
    record = releases.get(newest.id)
    if record is not None and record.state in {ReleaseState.FAILED, ReleaseState.ROLLED_BACK}:
        releases.mark(newest.id, ReleaseState.BUILT)
    goal = Goal(
        newest.id,
        strategy,
        count,
        surge=balanced and (rollout.surge if order.surge is None else order.surge),
        shares=tuple(round(step * WHOLE / 100) for step in rollout.steps),
        warm=strategy is Strategy.BLUE_GREEN and rollout.warm.seconds > 0,
    )
    return Pending(goal, fleet.stable, made=made, newest=newest)


def _scaled(gathered: Gathered, journal: Journal, order: Order, fleet: Fleet) -> Pending:
    """The same release on another number of servers."""
    instances, wanted = gathered.environment.app.instances, order.scale or ""
    by_hand = read_facts(gathered.stage, journal).get(SCALE)
    if order.why and by_hand not in {None, wanted}:
        raise RefusedError(
            "SCALE-002", f"the load asks for {wanted} app servers, but the owner has set a number"
        )
    if wanted == AUTO:
        journal.forget_fact(SCALE)
    elif not wanted.isdecimal() or not instances.minimum <= int(wanted) <= instances.maximum:
        raise RefusedError(
            "SCALE-001",
            f"app={wanted} is not within app.instances of the spec, {instances}",
            hint=f"give a number in that range, or {AUTO}; a wider range goes into asbuilt.yaml",
        )
    else:
        journal.remember_facts({LOAD if order.why and by_hand is None else SCALE: wanted})
    count = count_servers(gathered.environment, read_facts(gathered.stage, journal))
    goal = Goal(fleet.stable, Strategy.ROLLING, count, warm=fleet.candidate is not None)
    return Pending(goal, fleet.stable, forward=False)


def _check_room(strategy: Strategy, fleet: Fleet, count: int) -> None:
    if strategy is not Strategy.ROLLING and len(fleet.servers) + count > MOST_SERVERS:
        raise RefusedError(
            "DEPLOY-006",
            f"{strategy} needs {count} app servers beside the {len(fleet.servers)} there are",
            hint=f"there is room for {MOST_SERVERS}: --strategy rolling needs one more at a time",
        )
