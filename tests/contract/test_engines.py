"""The same suite for every engine of the registry: what `engines/contract.py` promises."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asbuilt.engines.registry import ENGINES
from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.graph.model import Architecture, Kind
from asbuilt.plan.planner import Desired, check_needs
from asbuilt.plan.site import Release, Site
from asbuilt.plan.workload import Setup, from_json, to_json
from asbuilt.record.vault import Vault
from asbuilt.targets.local.place import settle
from asbuilt.values.secret import Secret
from support.specs import spec_of

if TYPE_CHECKING:
    from asbuilt.engines.contract import Engine, Realization

RUNNER = Runner(find_identity())
KINDS = ("development", "staging", "production")
APP_SECRET = "the-owners-own-secret"


def make_world(environment: str, root: Path) -> tuple[Architecture, Site]:
    spec = spec_of(**{environment: {"app": {"command": "/bin/true --port $PORT", "migrate": "/bin/true"}}})
    architecture = build(spec, environment)
    place = settle(root, root.parent, architecture, touch=False)
    tools = {engine.name: engine.find(architecture, RUNNER) for engine in ENGINES}
    site = Site(
        root=root,
        project=root,
        addresses=place.addresses,
        ports=place.ports,
        entry=place.entry,
        tools=tools,
        secret=Vault(root / "secrets.json", keep=False).secret,
        release=Release("r1", "artifact", str(root)),
        app_secrets={"TOKEN": Secret(APP_SECRET)},
        cpus=2,
        memory=8 * 2**30,
    )
    return architecture, site


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Architecture, Site]:
    return make_world(request.param, tmp_path / "env")


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.param
    return found


def realize(engine: Engine, world: tuple[Architecture, Site]) -> Realization:
    return engine.realize(*world, RUNNER)


def test_every_kind_has_one_engine_and_every_name_is_its_own() -> None:
    kinds = [kind for one in ENGINES for kind in one.kinds]
    assert len(kinds) == len(set(kinds))
    assert len({one.name for one in ENGINES}) == len(ENGINES)
    assert {Kind.LOAD_BALANCER, Kind.APP, Kind.DATABASE, Kind.CACHE, Kind.OBJECTS, Kind.FILES} <= set(kinds)


def test_its_programs_are_there_and_it_says_why_these(
    engine: Engine, world: tuple[Architecture, Site]
) -> None:
    tools = engine.find(world[0], RUNNER)
    assert tools.engine == engine.name
    assert tools.version
    assert tools.why
    assert tools.source in {"spec", "system", "wheel"}
    assert all(Path(path).is_file() for path in tools.programs.values())


def test_rendering_is_pure(engine: Engine, world: tuple[Architecture, Site]) -> None:
    first, second = realize(engine, world), realize(engine, world)
    assert first.workloads == second.workloads
    assert [(one.id, one.needs, one.key) for one in first.setups] == [
        (one.id, one.needs, one.key) for one in second.setups
    ]
    assert not world[1].root.exists(), "rendering wrote something"


def test_workloads_belong_to_nodes_of_its_kinds(engine: Engine, world: tuple[Architecture, Site]) -> None:
    architecture, site = world
    for one in realize(engine, world).workloads:
        node = architecture.by_id[one.node]
        assert node.kind in engine.kinds
        assert one.kind == node.kind
        assert one.zone == node.zone
        assert one.id == one.node or one.id.startswith(f"{one.node}.")
        own = {site.addresses[node.id], site.entry.address}
        assert {listen.host for listen in one.listens} <= own
        assert one.address or not one.listens
        assert len({(listen.host, listen.port) for listen in one.listens}) == len(one.listens)


def test_no_secret_is_in_a_command_line_or_a_readable_file(
    engine: Engine, world: tuple[Architecture, Site]
) -> None:
    architecture, site = world
    handed_out: list[Secret] = []

    def remember(name: str) -> Secret:
        handed_out.append(site.secret(name))
        return handed_out[-1]

    found = engine.realize(architecture, replace(site, secret=remember), RUNNER)
    values = [one.reveal() for one in handed_out] + [APP_SECRET]
    for one in found.workloads:
        open_text = json.dumps([one.argv, one.env, one.before_start, one.address, one.engine])
        for file in one.files:
            open_text += file.path + (file.content if file.mode & 0o077 else "")
        for exchange in (one.ready.exchange, one.after_fence, one.reload):
            open_text += exchange.shown if exchange else ""
        assert not [value for value in values if value in open_text], f"{one.id} shows a secret"


def test_a_workload_survives_being_written_down(engine: Engine, world: tuple[Architecture, Site]) -> None:
    for one in realize(engine, world).workloads:
        again = from_json(json.loads(json.dumps(to_json(one))))
        assert again == one
        assert (again.digest, again.process_digest) == (one.digest, one.process_digest)


def test_files_stay_below_the_environment(engine: Engine, world: tuple[Architecture, Site]) -> None:
    site = world[1]
    for one in realize(engine, world).workloads:
        for path in (*one.directories, *(file.path for file in one.files)):
            assert Path(path).is_relative_to(site.root)
            assert ".." not in Path(path).parts


def test_it_is_quiet_where_it_has_no_node(engine: Engine, world: tuple[Architecture, Site]) -> None:
    architecture, site = world
    nodes = tuple(node for node in architecture.nodes if node.kind not in engine.kinds)
    without = Architecture(architecture.name, architecture.environment, architecture.spec, nodes, ())
    found = engine.realize(without, site, RUNNER)
    assert found.workloads == ()
    assert found.setups == ()


def test_together_their_needs_are_met_without_a_circle(world: tuple[Architecture, Site]) -> None:
    found = [engine.realize(*world, RUNNER) for engine in ENGINES]
    workloads = {one.id: one for each in found for one in each.workloads}
    setups = {one.id: one for each in found for one in each.setups}
    setups["app.build"] = Setup("app.build", "build", (), "1", satisfied=lambda: True, run=lambda: None)
    assert sum(len(each.workloads) for each in found) == len(workloads)
    check_needs(Desired(workloads, setups))
    nodes = {
        node.id for node in world[0].nodes if node.supported and node.kind not in {Kind.USERS, Kind.FILES}
    }
    assert {one.node for one in workloads.values()} == nodes
