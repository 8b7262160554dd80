"""Environments for the planner's tests: what is wanted, what is seen, and random ones of both."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from asbuilt.observe.snapshot import Health, Seen, Snapshot
from asbuilt.plan.planner import Desired
from asbuilt.plan.simulate import apply, begin, found_done
from asbuilt.plan.workload import ConfigFile, Exchange, Setup, Workload

if TYPE_CHECKING:
    from asbuilt.plan.step import Plan, Step

RELOAD = Exchange("127.0.0.1", 1)


def workload(
    one: str,
    kind: str,
    needs: tuple[str, ...] = (),
    *,
    version: int = 1,
    files: int = 1,
    reload: bool = False,
    release: str | None = None,
) -> Workload:
    return Workload(
        id=one,
        node=one.partition(".")[0],
        kind=kind,
        engine=f"{kind} 1",
        argv=("run", str(version)),
        cwd="/",
        files=(ConfigFile("/conf", str(files)),),
        needs=needs,
        reload=RELOAD if reload else None,
        release=release,
    )


def setup(one: str, needs: tuple[str, ...] = (), key: str = "k1", title: str = "") -> Setup:
    return Setup(one, title or f"set up {one}", needs, key, satisfied=lambda: True, run=lambda: None)


def wanted(workloads: list[Workload], setups: list[Setup], *, release: str | None = None) -> Desired:
    return Desired({w.id: w for w in workloads}, {s.id: s for s in setups}, release, frozenset())


def production(
    *,
    apps: int = 3,
    replicas: int = 2,
    version: int = 1,
    release: str = "r1",
    balancer: bool = True,
    app_version: int = 1,
) -> Desired:
    """The production environment in small: the balancer's file names the app servers."""
    members = [f"db-{n}" for n in range(1, replicas + 2)]
    caches = [f"cache-{n}" for n in range(1, replicas + 2)]
    entry = ("lb-1",) if balancer else ()
    data = [
        workload("consensus-1", "consensus", version=version),
        workload("objects-1", "objects", version=version),
        *(
            workload(m, "database", ("consensus-1", "database.seed", "objects-1"), version=version)
            for m in members
        ),
        *(workload(c, "cache", version=version) for c in caches),
        *(workload(f"{c}.sentinel", "cache", (c,), version=version) for c in caches),
    ]
    front = [workload("lb-1", "load-balancer", version=1, files=apps, reload=True)] if balancer else []
    servers = [
        workload(
            f"app-{n}",
            "app",
            (*entry, "app.migrate", "objects.bucket", *members, *caches),
            version=app_version,
            release=release,
        )
        for n in range(1, apps + 1)
    ]
    setups = [
        setup("database.seed", title="initialise the database"),
        setup("objects.bucket", ("objects-1",), title="make the bucket"),
        setup("app.migrate", (*entry, *members), release, title=f"migrate to {release}"),
    ]
    return wanted([*data, *front, *servers], setups, release=release)


def done(desired: Desired) -> Desired:
    """`desired` where reality says that every setup is in place."""
    return replace(desired, satisfied=frozenset(desired.setups))


def running(desired: Desired, *, primaries: tuple[str, ...] = ("db-1", "cache-1")) -> Snapshot:
    """Everything of `desired` up and ready."""
    return Snapshot(
        {one: seen(w, primaries=primaries) for one, w in desired.workloads.items()},
        {one: s.key for one, s in desired.setups.items()},
        desired.release,
    )


def seen(w: Workload, *, health: Health = Health.READY, primaries: tuple[str, ...] = ()) -> Seen:
    role = None
    if w.kind in {"database", "cache"} and w.id == w.node:
        role = "primary" if w.id in primaries else "replica"
    alive = health in {Health.READY, Health.STARTING, Health.DRAINING}
    return Seen(
        w.id,
        w.node,
        w.kind,
        w.engine,
        w.digest,
        w.process_digest,
        health,
        role=role,
        pid=7 if alive else None,
        release=w.release,
        needs=w.needs,
    )


def with_health(snapshot: Snapshot, **changed: Health) -> Snapshot:
    """`snapshot` with some workloads in another state; `_` stands for `-`."""
    workloads = dict(snapshot.workloads)
    for name, health in changed.items():
        one = name.replace("_", "-")
        pid = None if health in {Health.STOPPED, Health.FAILING} else workloads[one].pid
        workloads[one] = replace(workloads[one], health=health, pid=pid)
    return replace(snapshot, workloads=workloads)


def executed(plan: Plan, snapshot: Snapshot, desired: Desired) -> tuple[Snapshot, Desired]:
    """Both after every step in the plan's order."""
    for step in plan.steps:
        snapshot, desired = apply(step, snapshot, desired), found_done(step, desired)
    return snapshot, desired


