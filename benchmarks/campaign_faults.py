"""Does the faults of one round of the campaign, and takes them away, as asbuilt's own drills do it."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final, Self

from campaign_targets import BY_NAME, FROZEN, Shot
from common import Environment

from asbuilt.operations.drill.faults import count_hurt, do, is_undone, undo
from asbuilt.operations.drill.ground import Ground
from asbuilt.operations.drill.record import FaultRecord, State
from asbuilt.plan.fault import Fault, How, is_lasting
from asbuilt.targets.local.process import Ident, is_alive, is_stopped
from asbuilt.values.errors import AsbuiltError

_LEADER_WITHIN: Final = 30.0
_ENDS_WITHIN: Final = 200.0


@dataclass
class Done:
    """A fault that was done.

    Args:
        shot: which.
        nodes: whom it hurt.
        moment: when, by the monotonic clock.
        record: how it is undone; None for a planned change.
        change: the command that changes the primary.
        proven: its processes were seen dead or frozen, or another node leads.
        over: nothing of it is left to be undone.
        said: what the command said.
    """

    shot: Shot
    nodes: tuple[str, ...]
    moment: float
    record: FaultRecord | None = None
    change: subprocess.Popen[str] | None = None
    proven: bool = False
    over: bool = False
    said: str = ""

    @property
    def words(self) -> str:
        """For people."""
        said = f" ({self.said})" if self.said else ""
        return f"{self.shot.target} {', '.join(self.nodes)} {self.shot.how}{said}"


@dataclass
class Faults:
    """Those of one round. Leaving the block takes away whatever is still on."""

    ground: Ground
    ours: Environment
    chance: Random
    done: list[Done] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.done:
            self._end(one)

    def shoot(self, shot: Shot) -> Done:
        """Do it now, to whoever is its target now; while there is none, that is waited for."""
        target = BY_NAME[shot.target, shot.how]
        deadline = time.monotonic() + _LEADER_WITHIN
        while not (nodes := target.nodes(self.ground, self.chance)) and time.monotonic() < deadline:
            time.sleep(0.02)
        one = Done(shot, tuple(nodes), time.monotonic())
        self.done.append(one)
        if not nodes:
            one.over = True
        elif target.parts is None:
            what = "cache" if shot.target.startswith("cache") else "database"
            one.change = self.ours.begin("failover", self.ours.name, what, "--json")
        else:
            victims = {process for node in nodes for process in target.parts(self.ground.root, node)}
            self._break(one, tuple(sorted(filter(is_alive, victims), key=lambda process: process.pid)))
        return one

    def _break(self, one: Done, victims: tuple[Ident, ...]) -> None:
        how = How.FREEZE if one.shot.how == FROZEN else How.KILL
        if how is How.KILL and one.shot.target == "agent":
            how = How.KILL_AGENT
        fault = Fault(how, one.nodes, one.shot.seconds)
        one.record = FaultRecord("campaign", fault, State.ON, victims=victims)
        one.moment = time.monotonic()
        do(self.ground.root, fault, victims)
        one.proven = 0 < len(victims) == count_hurt(fault, victims)
        one.over = not is_lasting(fault)

    def are_over(self) -> bool:
        """Whether nothing is left to be undone; undoes what has lasted long enough."""
        for one in self.done:
            if not one.over:
                self._tend(one)
        return all(one.over for one in self.done)

    def is_time(self, began: float, after: float) -> bool:
        """Whether so many seconds have passed; undoes meanwhile what has lasted long enough."""
        self.are_over()
        return time.monotonic() - began >= after

    def _tend(self, one: Done) -> None:
        if one.change is not None:
            if one.change.poll() is not None:
                self._hear(one)
            elif time.monotonic() - one.moment > _ENDS_WITHIN:
                self._end(one)
        elif one.record is not None:
            fenced = one.record.fault.how is How.FREEZE and not any(map(is_stopped, one.record.victims))
            if fenced or time.monotonic() - one.moment > one.shot.seconds:
                self._end(one)

    def _hear(self, one: Done) -> None:
        """What came of a planned change: it may be refused while something else is broken."""
        if one.change is None or one.over:
            return
        out, err = one.change.communicate()
        one.over = True
        if one.change.returncode == 0:
            told = json.loads(out)
            one.proven = told["before"] != told["primary"]
            one.said = f"{told['primary']} after {told['seconds']} s"
        else:
            why = next((line for line in err.splitlines() if line.startswith("error")), err[-200:])
            one.said = one.said or f"exit status {one.change.returncode}: {why}"

    def _end(self, one: Done) -> None:
        if one.change is not None:
            if one.change.poll() is None:
                one.change.kill()
                one.said = f"did not end within {_ENDS_WITHIN:g} s"
            self._hear(one)
        elif one.record is not None and not one.over:
            with suppress(AsbuiltError):
                undo(self.ground.root, one.record)
            one.over = is_undone(self.ground.root, one.record)
