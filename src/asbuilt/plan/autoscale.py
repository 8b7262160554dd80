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
from typing import TYPE_CHECKING, Final, NamedTuple

from asbuilt.plan.demand import BUSY, UNKNOWN, Demand, Learned, Sample, Settings, clean, find_demand, learn
from asbuilt.plan.trend import Trend, begin, follow

if TYPE_CHECKING:
    from asbuilt.spec.schema import App

LARGEST_CUT: Final = 0.25
"""Part of the servers that leaves at once, at most (or one); then the load is looked at again."""
BETWEEN_CUTS: Final = 15.0
"""Seconds between two cuts."""
FIRST_PAUSE: Final = 30.0
"""Seconds until a failed start is tried again; they double with each failure."""
LONGEST_PAUSE: Final = 600.0


class Margin(NamedTuple):
    """When servers are enough.

    Args:
        above: how much the load may be, over their target.
        deviations: standard deviations of its noise for which there is room below all of their CPU.
    """

    above: float
    deviations: float


ENOUGH: Final = Margin(1.2, 3.3)
"""With less, servers are added."""
AMPLE: Final = Margin(1.15, 3.9)
"""What those that stay have when others leave: more, so that few of these are missed soon after."""


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
        ready: servers in rotation at the sample before; 0: not known.
        short_since: since when fewer servers are ready than wanted; None while all are.
        raised: it is so because servers were added.
        start_time: seconds that servers take to get ready, as seen; None: not seen yet.
        cut_at: when a server was last removed.
        failures: starts that failed one after the other.
        retry_at: when the next one is due.
    """

    trend: Trend | None = None
    learned: Learned = UNKNOWN
    ready: int = 0
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
    # a server that came since the sample before did not work for the whole of this one
    before = memory.ready or sample.ready
    worked = sample if sample.ready <= before else replace(sample, ready=before)
    demand = find_demand(worked, memory.learned, settings)
    seconds = sample.at - memory.trend.at if memory.trend is not None else 0.0
    # from a sample to the first request that a server added because of it answers
    lead = (memory.start_time or settings.start_time) + min(seconds, settings.stale_after)
    learned = learn(memory.learned, worked, max(seconds, 1.0), demand)
    after = _remember(sample, memory, settings, demand, learned, lead=lead)
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
    asked, words = _find_upward(sample, after, settings, demand, lead)
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


def _remember(
    sample: Sample, memory: Memory, settings: Settings, demand: Demand, learned: Learned, *, lead: float
) -> Memory:
    """The memory with this sample, before anything is decided."""
    at, trend, load = sample.at, memory.trend, demand.servers
    if load is not None and trend is None:
        # what is there already was enough so far: only what is above it is a surprise
        trend = begin(at, load)
    elif load is not None and trend is not None and (not demand.doubt or load > trend.level):
        trend = follow(trend, at, load, lead, max(settings.down_after, lead) + at - trend.at)
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
        learned=learned,
        ready=sample.ready,
        short_since=since if short else None,
        raised=raised,
        start_time=started,
        failures=failures,
        retry_at=retry_at,
    )


def _find_upward(
    sample: Sample, after: Memory, settings: Settings, demand: Demand, lead: float
) -> tuple[int, str]:
    """Servers that the load asks for, now and when new ones are ready, and why; 0 where nothing asks."""
    trend, load, wanted = after.trend, demand.servers, sample.wanted
    if trend is None or load is None:
        return 0, ""
    expected = trend.forecast(lead)
    need = _need(expected, ENOUGH, trend.spread, after, settings)
    # half-way from the target to all of a server's CPU is more than noise
    surge = load if load > wanted * (1 + 1 / settings.cpu) / 2 else 0.0
    asked, words = max(
        (math.ceil(surge), f"{surge:.1f} servers' load now"),
        (math.ceil(need), f"{expected:.1f} expected in {lead:.0f} s, which with its noise need {need:.1f}"),
    )
    return (asked, f"{demand.words}; {words}") if asked > wanted else (0, "")


def _need(load: float, margin: Margin, spread: float, after: Memory, settings: Settings) -> float:
    """Servers that are enough for a load.

    Requests come one by one: what comes in within one second of the same load deviates by the square root of
    their number. This is why a few servers need more room than many (square-root staffing).
    """
    grain = load * after.learned.cost / settings.cpu if after.learned.known else 0.0
    noise = math.sqrt(spread**2 + grain)
    return max(load / margin.above, (load + margin.deviations * noise) * settings.cpu / BUSY)


def _find_downward(sample: Sample, after: Memory, settings: Settings, demand: Demand) -> Decision:
    """Fewer servers, where everything allows it; else why not."""
    trend, wanted, window = after.trend, sample.wanted, settings.down_after
    if sample.ready < wanted or sample.starting:
        words = f"{sample.ready} of {wanted} servers are ready, {sample.starting} starting"
        return _hold(wanted, words, after)
    if demand.doubt or trend is None:
        return _hold(wanted, f"{demand.doubt or demand.words}: no reason to remove one", after)
    need = max(_need(trend.level, AMPLE, trend.spread, after, settings), settings.floor)
    if need > wanted - 1:
        words = f"{demand.words}; smoothed and with its noise the load needs {need:.1f}"
        return _hold(wanted, f"{words}, at least {settings.floor} servers", after)
    needs = [(at, _need(level, AMPLE, trend.spread, after, settings)) for at, level in trend.past]
    above = [at for at, more in needs if more > wanted - 1]
    calm = sample.at - above[-1] if above else trend.covers()
    crowd = (trend.level + trend.surprise) * settings.cpu / BUSY
    if words := _find_delay(sample, after, settings, calm, crowd):
        return _hold(wanted, f"load would allow {math.ceil(need)}, but {words}", after)
    most = max(need, crowd, *(more for at, more in needs if at > sample.at - window))
    number = max(math.ceil(most), wanted - max(1, int(wanted * LARGEST_CUT)))
    words = f"{demand.words}; for {window:.0f} s never more than {most:.1f} servers were needed"
    return _to(number, wanted, words, after, sample.at)


def _find_delay(sample: Sample, after: Memory, settings: Settings, calm: float, crowd: float) -> str:
    """What is missing before fewer servers can be believed to be enough; empty for nothing.

    Args:
        sample: now.
        after: the memory with this sample.
        settings: what is wanted.
        calm: seconds for which fewer were enough.
        crowd: servers whose whole CPU carries what came at once before, if it comes again.
    """
    if calm < settings.down_after:
        return f"only for {calm:.0f} s of {settings.down_after:.0f} s"
    if crowd > sample.wanted - 1:
        return f"what came at once before could fill {crowd:.1f}"
    since = sample.at - after.cut_at
    return f"the last servers left {since:.0f} s ago" if since < BETWEEN_CUTS else ""


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
    return Decision(number, Verdict.UP, reason, replace(memory, short_since=at, raised=True))
