"""The walk from one fleet to the next release: `advance` gives the next fleet until the goal is reached.

Pure, and without memory: the fleet itself says how far a rollout is, so a killed one goes on from there, and
going back is a walk to the release before. Invariants, property-tested: every walk ends; there are never
fewer servers in rotation than before, but for `surge` off, where it is one less; traffic moves to a release
only after enough of its servers are there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from asbuilt.plan.fleet import WHOLE, Fleet


class Strategy(StrEnum):
    """How a release takes over."""

    ROLLING = "rolling"
    """One server after the other."""
    BLUE_GREEN = "blue-green"
    """All new servers beside the old ones, then all traffic at once; the old ones stay warm."""
    CANARY = "canary"
    """A growing share of the users, in steps."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Where a rollout goes, and how.

    Args:
        release: the release that should take all traffic.
        strategy: the way there.
        count: servers it should have.
        surge: rolling: a new server more before the first old one is replaced, so that none is missing.
        shares: canary: ten-thousandths of the users, ascending; all of them is the implied last step.
        warm: the old servers stay, without traffic, after the release has taken over.
    """

    release: str
    strategy: Strategy
    count: int
    surge: bool = True
    shares: tuple[int, ...] = (1000, 5000)
    warm: bool = False


def advance(fleet: Fleet, goal: Goal) -> Fleet | None:
    """The next fleet on the way to the goal; None at the goal."""
    if fleet.candidate is not None and fleet.candidate != goal.release:
        return _retire(fleet, goal)
    strays = any(one not in {fleet.stable, fleet.candidate} for one in fleet.servers.values())
    if strays or goal.strategy is Strategy.ROLLING:
        # a rolling release that was left half-way can only be rolled to an end, or back
        return _roll(fleet, goal)
    if fleet.stable == goal.release:
        return _trim(fleet, goal)
    return _shift(fleet, goal)


def _retire(fleet: Fleet, goal: Goal) -> Fleet | None:
    """A candidate that is not the goal: first no traffic, then no servers."""
    if fleet.share:
        return replace(fleet, share=0)
    if goal.warm and fleet.stable == goal.release and len(fleet.running(goal.release)) == goal.count:
        return None
    warm = fleet.running(fleet.candidate) if fleet.candidate is not None else ()
    return replace(fleet.without(warm), candidate=None, sticky=False)


def _roll(fleet: Fleet, goal: Goal) -> Fleet | None:
    """In place, in rotation with the old ones."""
    if fleet.candidate is not None:
        # it was on trial with a share of its own: it takes its place among the others
        return replace(fleet, candidate=None, share=0, sticky=False)
    old = [number for number, one in sorted(fleet.servers.items()) if one != goal.release]
    if not old:
        return _trim(fleet, goal)
    if len(fleet.running(goal.release)) >= goal.count:
        return fleet.without(tuple(old))
    if goal.surge and len(fleet.servers) <= goal.count:
        return fleet.with_servers({fleet.spare(1)[0]: goal.release})
    return fleet.with_servers({old[0]: goal.release})


def _trim(fleet: Fleet, goal: Goal) -> Fleet | None:
    """All run the release: as many as wanted, and the release is the stable one."""
    numbers = sorted(fleet.running(goal.release))
    missing = goal.count - len(numbers)
    wanted = fleet.without(tuple(numbers[goal.count :]))
    if missing > 0:
        wanted = wanted.with_servers(dict.fromkeys(fleet.spare(missing), goal.release))
    wanted = replace(wanted, stable=goal.release)
    return None if wanted == fleet else wanted


def _shift(fleet: Fleet, goal: Goal) -> Fleet:
    """Beside the old ones, by the share of the traffic."""
    canary = goal.strategy is Strategy.CANARY
    steps = [*(share for share in goal.shares if canary), WHOLE]
    if fleet.candidate is None:
        fleet = replace(fleet, candidate=goal.release, share=0, sticky=canary)
    if fleet.share >= WHOLE:
        return Fleet(fleet.servers, goal.release, fleet.stable)
    share = next(step for step in steps if step > fleet.share)
    missing = math.ceil(goal.count * share / WHOLE) - len(fleet.running(goal.release))
    if missing > 0:
        return fleet.with_servers(dict.fromkeys(fleet.spare(missing), goal.release))
    return replace(fleet, share=share, sticky=canary)


def abandon(fleet: Fleet, goal: Goal, before: str) -> Goal:
    """The way back to the release before: at once where its servers stand by, else one by one."""
    strategy = Strategy.BLUE_GREEN if fleet.candidate == before else Strategy.ROLLING
    return replace(goal, release=before, strategy=strategy, warm=False)
