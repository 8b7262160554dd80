"""Executes a plan: as many steps at once as their needs allow, each journaled before and after.

Invariant: before a step acts its intent is on disk; a step that may have run is idempotent; a lost lock stops
everything. Killed at any point, the next plan is made from reality and goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from asbuilt.operations.progress import Event, Tell

if TYPE_CHECKING:
    from asbuilt.plan.step import Plan, Step

Act = Callable[["Step", Callable[[str], None]], None]
"""Does one step; the second argument tells what is being waited for."""

_AT_ONCE = 32


class Watch:
    """What the executor asks and tells around each step; the journal and the lock are behind it."""

    def __init__(
        self,
        intend: Callable[[Step], None],
        complete: Callable[[Step, str], None],
        still_ours: Callable[[], None],
    ) -> None:
        self.intend = intend
        self.complete = complete
        self.still_ours = still_ours


def run_plan(plan: Plan, acts: Mapping[str, Act], watch: Watch, tell: Tell) -> int:
    """Run all steps; returns how many ran.

    `acts` maps a step kind to what does it. The first failure stops new steps from starting, waits for the
    ones under way and is raised.
    """
    waiting: dict[str, set[str]] = {}
    steps = {step.id: step for step in plan.steps}
    followers: dict[str, list[str]] = {step.id: [] for step in plan.steps}
    for step in plan.steps:
        waiting[step.id] = {need for need in step.needs if need in steps}
        for need in waiting[step.id]:
            followers[need].append(step.id)
    under_way: dict[Future[None], Step] = {}
    done = 0
    failure: BaseException | None = None
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="step")
    try:
        while under_way or (waiting and failure is None):
            if failure is None:
                for step_id in [s for s, needs in waiting.items() if not needs]:
                    del waiting[step_id]
                    step = steps[step_id]
                    under_way[pool.submit(_run_step, step, acts[step.kind], watch, tell)] = step
            finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in finished:
                step = under_way.pop(future)
                error = future.exception()
                if error is not None:
                    failure = failure or error
                    continue
                done += 1
                for follower in followers[step.id]:
                    waiting[follower].discard(step.id)
    finally:
        # After an interrupt nobody waits for the threads: what they do is idempotent, the process may end.
        pool.shutdown(wait=False, cancel_futures=True)
    if failure is not None:
        raise failure
    return done


def _run_step(step: Step, act: Act, watch: Watch, tell: Tell) -> None:
    began = time.monotonic()
    watch.still_ours()
    watch.intend(step)
    tell(Event("started", step.subject, step.title))

    def waiting_for(what: str) -> None:
        tell(Event("waiting", step.subject, what, time.monotonic() - began))

    try:
        act(step, waiting_for)
    except BaseException as error:
        watch.complete(step, f"failed: {error}")
        tell(Event("failed", step.subject, str(error), time.monotonic() - began))
        raise
    watch.complete(step, "done")
    tell(Event("done", step.subject, step.title, time.monotonic() - began))
