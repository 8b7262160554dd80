"""Doing and undoing a fault. Both may be done twice; undoing needs nothing but the record."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from asbuilt.plan.fault import Fault, How
from asbuilt.targets.local.client import AgentClient, ensure_agent, find_agent
from asbuilt.targets.local.process import Ident, is_alive, is_stopped, send_signal
from asbuilt.targets.local.victims import find_agent_process, find_tree
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from asbuilt.operations.drill.record import FaultRecord

_HOLDING: Final = frozenset({How.HOLD, How.KILL_HOLD})
_SEEN_WITHIN: Final = 5.0


def find_victims(root: Path, fault: Fault) -> tuple[Ident, ...]:
    """The processes that it hurts."""
    if fault.how is How.KILL_AGENT:
        agent = find_agent_process(root)
        return (agent,) if agent else ()
    return tuple(sorted({one for name in fault.workloads for one in find_tree(root, name)}, key=_by_pid))


def _by_pid(one: Ident) -> tuple[int, int]:
    return one.pid, one.start


def do(root: Path, fault: Fault, victims: Iterable[Ident]) -> None:
    """Break it now."""
    number = {How.FREEZE: signal.SIGSTOP, How.HOLD: None}.get(fault.how, signal.SIGKILL)
    if number is not None:
        for one in victims:
            send_signal(one, number)
    if fault.how in _HOLDING:
        client = AgentClient(root, revive=False)
        with ThreadPoolExecutor(max(1, len(fault.workloads))) as pool:
            list(pool.map(lambda name: client.hold(name, _epoch(client)), fault.workloads))


def count_hurt(fault: Fault, victims: Iterable[Ident], within: float = _SEEN_WITHIN) -> int:
    """How many of the victims are seen to be dead, or frozen: the evidence that the fault was on."""
    found, until = tuple(victims), time.monotonic() + within
    while True:
        hurt = sum(_is_hurt(fault, one) for one in found)
        if hurt == len(found) or time.monotonic() > until:
            return hurt
        time.sleep(0.02)


def _is_hurt(fault: Fault, one: Ident) -> bool:
    # a frozen process may have been fenced by now
    return not is_alive(one) or (fault.how is How.FREEZE and is_stopped(one))


def undo(root: Path, record: FaultRecord) -> None:
    """Take it away. Raises AsbuiltError when the agent cannot be told."""
    fault = record.fault
    if fault.how is How.FREEZE:
        for one in record.victims:
            send_signal(one, signal.SIGCONT)
    if fault.how is How.KILL_AGENT:
        ensure_agent(root)
    if fault.how in _HOLDING:
        client = ensure_agent(root)
        for name in fault.workloads:
            client.release(name, _epoch(client))


def is_undone(root: Path, record: FaultRecord) -> bool:
    """Whether nothing of it is left."""
    fault = record.fault
    if fault.how is How.FREEZE:
        return not any(is_stopped(one) for one in record.victims)
    if fault.how is How.KILL:
        return True
    client = find_agent(root)
    if client is None:
        return False
    try:
        seen = client.raw_status()["workloads"]
    except AsbuiltError:
        return False
    return not any(seen[name]["held"] for name in fault.workloads if name in seen)


def _epoch(client: AgentClient) -> int:
    """The epoch of the operation in charge: a fault is part of it."""
    return client.snapshot().epoch
