"""Rules that hold at every moment of an operation, as code: checked after each step, simulated and real.

Invariant: a rule speaks of what the operation did, so each compares the snapshot taken before the operation
with one taken during it; what was broken before is not held against it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asbuilt.observe.snapshot import Health
from asbuilt.plan.ordering import APP, BALANCER
from asbuilt.plan.step import natural
from asbuilt.plan.stopping import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.observe.snapshot import Seen, Snapshot
    from asbuilt.plan.planner import Desired


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that does not hold.

    Args:
        rule: stable name: `serving`, `one-at-a-time`, `primary-last`, `needs-first`, `needed`.
        subject: the workload or kind it is about.
        what: one sentence.
    """

    rule: str
    subject: str
    what: str


def check(before: Snapshot, after: Snapshot, desired: Desired) -> tuple[Violation, ...]:
    """Every rule broken between `before` (when the operation began) and `after` (now), sorted."""
    found = [
        *_serving(before, after, desired),
        *_one_at_a_time(before, after, desired),
        *_primary_last(before, after, desired),
        *_needs_first(before, after, desired),
        *_needed(before, after, desired),
    ]
    return tuple(sorted(found, key=lambda v: (v.rule, natural(v.subject), v.what)))


def _is_ready(seen: Seen | None) -> bool:
    return seen is not None and seen.health is Health.READY


def _in_rotation(before: Snapshot, after: Snapshot, desired: Desired) -> set[str] | None:
    """App servers that the balancer sends traffic to; None when its own restart is part of the operation.

    It knows those of `before` until it runs what is wanted, and those that are wanted from then on. One that
    ran what is wanted already (an interrupted plan started it) may know either. Without a balancer each app
    server is its own way in.
    """
    wanted = {one for one, w in desired.workloads.items() if w.kind == APP}
    known = {one for one, s in before.workloads.items() if s.kind == APP}
    balancers = {one: s for one, s in before.workloads.items() if s.kind == BALANCER}
    if not balancers:
        return wanted | known
    reached: set[str] = set()
    for one, there in balancers.items():
        workload, now = desired.workloads.get(one), after.workloads.get(one)
        if workload is None or not _is_ready(there) or workload.process_digest != there.process_digest:
            return None
        if workload.reload is None and workload.digest != there.digest:
            return None
        if _is_ready(now) and now is not None:
            if there.digest == workload.digest:
                reached |= wanted | known
            else:
                reached |= wanted if now.digest == workload.digest else known
    return reached


def _serving(before: Snapshot, after: Snapshot, desired: Desired) -> Iterator[Violation]:
    """At least one app server serves all the time, when at least two did before and one is wanted."""
    ready = [one for one, s in before.workloads.items() if s.kind == APP and _is_ready(s)]
    if len(ready) < 2 or not any(w.kind == APP for w in desired.workloads.values()):  # noqa: PLR2004 - the rule
        return
    reached = _in_rotation(before, after, desired)
    if reached is not None and not any(_is_ready(after.workloads.get(one)) for one in reached):
        yield Violation("serving", APP, f"no app server serves; before, {len(ready)} did")


def _one_at_a_time(before: Snapshot, after: Snapshot, desired: Desired) -> Iterator[Violation]:
    """Of the members of a kind that were ready and are wanted, at most one is not ready."""
    down: dict[str, list[str]] = defaultdict(list)
    for one, seen in before.workloads.items():
        if one in desired.workloads and _is_ready(seen) and not _is_ready(after.workloads.get(one)):
            down[seen.kind].append(one)
    for kind, members in down.items():
        if len(members) > 1:
            names = ", ".join(sorted(members, key=natural))
            yield Violation("one-at-a-time", kind, f"{names} are down at the same time")


def _primary_last(before: Snapshot, after: Snapshot, desired: Desired) -> Iterator[Violation]:
    """A primary that was ready and is wanted is not taken down while it has replicas and none is ready."""
    for one, seen in before.workloads.items():
        if seen.role != "primary" or one not in desired.workloads or not _is_ready(seen):
            continue
        if _is_ready(after.workloads.get(one)):
            continue
        replicas = [
            other
            for other, there in before.workloads.items()
            if there.kind == seen.kind and there.role == "replica" and other in desired.workloads
        ]
        if replicas and not any(_is_ready(after.workloads.get(other)) for other in replicas):
            yield Violation("primary-last", one, "it is down while none of its replicas is ready")


def _needs_first(before: Snapshot, after: Snapshot, desired: Desired) -> Iterator[Violation]:
    """What is starting now, and was not before, has its needs ready and its setups done."""
    for one, seen in after.workloads.items():
        workload, there = desired.workloads.get(one), before.workloads.get(one)
        if workload is None or seen.health is not Health.STARTING:
            continue
        if there is not None and there.health is Health.STARTING and there.digest == seen.digest:
            continue
        for need in workload.needs:
            setup = desired.setups.get(need)
            if setup is not None:
                if setup.remembered and after.setups.get(need) != setup.key:
                    yield Violation("needs-first", one, f"it starts before {need} was done")
            elif not _is_ready(after.workloads.get(need)):
                yield Violation("needs-first", one, f"it starts before {need} is ready")


def _needed(before: Snapshot, after: Snapshot, desired: Desired) -> Iterator[Violation]:
    """Nothing is stopped for good that another leaver, or one that has to move on yet, still needs."""
    users: dict[str, list[str]] = defaultdict(list)
    for one, seen in after.workloads.items():
        workload = desired.workloads.get(one)
        if running(seen) and (workload is None or workload.digest != seen.digest):
            for need in seen.needs:
                users[need].append(one)
    for one, seen in before.workloads.items():
        now = after.workloads.get(one)
        if one in desired.workloads or not running(seen) or (now is not None and running(now)):
            continue
        for user in users[one]:
            if after.workloads[user].kind != seen.kind:
                yield Violation("needed", one, f"it was stopped while {user} needs it")
