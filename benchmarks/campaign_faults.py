"""The faults of the campaign: a seeded sequence of them, whom each hurts, and doing them.

A sequence is a pure function of its seed. Whom a fault hurts is found at its moment: the primary of that
moment. They are done and undone as asbuilt's own drills do it.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final, Self

from common import Environment

from asbuilt.graph.model import Kind
from asbuilt.operations.drill.faults import count_hurt, do, is_undone, undo
from asbuilt.operations.drill.ground import Ground
from asbuilt.operations.drill.record import FaultRecord, State
from asbuilt.plan.fault import Fault, How, is_lasting
from asbuilt.targets.local.names import Paths
from asbuilt.targets.local.process import Ident, is_alive, is_stopped, read_process
from asbuilt.targets.local.spawn import read_record
from asbuilt.targets.local.victims import find_agent_process, find_tree
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

KILLED, FROZEN, CHANGED = "killed", "frozen", "handed over"
PAIRS: Final = 0.4
"""Share of rounds with two faults."""
APART: Final = 6.0
"""Seconds after which the second comes at the latest."""
FREEZE: Final = (5.0, 40.0)
"""Seconds that something is frozen, unless it is fenced before."""
AWAY: Final = (2.0, 12.0)
"""Seconds until somebody's next command brings a killed agent back."""
_LEADER_WITHIN: Final = 30.0
_ENDS_WITHIN: Final = 200.0

Nodes = Callable[[Ground, Random], list[str]]
Parts = Callable[["Path", str], "Iterable[Ident]"]


@dataclass(frozen=True, slots=True)
class Target:
    """Something that can be hurt.

    Args:
        name: in the table.
        weight: how often, beside the others.
        nodes: which workloads it is at that moment; empty while there is none.
        parts: the processes of one of them that are hurt; None for a planned change of the primary.
        hows: in which ways.
    """

    name: str
    weight: float
    nodes: Nodes
    parts: Parts | None = find_tree
    hows: tuple[str, ...] = (KILLED, FROZEN)


@dataclass(frozen=True, slots=True)
class Shot:
    """One fault of the sequence: `after` seconds from the first of its round, for `seconds`."""

    target: str
    how: str
    seconds: float
    after: float = 0.0

    @property
    def kind(self) -> str:
        """For the table."""
        return f"{self.target} {self.how}"


def _postmaster(root: Path, node: str) -> Iterable[Ident]:
    with suppress(OSError, ValueError, IndexError):
        pid = int((root / "nodes" / node / "data" / "postmaster.pid").read_text().split()[0])
        process = read_process(pid)
        return (process.ident,) if process else ()
    return ()


def _supervisor(root: Path, node: str) -> Iterable[Ident]:
    record = read_record(Paths(root).record(node))
    return (record.ident,) if record else ()


def _agent(root: Path, _: str) -> Iterable[Ident]:
    agent = find_agent_process(root)
    return (agent,) if agent else ()


def _primary(ground: Ground, _: Random) -> list[str]:
    leader = ground.admin.leader(timeout=1.0)
    return [leader] if leader else []


def _replica(ground: Ground, chance: Random) -> list[str]:
    leader = ground.admin.leader(timeout=1.0)
    others = [one for one in ground.nodes(Kind.DATABASE) if one != leader]
    return [chance.choice(others)] if leader else []


def _cache(role: str) -> Nodes:
    def find(ground: Ground, chance: Random) -> list[str]:
        found = [one for one in ground.nodes(Kind.CACHE) if ground.cache_role(one) == role]
        return [chance.choice(found)] if found else []

    return find


def _apps(ground: Ground, _: Random) -> list[str]:
    return sorted(node["id"] for node in ground.status()["nodes"] if node["kind"] == Kind.APP)


def _app(ground: Ground, chance: Random) -> list[str]:
    return [chance.choice(_apps(ground, chance))]


def _named(kind: Kind, suffix: str = "") -> Nodes:
    return lambda ground, chance: [f"{chance.choice(ground.nodes(kind))}{suffix}"]


TARGETS: Final = (
    Target("database primary's postmaster", 3, _primary, _postmaster),
    Target("database primary's Patroni", 3, _primary, _supervisor),
    Target("database primary's node", 3, _primary),
    Target("database replica's postmaster", 1.5, _replica, _postmaster),
    Target("database replica's Patroni", 1.5, _replica, _supervisor),
    Target("database replica's node", 1.5, _replica),
    Target("consensus store", 1.5, _named(Kind.CONSENSUS)),
    Target("cache primary", 1.5, _cache("master")),
    Target("cache replica", 1, _cache("slave")),
    Target("sentinel", 1, _named(Kind.CACHE, ".sentinel")),
    Target("load balancer", 1.5, _named(Kind.LOAD_BALANCER)),
    Target("autoscaler", 1, _named(Kind.LOAD_BALANCER, ".scaler")),
    Target("app server", 1.5, _app),
    Target("all app servers", 1.5, _apps, hows=(KILLED,)),
    Target("object store", 1, _named(Kind.OBJECTS)),
    Target("archiver", 1.5, _named(Kind.BACKUP)),
    Target("agent", 1.5, lambda *_: ["agent"], _agent),
)
CHANGES: Final = (
    Target("database primary", 6, _primary, None, (CHANGED,)),
    Target("cache primary", 3, _cache("master"), None, (CHANGED,)),
)
"""Planned: only as part of a pair, for alone they are no fault."""
_BY_NAME: Final = {(one.name, how): one for one in (*TARGETS, *CHANGES) for how in one.hows}


def draw(seed: int, index: int) -> tuple[Shot, ...]:
    """The faults of one round, whatever came of those before it. Pure."""
    chance = Random(f"{seed}:{index}")
    pair = chance.random() < PAIRS
    shots = [_draw(chance, (*TARGETS, *CHANGES) if pair else TARGETS, 0.0)]
    if pair:
        shots.append(_draw(chance, TARGETS if shots[0].how == CHANGED else (*TARGETS, *CHANGES), APART))
    return tuple(shots)


def _draw(chance: Random, targets: tuple[Target, ...], apart: float) -> Shot:
    target = chance.choices(targets, [one.weight for one in targets])[0]
    how = chance.choice(target.hows)
    away = target.name == "agent" and how == KILLED
    seconds = chance.uniform(*(AWAY if away else FREEZE))
    return Shot(target.name, how, round(seconds, 1), round(chance.uniform(0.0, apart), 1))


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
        target = _BY_NAME[shot.target, shot.how]
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
