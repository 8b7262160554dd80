"""The process that makes a release: on its own, so that a closed terminal or a killed client changes nothing.

`asbuilt deploy` starts it and follows what it writes. Invariant: it holds the environment's lock while it
changes anything, and its last line says how it ended.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.operations.deploy import Outcome, deploy
from asbuilt.operations.goal import load_pending
from asbuilt.operations.order import Order
from asbuilt.operations.prepare import refuse_half_way
from asbuilt.operations.progress import silent
from asbuilt.operations.reading import FLEET, peek_facts, read_facts
from asbuilt.operations.runs import END, Writer, forget_asked, set_current
from asbuilt.operations.session import open_session
from asbuilt.plan.fleet import from_json
from asbuilt.spec.load import load
from asbuilt.targets.local.client import AgentClient, ensure_agent, find_agent
from asbuilt.values.errors import EXIT_DONE, EXIT_FAILED, AsbuiltError, RefusedError
from asbuilt.values.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOOK = 1.0
"""Seconds between two looks whether warm servers are still wanted."""


def main(words: list[str]) -> int:
    """Run one order: FILE NAME ENVIRONMENT HOME RUN ORDER."""
    file, name, environment, home, run, order = words
    stage = Stage(Path(file), name, environment, Path(home))
    writer = Writer(stage.root, run)
    what = Order(**json.loads(order))
    try:
        outcome = _run(stage, what, run, writer)
    except AsbuiltError as error:
        writer.write(END, exit=error.exit_status, verb=what.verb, error=error.to_json())
        return error.exit_status
    except Exception as error:  # whoever follows must be told, and the log gets the rest
        bug = AsbuiltError("BUG-001", f"asbuilt itself failed: {type(error).__name__}: {error}")
        writer.write(END, exit=EXIT_FAILED, verb=what.verb, error=bug.to_json())
        raise
    writer.write(END, exit=EXIT_DONE, verb=what.verb, outcome=asdict(outcome))
    _cool(stage)
    return EXIT_DONE


def _run(stage: Stage, order: Order, run: str, writer: Writer) -> Outcome:
    with open_session(stage, order.verb, writer.tell, patient=not order.why) as session:
        if order.verb == "scale":
            refuse_half_way(stage, session.journal)
        set_current(stage.root, run)
        forget_asked(stage.root)
        owner = session.held.client.owner
        writer.write("begin", verb=order.verb, order=asdict(order), owner=owner)
        client = _find_client(stage, under_way=load_pending(session.journal) is not None)
        return deploy(stage, order, session, client, writer.tell)


def _find_client(stage: Stage, *, under_way: bool) -> AgentClient:
    """The agent; one is started only to go on with something."""
    if find_agent(stage.root) is not None:
        return AgentClient(stage.root)  # started again, should it die on the way
    if under_way:
        return ensure_agent(stage.root)
    raise RefusedError(
        "DEPLOY-001",
        f"{stage.environment} is not up",
        hint=f"asbuilt up {stage.environment} comes first",
    )


def _cool(stage: Stage) -> None:
    """After their time, stop the servers of the release before, unless something else happened meanwhile."""
    fleet = from_json(read_facts(stage, None).get(FLEET))
    if fleet is None or fleet.candidate is None:
        return
    colours = (fleet.stable, fleet.candidate)
    until = time.monotonic() + load(stage.file).spec.environments[stage.environment].rollout.warm.seconds
    while time.monotonic() < until:
        time.sleep(min(_LOOK, max(0.0, until - time.monotonic())))
        facts = peek_facts(stage)
        if facts is not None and not _is_warm(facts, colours):
            return
    try:
        with open_session(stage, "scale", silent) as session:
            client = find_agent(stage.root)
            if client is not None and _is_warm(session.journal.facts(), colours):
                deploy(stage, Order(verb="cool"), session, client, silent)
    except AsbuiltError as error:
        sys.stderr.write(f"the servers of the release before stay: {error.what}\n")


def _is_warm(facts: Mapping[str, str], colours: tuple[str, str]) -> bool:
    """Whether still the first of two releases serves, and the second stands by."""
    fleet = from_json(facts.get(FLEET))
    return fleet is not None and (fleet.stable, fleet.candidate) == colours and not fleet.share


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
