"""From a spec to everything an operation needs: architecture, place, programs, release, wanted workloads.

With `touch` False nothing is written and nothing is started, so that `plan` and `--dry-run` are exactly what
`up` would do, seen from outside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.engines.app.config import BUILD
from asbuilt.engines.app.engine import check_program
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.graph.model import Architecture
from asbuilt.operations.build import Build
from asbuilt.operations.choose import find_release, find_standing, remake_release
from asbuilt.operations.gather import Gathered, gather
from asbuilt.operations.progress import Event, Tell
from asbuilt.operations.reading import (
    FLEET,
    IN_PLACE,
    LOAD,
    ROLLOUT,
    SCALE,
    SIDECAR,
    read_facts,
    read_journal,
    read_setups,
)
from asbuilt.plan.fleet import Fleet, from_json
from asbuilt.plan.fleet import settle as settle_fleet
from asbuilt.plan.planner import Desired
from asbuilt.plan.site import Release, Site
from asbuilt.plan.workload import Setup
from asbuilt.record.releases import Releases
from asbuilt.spec.load import Loaded
from asbuilt.targets.local.place import Place, settle
from asbuilt.values.errors import AsbuiltError, RefusedError
from asbuilt.values.stage import Stage

if TYPE_CHECKING:
    from asbuilt.record.journal import Journal
    from asbuilt.spec.schema import Environment


@dataclass(frozen=True, slots=True)
class Prepared:
    """What an operation works with.

    Args:
        stage: the environment.
        loaded: the spec.
        architecture: its graph.
        place: addresses and ports.
        site: the place as engines see it.
        desired: what should run and be done.
        runner: runs commands.
        notes: facts the owner should know (clamps, what is not supported yet).
        setups_done: what the journal remembers as done.
        release: id of the release that should take traffic.
        fleet: the app servers.
    """

    stage: Stage
    loaded: Loaded
    architecture: Architecture
    place: Place
    site: Site
    desired: Desired
    runner: Runner
    notes: tuple[str, ...]
    setups_done: Mapping[str, str]
    release: str
    fleet: Fleet


def prepare(stage: Stage, *, touch: bool, tell: Tell, journal: Journal | None = None) -> Prepared:
    """Work all out for `up`. `touch`: the place is settled, secrets are kept, a release gets its number."""
    gathered = gather(stage, touch=touch, tell=tell)
    made, release = find_release(gathered, journal)
    facts = read_facts(stage, journal)
    count = count_servers(gathered.environment, facts)
    before = from_json(facts.get(FLEET))
    standing = find_standing(gathered, journal, release.id, before)
    if standing is not None:
        words = f"the folder holds {release.id}, which was taken back: {standing.id} stays"
        tell(Event("note", "", f"{words}; asbuilt deploy {stage.environment} tries it again"))
    serving = standing or release
    fleet = settle_fleet(before, count, serving.id)
    by_id = {serving.id: serving, **remake_warm(gathered, journal, fleet)}
    offer = Offer(serving, None if standing else made, by_id, forward=standing is None)
    return arrange(gathered, fleet, offer, journal)


def remake_warm(gathered: Gathered, journal: Journal | None, fleet: Fleet) -> Mapping[str, Release]:
    """The release that stands by beside the serving one."""
    if fleet.candidate is None:
        return {}
    record = read_journal(
        gathered.stage, journal, lambda open_one: Releases(open_one).get(fleet.candidate or "")
    )
    return {} if record is None else {record.id: remake_release(gathered, record)}


def refuse_half_way(stage: Stage, journal: Journal | None) -> None:
    """Raise RefusedError RELEASE-002 while a release is on its way, RESTORE-030 while a restore is."""
    facts = read_facts(stage, journal)
    if facts.get(IN_PLACE):
        raise RefusedError(
            "RESTORE-030",
            "a restore is replacing the database and is not finished",
            hint=f"asbuilt restore {stage.environment} --in-place --resume goes on with it",
        )
    if ROLLOUT in facts:
        raise RefusedError(
            "RELEASE-002",
            "a release is on its way and not finished",
            hint=f"asbuilt deploy {stage.environment} goes on with it, with --abort it goes back",
        )


def count_servers(environment: Environment, facts: Mapping[str, str]) -> int:
    """App servers wanted, within the range: what `scale` said, else what the load asks for or the least."""
    wanted = facts.get(SCALE) or facts.get(LOAD, "")
    least, most = environment.app.instances.minimum, environment.app.instances.maximum
    return min(max(int(wanted), least), most) if wanted.isdecimal() else least


@dataclass(frozen=True, slots=True)
class Offer:
    """The releases that app servers may run.

    Args:
        newest: the one that is built and migrated.
        made: its build, made or to be made; None where it was made long ago.
        by_id: all of them.
        forward: its migration is part of it. A way back never migrates.
    """

    newest: Release
    made: Build | None
    by_id: Mapping[str, Release]
    forward: bool = True


def arrange(gathered: Gathered, fleet: Fleet, offer: Offer, journal: Journal | None) -> Prepared:
    """What should run with this fleet, whose releases are all on offer."""
    stage, newest = gathered.stage, offer.newest
    architecture = build(gathered.loaded.spec, stage.environment, fleet.servers)
    place = settle(stage.root, stage.home, architecture, touch=gathered.touch)
    site = Site(
        root=stage.root,
        project=stage.project,
        addresses=place.addresses,
        ports=place.ports,
        entry=place.entry,
        tools=gathered.tools,
        secret=gathered.vault.secret,
        release=newest,
        app_secrets=gathered.secrets,
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        releases={f"app-{number}": offer.by_id[one] for number, one in fleet.servers.items()},
        fleet=fleet,
        migrates=offer.forward,
        file=stage.file.name,
        backup_secrets=gathered.backup_secrets,
        sidecar=bool(read_facts(stage, journal).get(SIDECAR)),
    )
    wanted = [engine.realize(architecture, site, gathered.runner) for engine in gathered.engines]
    setups = {setup.id: setup for one in wanted for setup in one.setups}
    setups[BUILD] = _build_setup(offer.made, architecture, site, newest, gathered.tell)
    workloads = {workload.id: workload for one in wanted for workload in one.workloads}
    desired = Desired(workloads, setups, newest.id, _find_satisfied(setups))
    notes = (
        *_own_warnings(gathered.loaded, stage.environment),
        *place.notes,
        *_unsupported(architecture),
        *(n for one in wanted for n in one.notes),
    )
    done = read_setups(stage, journal)
    return Prepared(
        stage,
        gathered.loaded,
        architecture,
        place,
        site,
        desired,
        gathered.runner,
        notes,
        done,
        newest.id,
        fleet,
    )


def _own_warnings(loaded: Loaded, environment: str) -> list[str]:
    """The spec's warnings without those about another environment."""
    others = tuple(f"environments.{name}:" for name in loaded.spec.environments if name != environment)
    own = f"environments.{environment}: "
    return [text.removeprefix(own) for text in loaded.warnings if not text.startswith(others)]