@dataclass(frozen=True)
class Moment:
    """What is there at one moment of a parallel execution."""

    event: str
    snapshot: Snapshot
    desired: Desired
    finished: bool
    """No step is under way."""


def moments(plan: Plan, snapshot: Snapshot, desired: Desired, seed: int) -> list[Moment]:
    """A random parallel execution: steps begin when their needs are finished, any number at once."""
    chance = random.Random(seed)
    waiting: dict[str, Step] = dict(plan.by_id)
    under_way: list[Step] = []
    finished: set[str] = set()
    found = [Moment("before", snapshot, desired, finished=True)]
    while waiting or under_way:
        free = [s for s in waiting.values() if finished.issuperset(s.needs)]
        if not free and not under_way:
            raise AssertionError(f"stuck: {sorted(waiting)}")
        if free and (not under_way or chance.random() < 0.6):
            step = chance.choice(free)
            del waiting[step.id]
            under_way.append(step)
            snapshot = begin(step, snapshot, desired)
            event = f"begin {step.id}"
        else:
            step = under_way.pop(chance.randrange(len(under_way)))
            finished.add(step.id)
            snapshot, desired = apply(step, snapshot, desired), found_done(step, desired)
            event = f"end {step.id}"
        found.append(Moment(event, snapshot, desired, finished=not under_way))
    return found


@dataclass(frozen=True)
class World:
    desired: Desired
    before: Snapshot


@st.composite
def productions(draw: st.DrawFn) -> World:
    """Any production environment that becomes any other one, with anything broken at the start."""

    def one(release: str) -> Desired:
        return production(
            apps=draw(st.integers(0, 4)),
            replicas=draw(st.integers(0, 2)),
            version=draw(st.integers(1, 2)),
            app_version=draw(st.integers(1, 2)),
            release=release,
            balancer=balancer,
        )

    balancer = draw(st.booleans())
    old, new = one("r1"), one(draw(st.sampled_from(["r1", "r2"])))
    number = draw(st.integers(1, 3))
    before = running(old, primaries=(f"db-{number}", f"cache-{number}"))
    return World(done(new) if draw(st.booleans()) else new, draw(damaged(before)))


@st.composite
def damaged(draw: st.DrawFn, snapshot: Snapshot) -> Snapshot:
    workloads = dict(snapshot.workloads)
    names = sorted(workloads)
    broken = draw(st.lists(st.sampled_from(names), max_size=4, unique=True)) if names else []
    for name in broken:
        health = draw(st.sampled_from([None, *Health]))
        if health is None:
            del workloads[name]
            continue
        pid = 7 if health in {Health.STARTING, Health.DRAINING, Health.READY} or draw(st.booleans()) else None
        workloads[name] = replace(workloads[name], health=health, pid=None if health == "stopped" else pid)
    setups = {k: v for k, v in snapshot.setups.items() if draw(st.booleans())}
    return replace(snapshot, workloads=workloads, setups=setups)


KINDS = ("app", "load-balancer", "database", "cache", "consensus", "objects", "other")


@st.composite
def tangles(draw: st.DrawFn) -> World:
    """Any needs that have no circle, any kinds, any state: far from every real environment."""
    size = draw(st.integers(1, 9))
    names = [f"n-{i}" for i in range(size)]
    kinds = {name: draw(st.sampled_from(KINDS)) for name in names}
    is_setup = {name: draw(st.integers(0, 4)) == 0 for name in names}

    def version(order: list[str], number: int) -> Desired:
        workloads: list[Workload] = []
        setups: list[Setup] = []
        for place, name in enumerate(order):
            needs = (
                tuple(draw(st.lists(st.sampled_from(order[:place]), max_size=3, unique=True)))
                if place
                else ()
            )
            if is_setup[name]:
                setups.append(setup(name, needs, f"k{draw(st.integers(1, number))}"))
                continue
            workloads.append(
                workload(
                    name,
                    kinds[name],
                    needs,
                    version=draw(st.integers(1, number)),
                    files=draw(st.integers(1, number)),
                    reload=kinds[name] == "load-balancer" or draw(st.booleans()),
                )
            )
        return wanted(workloads, setups)

    old = version([n for n in draw(st.permutations(names)) if draw(st.booleans())], 1)
    new = version([n for n in draw(st.permutations(names)) if draw(st.booleans())], 2)
    before = running(old, primaries=tuple(draw(st.lists(st.sampled_from(names), max_size=2))))
    return World(done(new) if draw(st.booleans()) else new, draw(damaged(before)))
