"""The diagram of an environment, as written or, with `live`, as it is now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.graph.build import build
from asbuilt.operations.status import read_status
from asbuilt.spec.load import load
from asbuilt.views.diagram import render_mermaid
from asbuilt.views.drawing import render_svg
from asbuilt.views.sketch import Look

if TYPE_CHECKING:
    from asbuilt.values.stage import Stage


def draw(stage: Stage, form: str, *, live: bool) -> str:
    """Mermaid text or an SVG drawing."""
    architecture = build(load(stage.file).spec, stage.environment)
    nodes = read_status(stage)["nodes"] if live else []
    looks = {node["id"]: Look(node["health"], node["role"]) for node in nodes} if live else None
    return render_svg(architecture, looks) if form == "svg" else render_mermaid(architecture, looks)
