"""Tests that may be looked at after every tick, for as long as one likes: e-processes. Pure.

An e-process is wealth that starts at 1 and is bet against a hypothesis at fair or worse than fair prices:
while the hypothesis is true its expectation never exceeds 1, at whatever moment one looks. By Ville's
inequality (Ville 1939) it then ever reaches 1/alpha with probability alpha at most. So "stop as soon as it is
clear" costs nothing, which a p-value that is read again and again does not allow. Survey: Ramdas, Gruenwald,
Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid inference", Statistical Science 38(4),
2023; betting on means: Waudby-Smith and Ramdas, JRSS B 86(1), 2024; time-uniform bounds: Howard, Ramdas,
McAuliffe and Sekhon, Annals of Statistics 49(2), 2021. A weighted mean of e-processes is one again, however
they depend on each other; so many strata need no correction, only weights.

Three bets, each over a grid of alternatives because nobody knows beforehand how bad a release is:

`odds_factors`: against "the odds of an event at the candidate are at most f times those at the stable
release", f >= 1. In one tick the candidate had n_c requests with x_c events, the stable release n_s and x_s.
Given the total m = x_c + x_s, x_c has the noncentral hypergeometric distribution with odds ratio psi <= f.
The bet is the likelihood ratio of two binomials, theta_j = j f n_c / (j f n_c + n_s) against the same with
j = 1: r^m j^x_c with r = (f n_c + n_s) / (j f n_c + n_s). It is fair or worse than fair because

1. j^x grows with x, and x_c grows stochastically with psi (monotone likelihood ratio): psi = f is the worst;
2. x_c is distributed as a sum of m independent Bernoulli variables (its generating polynomial has only real
   roots: Harkness, "Properties of the extended hypergeometric distribution", Ann. Math. Statist. 36, 1965),
   and of all such sums with one mean the binomial has the greatest expectation of a convex function
   (Hoeffding, "On the distribution of the number of successes in independent trials", Ann. Math. Statist. 27,
   1956; for samples without replacement also Hoeffding, JASA 58, 1963);
3. the mean is at most m theta_1: neighbouring probabilities give f E[(n_c - x_c) x_s] = E[x_c (n_s - x_s)],
   thus f n_c E[x_s] - n_s E[x_c] = (f - 1) E[x_c x_s] >= 0.

The chance of an event may change from tick to tick as it likes (a database that stumbles hurts both). What is
assumed: given the numbers of requests, their outcomes are independent.

`above_factors`, `below_factors`: against "the chance of an event is at most, or at least, `limit`"; the
binomial likelihood ratio, monotone in the events. The limit may be a new one in each tick, chosen before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMES: Final = (2.0, 5.0, 15.0, 60.0, 1000.0)
"""How many times worse than the hypothesis allows the alternatives are."""
PARTS: Final = (0.1, 0.3, 0.6)
"""`below_factors`: the alternatives as parts of the limit."""
LATER: Final = 0.5
"""Part of the wealth that is not bet from the first tick on, but bit by bit: for what goes wrong later."""
PACE: Final = 20
"""At bet t the part 1 / (`PACE` + t) of what is not bet yet is bet: half of it within the first `PACE`."""
BATCH: Final = 10
"""Requests of both sides together that are compared at once, at least."""

MOST: Final = 1e200
"""Evidence is not counted beyond."""
_LOG_MOST: Final = 500.0


class Count(NamedTuple):
    """Of so many requests, so many with the event that is looked for."""

    requests: int = 0
    events: int = 0

    def plus(self, other: Count) -> Count:
        """Both together."""
        return Count(self.requests + other.requests, self.events + other.events)


NONE: Final = Count()


def odds_factors(
    candidate: Count, stable: Count, factor: float, times: tuple[float, ...] = TIMES
) -> tuple[float, ...]:
    """What each alternative gains: 1, that is nothing, where one side had no requests."""
    events = candidate.events + stable.events
    if not candidate.requests or not stable.requests or not events:
        return (1.0,) * len(times)
    ours = factor * candidate.requests
    return tuple(
        _exp(
            candidate.events * math.log(worse)
            + events * math.log((ours + stable.requests) / (worse * ours + stable.requests))
        )
        for worse in times
    )


def above_factors(count: Count, limit: float) -> tuple[float, ...]:
    """Bets against "at most `limit`" (0..1, both excluded): the odds are those of `TIMES`."""
    chances = (times * limit / (1 - limit + times * limit) for times in TIMES)
    return tuple(_gain(count, chance, limit) for chance in chances)


def below_factors(count: Count, limit: float) -> tuple[float, ...]:
    """Bets against "at least `limit`" (0..1, both excluded): the chances are `PARTS` of it."""
    return tuple(_gain(count, part * limit, limit) for part in PARTS)


def _gain(count: Count, chance: float, limit: float) -> float:
    without = count.requests - count.events
    return _exp(count.events * math.log(chance / limit) + without * math.log((1 - chance) / (1 - limit)))


def _exp(log: float) -> float:
    return math.exp(min(log, _LOG_MOST))


@dataclass(frozen=True, slots=True)
class Wealth:
    """An e-process: what lies on each alternative, and what is not bet yet.

    The part that is bet later (a mixture over the moment at which things go wrong) bounds the price of a long
    good time before: without it each quiet minute would have to be won back first.
    """

    bets: tuple[float, ...]
    cash: float = 0.0
    times: int = 0

    @classmethod
    def start(cls, alternatives: int, later: float = 0.0) -> Self:
        """1 in all, the part `later` of it not bet yet."""
        return cls(((1 - later) / alternatives,) * alternatives, later)

    def bet(self, factors: Sequence[float]) -> Self:
        """A part of the cash is bet, then every bet is multiplied by its factor."""
        part = self.cash / (PACE + self.times)
        more = part / len(self.bets)
        # a cap only takes wealth away, so the bets stay fair
        bets = tuple(min((one + more) * factor, MOST) for one, factor in zip(self.bets, factors, strict=True))
        return type(self)(bets, self.cash - part, self.times + 1)

    @property
    def value(self) -> float:
        """The whole: the evidence against the hypothesis."""
        return self.cash + sum(self.bets)


@dataclass(frozen=True, slots=True)
class Odds:
    """Evidence that the odds of an event at the candidate are more than `factor` times those at the stable.

    Ticks are gathered until both sides have requests, `BATCH` together: with a request in ten seconds no tick
    alone could be compared. When that is depends on the requests, not on their outcome: the bets stay fair.

    What happens to the requests of one moment may have one cause, and then it is one event and not many: a
    server that stands still for a second is slow for all of them. `most` bounds what one comparison can gain;
    less than fair is still valid.

    Args:
        factor: how many times the stable release's odds the hypothesis allows.
        times: how many times worse than that the alternatives are.
        most: the greatest factor by which one comparison multiplies a bet.
        wealth: what the bets are worth.
        candidate: all that was counted of the candidate.
        stable: the same of the stable release.
        pending: of both, what has not been compared yet.
    """

    factor: float
    times: tuple[float, ...]
    most: float
    wealth: Wealth
    candidate: Count = NONE
    stable: Count = NONE
    pending: tuple[Count, Count] = (NONE, NONE)

    @classmethod
    def start(cls, factor: float, times: tuple[float, ...] = TIMES, most: float = MOST) -> Self:
        """Nothing is known yet."""
        return cls(factor, times, most, Wealth.start(len(times), LATER))

    def see(self, candidate: Count, stable: Count, *, wait: bool = False) -> Self:
        """One tick more; `wait`: it is compared together with the next."""
        ours, theirs = self.pending[0].plus(candidate), self.pending[1].plus(stable)
        totals = self.candidate.plus(candidate), self.stable.plus(stable)
        few = not ours.requests or not theirs.requests or ours.requests + theirs.requests < BATCH
        if wait or few:
            return replace(self, candidate=totals[0], stable=totals[1], pending=(ours, theirs))
        wealth = self.wealth
        if ours.events or theirs.events:
            # that there are events is known before whose they are, so waiting for them is fair
            gains = odds_factors(ours, theirs, self.factor, self.times)
            wealth = wealth.bet([min(gain, self.most) for gain in gains])
        return type(self)(self.factor, self.times, self.most, wealth, *totals)

    def part(self) -> Self:
        """Requests of before are not compared with those of after: the shares of the traffic have changed."""
        return replace(self, pending=(NONE, NONE))

    @property
    def value(self) -> float:
        """The evidence."""
        return self.wealth.value