def _build_setup(
    made: Build | None, architecture: Architecture, site: Site, release: Release, tell: Tell
) -> Setup:
    finished = made is None or made.finished
    if finished:
        check_program(architecture, site, release)

    def run() -> None:
        began = time.monotonic()
        if made is not None:
            made.make(lambda text: tell(Event("waiting", BUILD, text, time.monotonic() - began)))
        check_program(architecture, site, release)

    return Setup(
        id=BUILD,
        title=f"build the app ({architecture.spec.app.build})",
        needs=(),
        key=release.artifact,
        satisfied=lambda: finished,
        run=run,
        remembered=False,
    )


def _find_satisfied(setups: Mapping[str, Setup]) -> frozenset[str]:
    """Ask reality about all setups side by side."""

    def ask(setup: Setup) -> bool:
        try:
            return setup.satisfied()
        except AsbuiltError:
            return False  # what cannot be asked is not known to be done

    with ThreadPoolExecutor() as pool:
        answers = pool.map(ask, setups.values())
        return frozenset(name for name, good in zip(setups, answers, strict=True) if good)


def _unsupported(architecture: Architecture) -> tuple[str, ...]:
    missing = sorted({str(node.kind) for node in architecture.nodes if not node.supported})
    if not missing:
        return ()
    return (f"not supported yet: {', '.join(missing)}: drawn in the diagram, not run",)


def make_root(stage: Stage) -> None:
    """Make the environment's folder (mode 0700) and mark whose it is."""
    refuse_foreign(stage)
    stage.root.mkdir(parents=True, exist_ok=True)
    stage.root.chmod(0o700)
    (stage.root / "project").write_text(f"{stage.project}\n")


def refuse_foreign(stage: Stage) -> None:
    """Raises RefusedError STATE-001 when the environment's state belongs to another folder's spec."""
    owner_file = stage.root / "project"
    try:
        owner = Path(owner_file.read_text().strip())
    except FileNotFoundError:
        return
    if owner != stage.project and (owner / stage.file.name).exists():
        raise RefusedError(
            "STATE-001",
            f"the environment {stage.name}/{stage.environment} belongs to the project in {owner}",
            where=str(stage.root),
            hint="give one of the two projects another name, or use another ASBUILT_HOME",
        )
