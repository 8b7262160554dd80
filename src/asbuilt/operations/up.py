"""`up`: make what runs equal to what is written, and prove it by a request through the front door.

Everything is decided by the plan; this only puts the pieces in order: lock, prepare, look, plan, confirm,
execute, verify, remember. Run again after any crash it does what is left.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from asbuilt.graph.model import Kind
from asbuilt.observe.snapshot import Snapshot
from asbuilt.operations.acts import Acts
from asbuilt.operations.entry import reachable, verify_entry
from asbuilt.operations.execute import run_plan
from asbuilt.operations.prepare import Prepared, make_root, prepare, refuse_half_way
from asbuilt.operations.progress import Event, Tell
from asbuilt.operations.prune import prune_builds
from asbuilt.operations.reading import FLEET
from asbuilt.operations.session import Session, open_session
from asbuilt.operations.status import SUMMARY
from asbuilt.plan.fleet import to_json
from asbuilt.plan.planner import plan
from asbuilt.plan.render import render_json
from asbuilt.record.releases import Releases
from asbuilt.targets.local.client import AgentClient, begin_agent, ensure_agent, find_agent
from asbuilt.targets.local.files import write_atomically
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import Popen

    from asbuilt.plan.step import Plan
    from asbuilt.values.stage import Stage

_PLACES = 4
"""How often addresses are chosen, when others choose the same at the same moment."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `up` did: steps run, the release that takes traffic, the way in, seconds, facts to know."""

    steps: int
    release: str
    entrypoints: dict[str, str]
    seconds: float
    notes: tuple[str, ...]


def plan_up(stage: Stage, tell: Tell) -> tuple[Plan, tuple[str, ...]]:
    """What `up` would do now; nothing is written or started."""
    refuse_half_way(stage, None)
    prepared = prepare(stage, touch=False, tell=tell)
    return plan(prepared.desired, _look(stage, prepared)), prepared.notes


def _look(stage: Stage, prepared: Prepared) -> Snapshot:
    agent = find_agent(stage.root) if stage.root.is_dir() else None
    seen = agent.snapshot() if agent else Snapshot()
    return replace(seen, setups=prepared.setups_done)


def realize(stage: Stage, tell: Tell, confirm: Callable[[Plan], None]) -> Outcome:
    """Make it so. `confirm` is asked before steps that take data out of service and raises to refuse."""
    began = time.monotonic()
    make_root(stage)
    with open_session(stage, "up", tell) as session:
        refuse_half_way(stage, session.journal)
        prepared, client = _settle(stage, session, tell)
        session.lift_epoch(client)
        session.journal.remember_facts({FLEET: to_json(prepared.fleet)})
        steps = plan(prepared.desired, replace(client.snapshot(), setups=prepared.setups_done))
        if steps.destructive:
            confirm(steps)
        done = 0
        if not steps.empty:
            acts = Acts(prepared, client, session.epoch, session.journal.remember_setup)
            tell(Event("note", "", f"{len(steps.steps)} steps to do"))
            done = _run(session, steps, acts, tell)
        verify_entry(prepared.site, prepared.architecture, tell, wait=done > 0)
        release = prepared.release
        releases = Releases(session.journal)
        releases.mark_active(release)
        prune_builds(stage.root / "releases", releases.all(), release, client.snapshot())
        remember_summary(prepared)
        entrypoints = find_entrypoints(prepared)
    return Outcome(done, release, entrypoints, time.monotonic() - began, prepared.notes)


def _settle(stage: Stage, session: Session, tell: Tell) -> tuple[Prepared, AgentClient]:
    """Prepare while the agent starts. Refused, it leaves nothing behind that was not there."""
    begun = begin_agent(stage.root)
    try:
        return _take_place(stage, session, tell, begun)
    except BaseException:
        if begun is not None:
            begun.terminate()
            begun.wait()
        raise


def _take_place(
    stage: Stage, session: Session, tell: Tell, begun: Popen[bytes] | None
) -> tuple[Prepared, AgentClient]:
    """Prepare, and hold the addresses by an agent; other addresses when another user was quicker."""
    for chances in reversed(range(_PLACES)):
        prepared = prepare(stage, touch=True, tell=tell, journal=session.journal)
        try:
            client = ensure_agent(stage.root, begun)
            client.claim()
        except AsbuiltError as error:
            if error.code != "LOCAL-013" or not chances:
                raise
            tell(Event("note", "", "another environment took the addresses just now: taking others"))
        else:
            return prepared, client
    raise AssertionError("not reached")


def _run(session: Session, steps: Plan, acts: Acts, tell: Tell) -> int:
    with session.operation(render_json(steps)) as operation:
        return run_plan(steps, acts.table(), session.watch(operation), tell)


def find_entrypoints(prepared: Prepared) -> dict[str, str]:
    """The addresses users open, by scheme."""
    site = prepared.site
    entry = site.entry
    if prepared.architecture.of(Kind.LOAD_BALANCER):
        host = reachable(entry.address)
        return {"https": f"https://{host}:{entry.https_port}", "http": f"http://{host}:{entry.http_port}"}
    return {"http": f"http://{site.addresses['app-1']}:{site.ports['app-1']}"}


def remember_summary(prepared: Prepared) -> None:
    """Write down what `status` cannot learn from a process."""
    path = prepared.stage.root / SUMMARY
    summary: dict[str, Any] = {
        "schema": 1,
        "name": prepared.stage.name,
        "environment": prepared.stage.environment,
        "target": prepared.architecture.spec.target,
        "release": prepared.release,
        "entrypoints": find_entrypoints(prepared),
        "notes": list(prepared.notes),
        "static": [
            {
                "id": node.id,
                "kind": str(node.kind),
                "zone": str(node.zone),
                "folder": "files",
                "engine": "directory",
            }
            for node in prepared.architecture.of(Kind.FILES)
        ],
    }
    text = json.dumps(summary, indent=1)
    if not path.exists() or path.read_text() != text:
        write_atomically(path, text)
