"""`down`: stop everything in the order that loses nothing, and prove that nothing is left."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from asbuilt.observe.snapshot import Snapshot
from asbuilt.operations.acts import stop_act
from asbuilt.operations.execute import run_plan
from asbuilt.operations.session import open_session
from asbuilt.operations.status import DECISION, SUMMARY
from asbuilt.plan.planner import plan_down
from asbuilt.plan.render import render_json
from asbuilt.plan.step import Plan, StepKind
from asbuilt.targets.local.client import ensure_agent, find_agent
from asbuilt.targets.local.leftovers import leftovers, remove_empty_groups
from asbuilt.targets.local.unwatched import read_unwatched
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.operations.progress import Tell
    from asbuilt.values.stage import Stage

_LET_GO_WITHIN = 3.0
"""Seconds until the kernel must have let go of what has ended."""


def plan_stop(stage: Stage) -> Plan:
    """What `down` would stop."""
    agent = find_agent(stage.root) if stage.root.is_dir() else None
    return plan_down(agent.snapshot() if agent else Snapshot())


def stop_environment(stage: Stage, tell: Tell) -> int:
    """Stop all that runs; the data stays. Returns the number of steps.

    Raises AsbuiltError DOWN-001 naming whatever is left.
    """
    if not stage.root.is_dir():
        return 0
    if not _anything_left(stage):
        # No agent is needed to stop nothing; its addresses may be another environment's by now.
        return 0
    with open_session(stage, "down", tell) as session:
        # Also after a crash of the agent: only an agent can find and end what it once started.
        client = ensure_agent(stage.root)
        session.lift_epoch(client)
        steps = plan_down(client.snapshot())
        done = 0
        if not steps.empty:
            with session.operation(render_json(steps)) as operation:
                act = stop_act(client, session.epoch)
                done = run_plan(steps, {StepKind.STOP: act}, session.watch(operation), tell)
        client.shutdown(session.epoch)
        for name in (SUMMARY, DECISION):
            (stage.root / name).unlink(missing_ok=True)
    deadline = time.monotonic() + _LET_GO_WITHIN
    while (left := leftovers(stage.root)) and time.monotonic() < deadline:
        remove_empty_groups(stage.root)
        time.sleep(0.02)
    if left:
        raise AsbuiltError(
            "DOWN-001",
            "something of the environment is still there",
            where=str(stage.root),
            evidence=left,
            hint=f"run asbuilt down {stage.environment} again",
        )
    return done


def _anything_left(stage: Stage) -> bool:
    """Whether something runs, or is on record as running."""
    root = stage.root
    return find_agent(root) is not None or bool(read_unwatched(root).workloads) or bool(leftovers(root))


def delete_data(stage: Stage) -> None:
    """Delete everything the stopped environment stored. Read-only builds are made writable first."""
    if not stage.root.is_dir():
        return
    for folder in stage.root.glob("releases/*"):
        if folder.is_dir():
            make_writable(folder)
    shutil.rmtree(stage.root)


def make_writable(folder: Path) -> None:
    """Give the owner of a read-only tree the right to delete it."""
    for one in (folder, *folder.rglob("*")):
        if one.is_dir() and not one.is_symlink():
            one.chmod(0o700)
