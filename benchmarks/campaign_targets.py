"""What the campaign may hurt, and its sequence: a pure function of the seed.

Whom a fault hurts is found at its moment: the primary of that moment.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Kind
from asbuilt.operations.drill.ground import Ground
from asbuilt.targets.local.names import Paths
from asbuilt.targets.local.process import Ident, look_around, read_process
from asbuilt.targets.local.spawn import read_record
from asbuilt.targets.local.victims import find_agent_process, find_tree

if TYPE_CHECKING:
    from collections.abc import Iterable

KILLED, FROZEN, CHANGED = "killed", "frozen", "handed over"
PAIRS: Final = 0.4
"""Share of rounds with two faults."""
APART: Final = 6.0
"""Seconds after which the second comes at the latest."""
FREEZE: Final = (5.0, 40.0)
"""Seconds that something is frozen, unless it is fenced before; and that a killed agent stays away."""

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


def _first(root: Path, node: str) -> Iterable[Ident]:
    record = read_record(Paths(root).record(node))
    return (record.ident,) if record else ()


def _patroni(root: Path, node: str) -> Iterable[Ident]:
    """The child of the node's first process that has the same words."""
    found = []
    for first in _first(root, node):
        with suppress(OSError):
            words = _read_words(first.pid)
            found += [
                one.process.ident
                for pid, one in look_around().items()
                if one.process.ppid == first.pid and _read_words(pid) == words
            ]
    return found


def _read_words(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


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
    Target("database primary's Patroni", 3, _primary, _patroni),
    Target("database primary's first process", 1, _primary, _first),
    Target("database primary's node", 3, _primary),
    Target("database replica's postmaster", 1.5, _replica, _postmaster),
    Target("database replica's Patroni", 1.5, _replica, _patroni),
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
BY_NAME: Final = {(one.name, how): one for one in (*TARGETS, *CHANGES) for how in one.hows}


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
    seconds = chance.uniform(*FREEZE)
    return Shot(target.name, how, round(seconds, 1), round(chance.uniform(0.0, apart), 1))
