from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asbuilt.graph.build import build
from asbuilt.graph.check import check
from asbuilt.graph.model import Architecture, Edge, Kind, Purpose, Zone
from asbuilt.graph.services import SERVICES
from asbuilt.spec.schema import Spec
from asbuilt.values.errors import UsageError
from asbuilt.values.units import Count
from support.specs import environments, spec_of

if TYPE_CHECKING:
    from random import Random


@settings(max_examples=60, deadline=None)
@given(environments())
def test_every_architecture_is_sound(own: dict[str, Any]) -> None:
    architecture = build(spec_of(anything=own), "anything")
    assert check(architecture) == ()
    for edge in architecture.edges:
        service = "app" if edge.service == edge.target else edge.service
        assert (edge.port, edge.protocol) == (SERVICES[service].port, SERVICES[service].protocol)


@settings(max_examples=25, deadline=None)
@given(environments(), st.randoms())
def test_the_order_of_a_spec_does_not_matter(own: dict[str, Any], random: Random) -> None:
    spec = spec_of(other={"kind": "staging"}, anything=own)

    def shuffled(value: object) -> object:
        if not isinstance(value, dict):
            return value
        keys = list(value)
        random.shuffle(keys)
        return {key: shuffled(value[key]) for key in keys}

    again = Spec.model_validate(shuffled(spec.model_dump()))
    assert build(again, "anything") == build(spec, "anything")


def test_production_is_what_the_document_lists() -> None:
    architecture = build(spec_of(production={}), "production")
    counts = {kind: len(nodes) for kind, nodes in architecture.by_kind.items()}
    assert counts == {
        Kind.USERS: 1, Kind.DNS: 1, Kind.CDN: 1, Kind.LOAD_BALANCER: 1, Kind.APP: 3, Kind.DATABASE: 3,
        Kind.CACHE: 3, Kind.CONSENSUS: 1, Kind.OBJECTS: 1, Kind.FILES: 1, Kind.BACKUP: 1,
    }  # fmt: skip
    assert [node.id for node in architecture.nodes if not node.supported] == ["dns-1", "cdn-1"]
    assert not [e for e in architecture.edges if e.source.startswith("app-") and e.target.startswith("db-")]


def test_one_database_needs_neither_consensus_nor_routes() -> None:
    architecture = build(spec_of(staging={}), "staging")
    assert architecture.of(Kind.CONSENSUS) == ()
    assert [e.service for e in architecture.edges if e.source == "app-1"] == [
        "postgresql", "redis", "s3", "files",
    ]  # fmt: skip
    assert not [e for e in architecture.edges if e.source == "lb-1" and not e.target.startswith("app-")]


def test_an_unknown_environment_gets_a_hint() -> None:
    with pytest.raises(UsageError) as caught:
        build(spec_of(production={}), "produktion")
    assert (caught.value.code, caught.value.hint) == ("GRAPH-001", "did you mean production?")


def broken(architecture: Architecture, *edges: Edge) -> tuple[str, ...]:
    return check(replace(architecture, edges=(*architecture.edges, *edges)))


def test_check_finds_what_is_wrong() -> None:
    architecture = build(spec_of(production={}), "production")
    edges = architecture.edges

    def call(source: str, target: str) -> Edge:
        return Edge(source, target, 5432, "postgresql", Purpose.CALL, "", "postgresql")

    assert "users in the internet zone may not call db-1 in the database zone" in broken(
        architecture, call("users", "db-1")
    )
    assert "cdn-1 in the public zone may not call db-1 in the database zone" in broken(
        architecture, call("cdn-1", "db-1")
    )
    assert "objects-1 in the private zone may not call db-1 in the database zone" in broken(
        architecture, call("objects-1", "db-1")
    )
    assert "the edge app-1 -> db-9 ends at db-9, which is no node" in broken(
        architecture, call("app-1", "db-9")
    )
    assert "db-1 has an edge to itself" in broken(architecture, call("db-1", "db-1"))
    assert any("edges call from lb-1" in line for line in broken(architecture, call("lb-1", "db-1")))
    lonely = tuple(e for e in edges if e.target != "files-1")
    assert check(replace(architecture, edges=lonely)) == (
        "nothing that users do, and no backup, reaches files-1",
    )
    assert any("stands behind" in line for line in check(replace(architecture, edges=edges[::-1])))
    assert any(
        "stands behind" in line for line in check(replace(architecture, nodes=architecture.nodes[::-1]))
    )
    doubled = (*architecture.nodes, architecture.nodes[-1])
    assert "2 nodes have the id backup-1" in check(replace(architecture, nodes=doubled))
    leaderless = tuple(replace(n, role=None) for n in architecture.nodes)
    assert "database starts with 0 primaries instead of one" in check(replace(architecture, nodes=leaderless))
    alone = tuple(n for n in architecture.nodes if n.kind is not Kind.CONSENSUS)
    assert any("consensus" in line for line in check(replace(architecture, nodes=alone)))


def test_only_the_load_balancer_leads_from_the_public_zone_to_the_databases() -> None:
    architecture = build(spec_of(production={}), "production")
    known = architecture.by_id
    crossing = {
        e.source
        for e in architecture.edges
        if known[e.source].zone is Zone.PUBLIC and known[e.target].zone is Zone.DATABASE
    }
    assert crossing == {"lb-1"}


def sized(count: int) -> Spec:
    """Production with more app servers than an owner may ask for."""
    spec = spec_of(production={})
    own = spec.environments["production"]
    app = own.app.model_copy(update={"instances": Count(count, count)})
    return spec.model_copy(update={"environments": {"production": own.model_copy(update={"app": app})}})


def test_ten_thousand_nodes_take_linear_time() -> None:
    def seconds(count: int) -> float:
        spec = sized(count)
        start = time.process_time()
        build(spec, "production")
        return time.process_time() - start

    # in pairs, and the best of them: another program may take the processor's caches at any moment
    assert min(seconds(10_000) / seconds(1_000) for _ in range(5)) < 25
