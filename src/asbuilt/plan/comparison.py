"""A question about a candidate, asked of all its traffic and of each route. Pure but for its memory.

The evidence is the weighted mean of that of all traffic and of every route: a release that fails on one route
only is found quickly, and no correction for many questions is needed. A route's weight is fixed by its place
in the order of appearance, which does not depend on how its requests ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from asbuilt.plan.evidence import (
    LATER,
    MOST,
    NONE,
    PARTS,
    TIMES,
    Count,
    Odds,
    Wealth,
    above_factors,
    below_factors,
)
from asbuilt.plan.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asbuilt.plan.tally import Tally

    Pairs = Mapping[str, tuple[Count, Count]]

POOLED: Final = 0.5
"""Weight of all traffic together; the routes have the rest."""
_SPREAD: Final = 8
_HIGHEST: Final = 0.9
"""A chance of events above which "less than that" is no praise."""


def route_weight(place: int) -> float:
    """Weight of the route that appeared as number `place` (from 0).

    Those of any number of routes sum to at most what `POOLED` leaves: c / ((k + c) (k + c + 1)) sums to 1.
    """
    return (1 - POOLED) * _SPREAD / ((place + _SPREAD) * (place + _SPREAD + 1))


def add_up(pairs: Pairs) -> tuple[Count, Count]:
    """Candidate and stable release, over all routes."""
    found = list(pairs.values())
    return (
        Count(sum(one.requests for one, _ in found), sum(one.events for one, _ in found)),
        Count(sum(one.requests for _, one in found), sum(one.events for _, one in found)),
    )


class Comparison:
    """Counts of candidate and stable release by route, against "at most `factor` times the odds".

    Args:
        factor: how many times the stable release's odds still pass.
        times: the alternatives, see `evidence.Odds`.
        most: what one comparison can gain, see there.
        by_route: whether routes are asked apart as well.
    """

    def __init__(
        self, factor: float, times: tuple[float, ...], most: float = MOST, *, by_route: bool = True
    ) -> None:
        self._fresh, self._by_route = Odds.start(factor, times, most), by_route
        self.pooled = self._fresh
        self._routes: dict[str, Odds] = {}

    def see(self, pairs: Pairs, *, wait: bool = False) -> None:
        """One tick more: of each route the counts of candidate and stable release.

        `wait`: they are compared together with those of the next.
        """
        self.pooled = self.pooled.see(*add_up(pairs), wait=wait)
        if self._by_route:
            for route, (candidate, stable) in sorted(pairs.items()):
                self._routes[route] = self._routes.get(route, self._fresh).see(candidate, stable, wait=wait)

    def part(self) -> None:
        """The shares of the traffic change now."""
        self.pooled = self.pooled.part()
        self._routes = {route: odds.part() for route, odds in self._routes.items()}

    @property
    def value(self) -> float:
        """The evidence of all together."""
        if not self._by_route:
            return self.pooled.value
        weights = [route_weight(place) for place in range(len(self._routes))]
        # what is kept for routes that have not appeared yet stays as it is
        left = 1 - POOLED - sum(weights)
        routes = zip(weights, self._routes.values(), strict=True)
        return POOLED * self.pooled.value + left + sum(weight * odds.value for weight, odds in routes)

    def strongest(self) -> tuple[str, Odds]:
        """What says the most: a route, or empty for all traffic together."""
        found = [(POOLED * self.pooled.value, "", self.pooled)]
        for place, (route, odds) in enumerate(self._routes.items()):
            found.append((route_weight(place) * odds.value, route, odds))
        return max(found, key=lambda one: one[0])[1:]


@dataclass(slots=True)
class Slow:
    """What is slow on a route: above a quantile of the stable release's own times, of earlier ticks only.

    A request of the stable release counts when it took longer than that quantile, one of the candidate when
    it took longer than the quantile with the tolerance on top. So a release whose times are at most `ratio`
    times as long plus `extra` ms passes, whatever the shape of their distribution.

    Args:
        quantile: of the stable release's times, 0..1.
        ratio: times as long still passes.
        extra: ms more still pass.
        least: times of the stable release that must be known before a route is judged.
    """

    quantile: float
    ratio: float
    extra: float
    least: int
    _times: dict[str, Histogram] = field(default_factory=dict)
    _limits: dict[str, tuple[int, float]] = field(default_factory=dict)

    def count(
        self, candidate: Mapping[str, Tally], stable: Mapping[str, Tally]
    ) -> dict[str, tuple[Count, Count]]:
        """Of each route that is known well enough: how many were slow, candidate and stable release."""
        found = {}
        for route, (_, limit) in self._limits.items():
            found[route] = (
                _above(candidate.get(route), self.ratio * limit + self.extra),
                _above(stable.get(route), limit),
            )
        return found

    def learn(self, stable: Mapping[str, Tally]) -> None:
        """After the tick: its times are earlier ones for the next."""
        for route, tally in stable.items():
            times = self._times.setdefault(route, Histogram())
            times.merge(tally.times)
            total = times.total
            # the quantile of so many is as good as that of a few more
            if total >= self.least and total >= 1.1 * self._limits.get(route, (0, 0.0))[0]:
                self._limits[route] = (total, times.quantile(self.quantile))


@dataclass(slots=True)
class Limit:
    """The candidate alone, against "at most this share of its requests".

    Args:
        share: the limit, 0..1, both excluded.
        wealth: the evidence that the share is greater.
        count: what was counted.
    """

    share: float
    wealth: Wealth = field(default_factory=lambda: Wealth.start(len(TIMES), LATER))
    count: Count = NONE

    def see(self, count: Count) -> None:
        """One tick more."""
        self.count = self.count.plus(count)
        if count.requests:
            self.wealth = self.wealth.bet(above_factors(count, self.share))


@dataclass(slots=True)
class Praise:
    """Evidence of one step that the candidate's events are rarer than what is tolerated.

    The limit of a tick is the greater of `least` and `factor` times the stable release's share in all earlier
    ticks. Without requests of the candidate nothing is gained.

    Args:
        least: a share that is good enough whatever the stable release does.
        factor: times the stable release's share that are good enough.
        wealth: the evidence.
        stable: what was counted of the stable release.
        limit: that of the last tick.
    """

    least: float
    factor: float
    wealth: Wealth = field(default_factory=lambda: Wealth.start(len(PARTS)))
    stable: Count = NONE
    limit: float = 0.0

    def see(self, candidate: Count, stable: Count) -> None:
        """One tick more."""
        # half an event more keeps a short luck of the stable release from being the measure
        running = (self.stable.events + 0.5) / (self.stable.requests + 1) if self.stable.requests else 0.0
        self.limit = max(self.least, min(self.factor * running, _HIGHEST))
        if candidate.requests:
            self.wealth = self.wealth.bet(below_factors(candidate, self.limit))
        self.stable = self.stable.plus(stable)

    def again(self) -> None:
        """From the start: another step."""
        self.wealth = Wealth.start(len(PARTS))


def _above(tally: Tally | None, limit: float) -> Count:
    return Count(tally.times.total, tally.times.above(limit)) if tally else NONE
