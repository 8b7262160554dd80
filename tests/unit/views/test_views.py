from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asbuilt.graph.build import build
from asbuilt.graph.model import Kind
from asbuilt.views.diagram import render_mermaid
from asbuilt.views.drawing import render_svg
from asbuilt.views.flows import flows
from asbuilt.views.layout import Layout, Rect, arrange, way
from asbuilt.views.monitoring import watches
from asbuilt.views.sketch import Look, Style, sketch
from support.specs import environments, spec_of

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture

SVG = "{http://www.w3.org/2000/svg}"

looked = st.builds(
    Look,
    st.sampled_from(["ready", "starting", "draining", "failing", "stopped", 'odd "<&]]>\n\x00 word']),
    st.sampled_from([None, "primary", "replica"]),
)


@st.composite
def seen(draw: st.DrawFn) -> tuple[Architecture, dict[str, Look] | None]:
    """An architecture, and perhaps how its nodes look."""
    architecture = build(spec_of(anything=draw(environments())), "anything")
    if draw(st.booleans()):
        return architecture, None
    return architecture, {node.id: draw(looked) for node in architecture.nodes if draw(st.booleans())}


@settings(max_examples=50, deadline=None)
@given(environments())
def test_every_flow_is_an_edge_and_back(own: dict[str, Any]) -> None:
    architecture = build(spec_of(anything=own), "anything")
    rows = Counter((f.source, f.target, f.port, f.protocol, f.purpose) for f in flows(architecture))
    edges = Counter((e.source, e.target, e.port, e.protocol, e.purpose.value) for e in architecture.edges)
    assert rows == edges
    assert max(rows.values()) == 1


@settings(max_examples=50, deadline=None)
@given(environments())
def test_every_port_is_watched_once_and_every_node_that_runs(own: dict[str, Any]) -> None:
    architecture = build(spec_of(anything=own), "anything")
    rows = watches(architecture)
    assert max(Counter((row.node, row.port) for row in rows).values()) == 1
    silent = {Kind.USERS, Kind.FILES, Kind.BACKUP, Kind.ARCHIVE}
    runs = {n.id for n in architecture.nodes if n.supported and n.kind not in silent}
    assert {row.node for row in rows} == runs


@settings(max_examples=60, deadline=None)
@given(seen())
def test_every_node_has_a_box_and_every_edge_an_arrow_or_a_group(
    case: tuple[Architecture, dict[str, Look] | None],
) -> None:
    architecture, looks = case
    drawn = sketch(architecture, looks)
    assert sorted(n for box in drawn.boxes for n in box.nodes) == sorted(n.id for n in architecture.nodes)
    told = {edge for arrow in drawn.arrows for edge in arrow.edges}
    told |= {edge for tier in drawn.tiers for group in tier.groups for edge in group.edges}
    assert told == set(architecture.edges)
    for tier in drawn.tiers:
        for group in tier.groups:
            members = {node for box in group.boxes for node in box.nodes}
            assert all({edge.source, edge.target} <= members for edge in group.edges)


@settings(max_examples=60, deadline=None)
@given(seen())
def test_every_box_and_arrow_is_drawn(case: tuple[Architecture, dict[str, Look] | None]) -> None:
    architecture, looks = case
    drawn = sketch(architecture, looks)
    ends = Counter((a.source, a.target) for a in drawn.arrows)
    root = ET.fromstring(render_svg(architecture, looks))  # noqa: S314 - our own text
    found = [
        (g.attrib["data-source"], g.attrib["data-target"])
        for g in root.iter(f"{SVG}g")
        if "data-source" in g.attrib
    ]
    assert Counter(found) == ends
    assert {g.attrib["data-node"] for g in root.iter(f"{SVG}g") if "data-node" in g.attrib} == {
        b.id for b in drawn.boxes
    }
    assert root.findtext(f"{SVG}title")
    assert root.findtext(f"{SVG}desc")
    text = render_mermaid(architecture, looks)
    assert Counter((a, b) for a, b, _ in mermaid_arrows(text)) == Counter(
        (a.replace("-", "_"), b.replace("-", "_")) for a, b in ends.elements()
    )
    assert (text, render_svg(architecture, looks)) == (
        render_mermaid(architecture, looks),
        render_svg(architecture, looks),
    )


@settings(max_examples=60, deadline=None)
@given(environments())
def test_no_box_lies_on_another_and_no_arrow_runs_through_one(own: dict[str, Any]) -> None:
    drawn = sketch(build(spec_of(anything=own), "anything"))
    layout = arrange(drawn)
    places = sorted(layout.boxes.items())
    for number, (name, one) in enumerate(places):
        assert inside(one, Rect(0, 0, layout.width, layout.height)), name
        for other, two in places[number + 1 :]:
            assert not overlap(one, two), (name, other)
    for arrow in drawn.arrows:
        for crossed in crossings(layout, way(layout, arrow)):
            assert crossed in {arrow.source, arrow.target}, (arrow.source, arrow.target, crossed)


def inside(one: Rect, two: Rect) -> bool:
    return two.x <= one.x and one.right <= two.right and two.y <= one.y and one.bottom <= two.bottom


def overlap(one: Rect, two: Rect) -> bool:
    return one.x < two.right and two.x < one.right and one.y < two.bottom and two.y < one.bottom


def crossings(layout: Layout, points: tuple[tuple[float, float], ...]) -> set[str]:
    """Boxes whose inside a way touches."""
    found = set()
    for (x1, y1), (x2, y2) in pairwise(points):
        leg = Rect(min(x1, x2), min(y1, y2), abs(x1 - x2) or 0.01, abs(y1 - y2) or 0.01)
        assert x1 == x2 or y1 == y2, "arrows run at right angles"
        found |= {name for name, box in layout.boxes.items() if overlap(leg, box)}
    return found


ARROW = re.compile(r"^    (\w+) (-->|-\.->)(?:\|([^|]+)\|)? (\w+)$", re.MULTILINE)


def mermaid_arrows(text: str) -> list[tuple[str, str, str]]:
    """Source, target and kind (`-->`, `-.->` or `-.->|words|`) of every arrow of a diagram."""
    return [(a, b, shaft + (f"|{words}|" if words else "")) for a, shaft, words, b in ARROW.findall(text)]


def mermaid_boxes(text: str) -> dict[str, str]:
    """Title (first line of the label) of every box and frame by id; `(...)` around it for a cylinder."""
    found = re.findall(r'^ +(?:subgraph )?(\w+)\[(\(?)"([^"]*)"\)?\]$', text, re.MULTILINE)
    return {
        name: f"({label.split('<br/>')[0]})" if round_ else label.split("<br/>")[0]
        for name, round_, label in found
    }


def test_hostile_words_end_no_label() -> None:
    architecture = build(spec_of(production={}), "production")
    hostile = {"lb-1": Look('x"] --> evil["<script>&#;\n    users --> db_1')}
    text = render_mermaid(architecture, hostile)
    assert mermaid_arrows(text) == mermaid_arrows(render_mermaid(architecture))
    assert "<script" not in text
    assert "<script" not in render_svg(architecture, hostile)


def test_a_failover_moves_titles_and_arrows() -> None:
    architecture = build(spec_of(production={}), "production")
    looks = {"db-1": Look("failing"), "db-2": Look("ready", "primary"), "db-3": Look("ready", "replica")}
    text = render_mermaid(architecture, looks)
    assert mermaid_boxes(text)["db_2"] == "(Primary DB)"
    assert mermaid_boxes(text)["db_1"] == "(Read Replica)"
    assert ("db_2", "db_3", "-.->|Replication|") in mermaid_arrows(text)
    assert ("db_1", "db_3", "-.->|Replication|") not in mermaid_arrows(text)
    assert "db-1: ✖ failing" in text
    assert "db-2: ✔ ready" in text
    assert "cache-1: ■ stopped" in text, "a node that nobody saw does not look well"


def test_many_app_servers_share_a_box() -> None:
    drawn = sketch(build(spec_of(production={"app": {"instances": 20}}), "production"))
    apps = [box for box in drawn.boxes if box.kind is Kind.APP]
    assert [box.id for box in apps] == ["app-1", "app-2", "app-3", "app-4", "app-5", "app-more"]
    assert apps[-1].title == "App 6 to 20"
    assert len(apps[-1].nodes) == 15


def test_styles_tell_calls_from_replication_and_control() -> None:
    drawn = sketch(build(spec_of(production={}), "production"))
    styles = {(a.source, a.target): a.style for a in drawn.arrows}
    assert styles["app-1", "db-1"] is Style.CALL
    assert styles["db-1", "db-2"] is Style.REPLICATION
    assert styles["lb-1", "database-cluster"] is Style.CONTROL


# What the source document draws, and how it is called here. Boxes: (title there, id here, title here).
PRODUCTION_FRAMES = ["Load Balancing Tier", "Application Tier", "Data Tier", "Storage Tier"]
PRODUCTION_BOXES = [
    ("Users", "users", "Users"),
    ("DNS / Route53", "dns_1", "DNS"),
    ("CDN / CloudFront", "cdn_1", "CDN"),
    ("Load Balancer", "lb_1", "Load Balancer"),
    ("App Server 1", "app_1", "App Server 1"),
    ("App Server 2", "app_2", "App Server 2"),
    ("App Server 3", "app_3", "App Server 3"),
    ("Primary DB", "db_1", "(Primary DB)"),
    ("Read Replica 1", "db_2", "(Read Replica 1)"),
    ("Read Replica 2", "db_3", "(Read Replica 2)"),
    ("Redis Cluster", "cache_cluster", "Redis Cluster"),
    ("Object Storage", "objects_1", "Object Storage"),
    ("File Storage", "files_1", "File Storage"),
]
PRODUCTION_ARROWS = """
    USERS --> DNS, DNS --> CDN, CDN --> LB, LB --> APP1, LB --> APP2, LB --> APP3,
    APP1 --> DB_PRIMARY, APP2 --> DB_PRIMARY, APP3 --> DB_PRIMARY,
    APP1 --> DB_REPLICA1, APP2 --> DB_REPLICA1, APP3 --> DB_REPLICA2,
    APP1 --> CACHE, APP2 --> CACHE, APP3 --> CACHE, APP1 --> S3, APP2 --> S3, APP3 --> EFS,
    DB_PRIMARY -.->|Replication| DB_REPLICA1, DB_PRIMARY -.->|Replication| DB_REPLICA2
"""
PRODUCTION_IDS = {
    "USERS": "users", "DNS": "dns_1", "CDN": "cdn_1", "LB": "lb_1", "APP1": "app_1", "APP2": "app_2",
    "APP3": "app_3", "DB_PRIMARY": "db_1", "DB_REPLICA1": "db_2", "DB_REPLICA2": "db_3",
    "CACHE": "cache_1", "S3": "objects_1", "EFS": "files_1",
}  # fmt: skip
STAGING_BOXES = [
    ("Staging Load Balancer", "lb_1", "Load Balancer"),
    ("Staging App 1", "app_1", "App Server 1"),
    ("Staging App 2", "app_2", "App Server 2"),
    ("Staging Database", "db_1", "(Database)"),
    ("Staging Cache", "cache_1", "(Redis)"),
]
STAGING_ARROWS = """
    LB --> APP1, LB --> APP2, APP1 --> DB, APP2 --> DB, APP1 --> CACHE, APP2 --> CACHE
"""
STAGING_IDS = {"LB": "lb_1", "APP1": "app_1", "APP2": "app_2", "DB": "db_1", "CACHE": "cache_1"}
DEVELOPMENT_BOXES = [
    ("Developer", "users", "Developer"),
    ("Local Machine", "environment", "Local Machine: shop development"),  # the frame around all
    ("Dev App Server", "app_1", "App Server"),
    ("Dev Database", "db_1", "(Database)"),
    ("Mock Services", "mock_1", "Mock Services"),
]
DEVELOPMENT_ARROWS = (
    "DEV --> DEV_APP, DEV_APP --> DEV_DB, DEV_APP --> MOCK"  # through the frame of the machine
)
DEVELOPMENT_IDS = {"DEV": "users", "DEV_APP": "app_1", "DEV_DB": "db_1", "MOCK": "mock_1"}


@pytest.mark.parametrize(
    ("environment", "boxes", "arrows", "ids"),
    [
        ("production", PRODUCTION_BOXES, PRODUCTION_ARROWS, PRODUCTION_IDS),
        ("staging", STAGING_BOXES, STAGING_ARROWS, STAGING_IDS),
        ("development", DEVELOPMENT_BOXES, DEVELOPMENT_ARROWS, DEVELOPMENT_IDS),
    ],
)
def test_the_diagram_shows_what_the_document_shows(
    environment: str, boxes: list[tuple[str, str, str]], arrows: str, ids: dict[str, str]
) -> None:
    architecture = build(spec_of(**{environment: {}}), environment)
    text = render_mermaid(architecture)
    ours = mermaid_boxes(text)
    for there, name, here in boxes:
        assert ours.get(name) == here, f"{there} is not drawn"
    absent = {node.id.replace("-", "_") for node in architecture.nodes if not node.supported}
    drawn = set(mermaid_arrows(text))
    for arrow in arrows.split(","):
        source, shaft, target = arrow.split()
        ends = (ids[source], ids[target])
        # what is not supported yet is drawn dashed
        wanted = "-.->" if shaft == "-->" and absent & set(ends) else shaft
        assert (*ends, wanted) in drawn, f"{arrow} is not drawn"


def test_the_production_diagram_has_the_tiers_of_the_document() -> None:
    text = render_mermaid(build(spec_of(production={}), "production"))
    assert [title for title in mermaid_boxes(text).values() if title.endswith("Tier")] == PRODUCTION_FRAMES
    inside_redis = text.split("subgraph cache_cluster")[1].split(" end")[0]
    assert 'cache_1[("Redis Primary")]' in inside_redis, (
        "what the document's arrow to the Redis cluster ends at"
    )
