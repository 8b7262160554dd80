"""The allowed flows of an architecture, a row for each edge. What is not listed is not allowed.

Invariant: rows and edges are one to one, in the same order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture


class Flow(NamedTuple):
    """One allowed connection: from whom to whom, on which standard port, with which protocol, and why."""

    source: str
    target: str
    port: int
    protocol: str
    purpose: str
    label: str


def flows(architecture: Architecture) -> tuple[Flow, ...]:
    """Every allowed flow, in the order of the architecture."""
    return tuple(
        Flow(e.source, e.target, e.port, e.protocol, e.purpose.value, e.label) for e in architecture.edges
    )


def render_flows(architecture: Architecture) -> str:
    """The flows as a table for people, with a last line break."""
    return render_table(("SOURCE", "TARGET", "PORT", "PROTOCOL", "PURPOSE", "WHY"), flows(architecture))


def render_table(head: tuple[str, ...], rows: tuple[tuple[object, ...], ...]) -> str:
    """Columns as wide as they need to be, two spaces apart, no space at the end of a line."""
    lines = [head, *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )
