"""The diagram as Mermaid text, in the form of the source document: tiers, cylinders, dashed replication.

Invariant: the same architecture gives the same text, and no word of a spec can end a label.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Kind, Role
from asbuilt.views.sketch import Look, Sketch, Style, sketch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from asbuilt.graph.model import Architecture
    from asbuilt.views.sketch import Arrow, Box, Tier

_CYLINDERS: Final = {Kind.DATABASE, Kind.CACHE}
_CLASSES: Final = {
    "users": "fill:#e1f5ff,stroke:#4a7a96,color:#1b1f24",
    "front": "fill:#fff9e1,stroke:#8a7a3a,color:#1b1f24",
    "balancer": "fill:#e1ffe1,stroke:#3f7d3f,color:#1b1f24",
    "primary": "fill:#ffe1e1,stroke:#a04848,color:#1b1f24",
    "plain": "fill:#f6f8fa,stroke:#57606a,color:#1b1f24",
    "absent": "fill:#ffffff,stroke:#8c959f,color:#57606a,stroke-dasharray:5 4",
    "ready": "fill:#dafbe1,stroke:#1a7f37,color:#1b1f24",
    "moving": "fill:#fff8c5,stroke:#9a6700,color:#1b1f24",
    "failing": "fill:#ffebe9,stroke:#cf222e,color:#1b1f24,stroke-width:3px",
    "stopped": "fill:#eaeef2,stroke:#57606a,color:#1b1f24,stroke-dasharray:2 3",
}
MARKS: Final = {"ready": "✔", "starting": "…", "draining": "…", "failing": "✖", "stopped": "■"}
"""A sign beside each health word, so that nothing hangs on colour."""


def render_mermaid(architecture: Architecture, looks: Mapping[str, Look] | None = None) -> str:
    """The diagram as Mermaid text; with `looks` (by node id), coloured and marked by health."""
    drawn = sketch(architecture, looks)
    used = sorted({class_of(box) for box in drawn.boxes})
    lines = [
        "graph TB",
        *(_box(box, "    ") for box in drawn.outside),
        f'    subgraph environment["{_text(drawn.title)}"]',
        *(line for number, tier in enumerate(drawn.tiers, 1) for line in _tier(number, tier)),
        "    end",
        "",
        *_arrows(drawn),
        "",
        *(f"    classDef {name} {_CLASSES[name]}" for name in used),
        *(f"    class {','.join(_ids(drawn, name))} {name}" for name in used),
    ]
    return "\n".join(lines) + "\n"


def class_of(box: Box) -> str:
    """The class that colours a box: its health when it was looked at, else what it is."""
    if not box.supported:
        return "absent"
    if box.health:
        known = {"ready": "ready", "starting": "moving", "draining": "moving", "stopped": "stopped"}
        return known.get(box.health, "failing")
    if box.role == Role.PRIMARY and box.kind is Kind.DATABASE:
        return "primary"
    kinds = {Kind.USERS: "users", Kind.DNS: "front", Kind.CDN: "front", Kind.LOAD_BALANCER: "balancer"}
    return kinds.get(box.kind, "plain")


def _ids(drawn: Sketch, name: str) -> Iterator[str]:
    return (_id(box.id) for box in drawn.boxes if class_of(box) == name)


def _tier(number: int, tier: Tier) -> Iterator[str]:
    yield f'        subgraph tier{number}["{_text(tier.title)}"]'
    for group in tier.groups:
        yield f'            subgraph {_id(group.id)}["{_text(group.title)}"]'
        yield from (_box(box, " " * 16) for box in group.boxes)
        yield "            end"
    yield from (_box(box, " " * 12) for box in tier.boxes)
    yield "        end"


def _box(box: Box, indent: str) -> str:
    label = [_text(box.title)]
    if not box.supported:
        label.append(_text(box.detail))
    elif box.health:
        label.append(_text(f"{box.id}: {MARKS.get(box.health, MARKS['failing'])} {box.health}"))
    opening, closing = ("[(", ")]") if box.kind in _CYLINDERS else ("[", "]")
    return f'{indent}{_id(box.id)}{opening}"{"<br/>".join(label)}"{closing}'


def _arrows(drawn: Sketch) -> Iterator[str]:
    absent = {box.id for box in drawn.boxes if not box.supported}
    return (f"    {_id(a.source)} {_shaft(a, absent)} {_id(a.target)}" for a in drawn.arrows)


def _shaft(arrow: Arrow, absent: set[str]) -> str:
    if arrow.style is Style.REPLICATION:
        return "-.->|Replication|"
    if arrow.style is Style.CONTROL:
        return f"-.->|{label_of(arrow)}|"
    return "-.->" if {arrow.source, arrow.target} & absent else "-->"


def label_of(arrow: Arrow) -> str:
    """What a control arrow is for."""
    return "leader key" if any(edge.service == "etcd" for edge in arrow.edges) else "checks and routes"


def _id(identity: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", identity)


def _text(words: str) -> str:
    """`words` inside a quoted label: what could end it or be markup becomes a Mermaid entity."""
    return re.sub(r"[^\w .,:()✔…✖■-]", lambda found: f"#{ord(found[0])};", words.replace("\n", " "))
