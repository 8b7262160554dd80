"""How many app servers there should be: one decision for each sample of their signals.

Pure: memory in, new memory out. Up at once, down only on evidence: the load must have allowed fewer servers
for a whole window, and what stays must also carry the largest surprise of the last while. Invariants,
property-tested: always within the spec's range; never down on missing, stale or contradictory data, nor
while a server is missing; more load never means fewer servers; every decision says why, with numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from asbuilt.plan.demand import BUSY, UNKNOWN, Demand, Learned, Sample, Settings, clean, find_demand, learn
from asbuilt.plan.trend import Trend, begin, follow, jump

if TYPE_CHECKING:
    from asbuilt.spec.schema import App

TOLERANCE: Final = 1.2
"""The smoothed load may be this much above the target before a server is added."""
LANDING: Final = 1.15
"""How much above the target it may be where servers have just left or come: half of the tolerance."""
UP_DEVIATIONS: Final = 3.0
"""Standard deviations of the load's noise for which there must be room below all of the CPU."""
DOWN_DEVIATIONS: Final = 3.5
"""The same, before servers leave."""
LARGEST_CUT: Final = 0.25
"""Part of the servers that leaves at once, at most (or one); then the load is looked at again."""
BETWEEN_CUTS: Final = 15.0
"""Seconds between two cuts."""
FIRST_PAUSE: Final = 30.0
"""Seconds until a failed start is tried again; they double with each failure."""
LONGEST_PAUSE: Final = 600.0


class Verdict(StrEnum):
    """What to do."""

    HOLD = "hold"
    UP = "up"
    DOWN = "down"
    RETRY = "retry"
    """Start again what should be there and is not."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a decision needs of those before. Losing it is safe: nothing is removed until it is there again.

    Args:
        trend: the load so far; None before the first sample.
        learned: what the app's requests cost.
        recent: the load of the sample before, not smoothed.
        short_since: since when fewer servers are ready than wanted; None while all are.
        raised: it is so because servers were added.
        start_time: seconds that servers take to get ready, as seen; None: not seen yet.
        cut_at: when a server was last removed.
        failures: starts that failed one after the other.
        retry_at: when the next one is due.
    """

    trend: Trend | None = None
    learned: Learned = UNKNOWN
    recent: float = 0.0
    short_since: float | None = None
    raised: bool = False
    start_time: float | None = None
    cut_at: float = -math.inf
    failures: int = 0
    retry_at: float = math.inf


@dataclass(frozen=True, slots=True)
class Decision:
    """How many servers there should be from now on.

    Args:
        servers: how many.
        verdict: what that means for those there are.
        reason: why, in one line.
        memory: for the next decision.
        at_ceiling: the load asks for more than the spec allows.
    """

    servers: int
    verdict: Verdict
    reason: str
    memory: Memory
    at_ceiling: bool = False


def settings_of(app: App) -> Settings:
    """What the spec wants of an app's scaling."""
    scaling = app.scaling
    return Settings(
        app.instances.minimum,
        app.instances.maximum,
        scaling.cpu.share,
        scaling.in_flight,
        None if scaling.latency is None else scaling.latency.seconds * 1000,
        scaling.down_after.seconds,
        start_timeout=app.start_timeout.seconds,
    )


def decide(seen: Sample, memory: Memory, settings: Settings) -> Decision:
    """The servers that should be there after this sample."""
    sample = clean(seen, settings)
    demand = find_demand(sample, memory.learned, settings)
    after = _remember(sample, memory, settings, demand)
    wanted = seen.wanted
    if seen.releasing:
        return _hold(wanted, _find_brake(seen), after)
    number, words = _find_order(seen, settings)
    if words:
        return _to(number, wanted, words, after, seen.at)
    if after.failures and not seen.crashing:
        return _wait_or_retry(seen, after)
    if words := _find_brake(seen):
        return _hold(wanted, words, after)
    asked, words = _find_upward(sample, memory, after, settings, demand)
    if asked <= wanted:
        return _find_downward(sample, after, settings, demand)
    number = min(asked, settings.ceiling)
    if asked > number:
        words += f"; the spec allows {settings.ceiling}, the load asks for {asked}"
    return replace(_to(number, wanted, words, after, seen.at), at_ceiling=asked > number)


def _find_order(seen: Sample, settings: Settings) -> tuple[int, str]:
    """What the operator or the spec says about the number, whatever the load is; no words for nothing."""
    by_hand = seen.by_hand
    number = min(max(seen.wanted if by_hand is None else by_hand, settings.floor), settings.ceiling)
    if by_hand is not None:
        return number, f"{by_hand} were asked for by hand"
    if number != seen.wanted:
        return number, f"the spec allows {settings.floor}..{settings.ceiling}"
    return number, ""


def _find_brake(seen: Sample) -> str:
    """Why the number stays, whatever the load is; empty for no reason."""
    if seen.releasing:
        return f"a release is on its way to {seen.wanted} servers"
    if seen.crashing:
        return f"{seen.crashing} of {seen.wanted} servers crash, and more of the same would too"
    return ""


def _remember(sample: Sample, memory: Memory, settings: Settings, demand: Demand) -> Memory:
    """The memory with this sample, before anything is decided."""
    at, trend = sample.at, memory.trend
    seconds = at - trend.at if trend is not None else 0.0
    recent = memory.recent
    if demand.servers is not None:
        recent = demand.servers
        if trend is None:
            # what is there already was enough so far: only what is above it is a surprise
            trend = begin(at, demand.servers)
        elif not demand.doubt or demand.servers > trend.level:
            lead = _lead(memory, settings, seconds)
            trend = follow(trend, at, demand.servers, lead, max(settings.down_after, lead) + seconds)
    short = sample.ready < sample.wanted
    since = memory.short_since if memory.short_since is not None else at
    started, raised, failures, retry_at = memory.start_time, memory.raised, memory.failures, memory.retry_at
    if not short:
        if raised and not failures and memory.short_since is not None:
            took = at - memory.short_since
            started = took if started is None else (started + took) / 2
        raised, failures, retry_at = False, 0, math.inf
    elif at - since > settings.start_timeout and retry_at == math.inf:
        failures += 1
        retry_at = at + min(FIRST_PAUSE * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE)
    return replace(
        memory,
        trend=trend,
        learned=learn(memory.learned, sample, max(seconds, 1.0), demand),
        recent=recent,
        short_since=since if short else None,
        raised=raised,
        start_time=started,
        failures=failures,
        retry_at=retry_at,
    )


def _lead(memory: Memory, settings: Settings, seconds: float) -> float:
    """Seconds from a sample to the first request that a server added because of it answers."""
    return (memory.start_time or settings.start_time) + min(seconds, settings.stale_after)


def _find_upward(
    sample: Sample, before: Memory, after: Memory, settings: Settings, demand: Demand
) -> tuple[int, str]:
    """Servers that the load asks for, now and when new ones are ready, and why; 0 where nothing asks."""
    trend, wanted = after.trend, sample.wanted
    if trend is None or demand.servers is None:
        return 0, ""
    seconds = max(sample.at - before.trend.at, 1.0) if before.trend is not None else 0.0
    lead = _lead(after, settings, seconds)
    load, words = demand.servers, demand.words
    # half-way from the target to all of a server's CPU is more than noise, where it lasts for two samples
    lasting = min(load, before.recent) > wanted * (1 + (1 / settings.cpu - 1) / 2)
    if lasting and seconds:
        growth = max(load - before.recent, 0.0) / seconds
        surge = min(load + growth * lead, 2 * load)
    else:
        surge = load if load >= wanted * BUSY / settings.cpu else 0.0
    calm, room = trend.forecast(lead), _room(trend, demand, settings, down=False)
    asked, rest = max(
        (math.ceil(surge), f"{surge:.1f} servers' load now or in {lead:.0f} s"),
        (
            math.ceil(calm / LANDING) if calm > wanted * TOLERANCE else 0,
            f"{calm:.1f} servers' load expected in {lead:.0f} s",
        ),
        (math.ceil(room), f"with its noise the load would fill {room:.1f} servers"),
    )
    return (asked, f"{words}; {rest}") if asked > wanted else (0, "")


def _find_downward(sample: Sample, after: Memory, settings: Settings, demand: Demand) -> Decision:
    """Fewer servers, where everything allows it; else why not."""
    trend, wanted = after.trend, sample.wanted
    if sample.ready < wanted or sample.starting:
        words = f"{sample.ready} of {wanted} servers are ready, {sample.starting} starting"
        return _hold(wanted, words, after)
    if demand.doubt or trend is None:
        return _hold(wanted, f"{demand.doubt or demand.words}: no reason to remove one", after)
    if max(trend.level / LANDING, settings.floor) > wanted - 1:
        words = f"{demand.words}; smoothed {trend.level:.1f} servers' load, at least {settings.floor} servers"
        return _hold(wanted, words, after)
    if words := _find_delay(sample, after, settings, demand, trend):
        return _hold(wanted, words, after)
    peak = trend.peak(settings.down_after)
    enough = max(math.ceil(max(peak / LANDING, _room(trend, demand, settings, down=True))), settings.floor)
    number = max(enough, wanted - max(1, int(wanted * LARGEST_CUT)))
    words = f"{demand.words}; for {settings.down_after:.0f} s never more than {peak:.1f} servers' load"
    return _to(number, wanted, words, after, sample.at)


def _room(trend: Trend, demand: Demand, settings: Settings, *, down: bool) -> float:
    """Servers whose whole CPU carries the load with its noise; `down`: of the whole window, with a crowd."""
    noise = math.hypot(trend.spread, demand.grain)
    if not down:
        return (trend.level + UP_DEVIATIONS * noise) * settings.cpu / BUSY
    usual = trend.peak(settings.down_after) + DOWN_DEVIATIONS * noise
    return max(usual, trend.level + trend.surprise) * settings.cpu / BUSY


def _find_delay(sample: Sample, after: Memory, settings: Settings, demand: Demand, trend: Trend) -> str:
    """What is missing before fewer servers can be believed to be enough; empty for nothing."""
    wanted, window, now = sample.wanted, settings.down_after, sample.at
    fewer = max(math.ceil(trend.level / LANDING), settings.floor)
    above = [at for at, level in trend.past if level / LANDING > wanted - 1]
    calm = now - above[-1] if above else trend.covers()
    if calm < window:
        return f"load would allow {fewer}, but only for {calm:.0f} s of {window:.0f} s"
    room = _room(trend, demand, settings, down=True)
    if math.ceil(room) >= wanted:
        words = f"with its noise, and the {trend.surprise:.1f} servers' load that came at once before"
        return f"load would allow {fewer}, but {words}, it could fill {room:.1f}"
    if now - after.cut_at < BETWEEN_CUTS:
        return f"load would allow {fewer}; the last servers left {now - after.cut_at:.0f} s ago"
    return ""


def _wait_or_retry(seen: Sample, after: Memory) -> Decision:
    """Servers were started and did not get ready: keep those that did, start the others again later."""
    words = f"{seen.ready} of {seen.wanted} servers are ready, start {after.failures} failed"
    if seen.at < after.retry_at:
        if after.retry_at < math.inf:
            words += f"; tried again in {after.retry_at - seen.at:.0f} s"
        return _hold(seen.wanted, words, after)
    again = replace(after, short_since=seen.at, retry_at=math.inf)
    return Decision(seen.wanted, Verdict.RETRY, f"{seen.wanted} again: {words}", again)


def _hold(wanted: int, words: str, memory: Memory) -> Decision:
    return Decision(wanted, Verdict.HOLD, f"stays at {wanted}: {words}", memory)


def _to(number: int, wanted: int, words: str, memory: Memory, at: float) -> Decision:
    """Another number of servers, or the same."""
    if number == wanted:
        return _hold(wanted, words, memory)
    reason = f"{wanted} -> {number}: {words}"
    if number < wanted:
        return Decision(number, Verdict.DOWN, reason, replace(memory, cut_at=at))
    trend = memory.trend if memory.trend is None else jump(memory.trend, min(memory.recent, number))
    raised = replace(memory, trend=trend, short_since=at, raised=True)
    return Decision(number, Verdict.UP, reason, raised)
