"""What to do next with one workload: decided from what is known, without acting.

Times are of a monotonic clock that stands still while the machine sleeps, so neither a changed clock nor a
suspended laptop looks like a hang. Invariant: a hang needs questions that were really asked and not
answered; time alone, in which nobody asked, never kills a process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from asbuilt.observe.snapshot import Health

FROZEN_AFTER = 2.0
"""Seconds in state T after which a process counts as frozen."""
STEADY_AFTER = 60.0
"""Seconds of running after which earlier failures are forgotten."""
LOOP_FAILURES = 5
LOOP_WINDOW = 60.0
LOOP_PAUSE = 30.0
"""Five failures in 60 s are a crash loop; then every 30 s."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
PROBE_STARTING = (0.03, 0.1)
"""Least and most: a 50th of its age, so that hardly any of the time to get ready is a wait for a question."""
PROBE_FAILING = 0.5
PROBE_READY = 4.0
"""A crash is seen at once, and a hang is not fenced before `hang_after`: nothing is in a hurry."""
PROBE_MEMBER = 2.0
"""A member of a cluster changes its role without a sign."""
PROBE_ROLE = 1.7
_SILENT_QUESTIONS = 3


@dataclass(frozen=True, slots=True)
class Failures:
    """How often it failed since it last ran steadily. `looping` stays until it runs for STEADY_AFTER."""

    count: int = 0
    recent: tuple[float, ...] = ()
    looping: bool = False

    def after(self, now: float, ran: float) -> Failures:
        """With one more failure, at `now`, after `ran` seconds of running."""
        before = Failures() if ran >= STEADY_AFTER else self
        recent = (*before.recent, now)[-LOOP_FAILURES:]
        full = len(recent) == LOOP_FAILURES and now - recent[0] <= LOOP_WINDOW
        return Failures(before.count + 1, recent, before.looping or full)

    @property
    def retry_at(self) -> float:
        """When it may be started again: at once the first time, then 0.2 s, 0.4 s, ..., 10 s."""
        if not self.recent:
            return 0.0
        if self.looping:
            return self.recent[-1] + LOOP_PAUSE
        pause = 0.0 if self.count == 1 else FIRST_PAUSE * 2.0 ** min(self.count - 1, 20)
        return self.recent[-1] + min(pause, LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of one workload.

    Args:
        wanted: it should run.
        alive: its main process runs.
        clean: nothing of its tree is left (known only after a look).
        started: when the main process was started or adopted.
        ready_once: it was ready since it was started.
        good: the last question was answered as expected.
        silent_since: when the first of an unbroken series of questions without any answer was asked.
        silent: how many questions in that series.
        frozen_since: when it was first seen stopped, in an unbroken series of looks.
        probing: a question is under way.
        next_probe: when to ask next.
        failures: its history.
        trouble: a problem apart from readiness (somebody else shares its port); empty when there is none.
    """

    wanted: bool = False
    alive: bool = False
    clean: bool = False
    started: float = 0.0
    ready_once: bool = False
    good: bool = False
    silent_since: float | None = None
    silent: int = 0
    frozen_since: float | None = None
    probing: bool = False
    next_probe: float = 0.0
    failures: Failures = Failures()
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Run before_start, then the process."""


@dataclass(frozen=True, slots=True)
class Fence:
    """Kill the whole tree, prove it dead, release what it held."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Send the readiness question."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do before `until`; None: until something happens."""

    until: float | None


Action = Start | Fence | Ask | Rest


def decide(watch: Watch, now: float, *, hang_after: float, start_timeout: float) -> Action:
    """The next action for one workload."""
    if not watch.wanted:
        return Rest(None)
    if not watch.alive:
        return _decide_dead(watch, now)
    if watch.frozen_since is not None and now - watch.frozen_since >= FROZEN_AFTER:
        return Fence(f"stopped (frozen) for {now - watch.frozen_since:.1f} s")
    hangs_at = _hangs_at(watch, hang_after, start_timeout)
    if hangs_at is not None and now >= hangs_at:
        return Fence(f"no answer for {now - (watch.silent_since or now):.0f} s")
    if not watch.probing and now >= watch.next_probe:
        return Ask()
    times = [watch.next_probe] if not watch.probing else []
    if hangs_at is not None:
        times.append(hangs_at)
    if watch.frozen_since is not None:
        times.append(watch.frozen_since + FROZEN_AFTER)
    return Rest(min(times, default=None))


def _decide_dead(watch: Watch, now: float) -> Action:
    if not watch.clean:
        return Fence("its main process is gone")
    return Start() if now >= watch.failures.retry_at else Rest(watch.failures.retry_at)


def _hangs_at(watch: Watch, hang_after: float, start_timeout: float) -> float | None:
    if hang_after <= 0 or watch.silent_since is None or watch.silent < _SILENT_QUESTIONS:
        return None
    since = watch.silent_since
    if not watch.ready_once:
        since = max(since, watch.started + start_timeout)
    return since + hang_after


def next_probe(watch: Watch, now: float, *, member: bool, spread: float, start_timeout: float) -> float:
    """When to ask again after an answer.

    Args:
        watch: what is known of the workload.
        now: the time.
        member: it is a primary or a replica of something.
        spread: 0..1, keeps the workloads from asking all at once.
        start_timeout: seconds it may take to become ready for the first time.
    """
    if watch.good and not watch.trouble:
        return now + (PROBE_MEMBER if member else PROBE_READY) * (0.9 + 0.2 * spread)
    age = now - watch.started
    if watch.ready_once or age >= start_timeout:
        return now + PROBE_FAILING
    least, most = PROBE_STARTING
    return now + min(max(age / 50, least), most)


def with_answer(watch: Watch, asked: float, *, good: bool, answered: bool) -> Watch:
    """What is known after a question asked at `asked`: `answered` with anything, `good` as expected."""
    if answered:
        return replace(
            watch, good=good, ready_once=watch.ready_once or good, silent_since=None, silent=0, probing=False
        )
    since = asked if watch.silent_since is None else watch.silent_since
    return replace(watch, good=False, silent_since=since, silent=watch.silent + 1, probing=False)


def judge(watch: Watch, now: float, *, start_timeout: float) -> Health:
    """How it does, in one word."""
    if not watch.wanted:
        return Health.STOPPED
    if watch.trouble or watch.failures.looping:
        return Health.READY if watch.good and watch.alive and not watch.trouble else Health.FAILING
    if watch.alive:
        if watch.frozen_since is not None:
            return Health.FAILING
        if watch.good:
            return Health.READY
        young = not watch.ready_once and now - watch.started < start_timeout
        return Health.STARTING if young else Health.FAILING
    return Health.FAILING if watch.failures.count else Health.STARTING
