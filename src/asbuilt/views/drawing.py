"""The diagram as SVG: one self-contained picture, for light and dark pages.

Invariant: valid XML whatever the words are, no fonts or files from elsewhere, a title and a description for
those who do not see it, and no meaning in colour alone.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Kind
from asbuilt.views.diagram import MARKS, class_of, label_of
from asbuilt.views.layout import Layout, Rect, arrange, way
from asbuilt.views.palette import STYLE
from asbuilt.views.sketch import Look, Style, sketch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from asbuilt.graph.model import Architecture
    from asbuilt.views.layout import Point
    from asbuilt.views.sketch import Arrow, Box, Sketch

_CYLINDERS: Final = {Kind.DATABASE, Kind.CACHE}
_CURVE: Final = 6.0
"""Half the height of a cylinder's lid."""
_SVG: Final = 'xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title description"'
_LOWER: Final = {"Data Tier", "Storage Tier", "Other Systems"}


def render_svg(architecture: Architecture, looks: Mapping[str, Look] | None = None) -> str:
    """The diagram as an SVG document; with `looks` (by node id), coloured and marked by health."""
    drawn = sketch(architecture, looks)
    layout = arrange(drawn)
    size = f"{layout.width:g} {layout.height:g}"
    lines = [
        f'<svg {_SVG} viewBox="0 0 {size}" width="{layout.width:g}" height="{layout.height:g}">',
        f'<title id="title">{_text("Architecture of " + drawn.title)}</title>',
        f'<desc id="description">{_text(describe(drawn))}</desc>',
        f"<style>{STYLE}</style>",
        "<defs>",
        *(_marker(style) for style in Style),
        "</defs>",
        f'<rect class="page" width="{layout.width:g}" height="{layout.height:g}"/>',
        *_frames(drawn, layout),
        *(_arrow(drawn, layout, arrow) for arrow in drawn.arrows),
        *(line for box in drawn.boxes for line in _box(box, layout.boxes[box.id])),
        *_words(drawn, layout),
        *_legend(layout),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def describe(drawn: Sketch) -> str:
    """The picture in sentences."""
    sentences = []
    for tier in drawn.tiers:
        boxes = [*(box for group in tier.groups for box in group.boxes), *tier.boxes]
        named = ", ".join(
            f"{b.title} ({b.health or b.detail})" if b.health or b.detail else b.title for b in boxes
        )
        sentences.append(f"{tier.title}: {named}.")
    titles = {box.id: box.title for box in drawn.boxes} | {
        g.id: g.title for t in drawn.tiers for g in t.groups
    }
    verbs = {Style.CALL: "calls", Style.REPLICATION: "replicates to", Style.CONTROL: "watches"}
    sentences += [f"{titles[a.source]} {verbs[a.style]} {titles[a.target]}." for a in drawn.arrows]
    return " ".join(sentences)


def _text(words: str) -> str:
    """`words` as XML text or attribute; characters that XML does not have become question marks."""
    return html.escape(re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", words))


def _marker(style: Style) -> str:
    return (
        f'<marker id="head-{style}" class="head {style}" viewBox="0 0 10 10" refX="9" refY="5" '
        'markerWidth="9" markerHeight="9" markerUnits="userSpaceOnUse" orient="auto">'
        '<path d="M0 1 10 5 0 9z"/></marker>'
    )


def _rect(kind: str, place: Rect, radius: int) -> str:
    return (
        f'<rect class="{kind}" x="{place.x:g}" y="{place.y:g}" width="{place.width:g}" '
        f'height="{place.height:g}" rx="{radius}"/>'
    )


def _label(kind: str, x: float, y: float, words: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{_text(words)}</text>'


def _frames(drawn: Sketch, layout: Layout) -> Iterator[str]:
    """Frames of the environment, the tiers and the groups."""
    yield _rect("environment", layout.frame, 12)
    for tier in drawn.tiers:
        yield _rect("tier", layout.tiers[tier.title], 8)
        for group in tier.groups:
            yield _rect("group", layout.groups[group.id], 8)


def _words(drawn: Sketch, layout: Layout) -> Iterator[str]:
    """The names of the frames and of the arrows, above everything else."""
    frame = layout.frame
    yield _label("name start", frame.x + 20, frame.y + 23, drawn.title)
    for tier in drawn.tiers:
        place = layout.tiers[tier.title]
        down = place.bottom - 11 if tier.title in _LOWER else place.middle[1] + 4
        yield _label("heading start", place.x + 14, down, tier.title)
        for group in tier.groups:
            inside = layout.groups[group.id]
            yield _label("heading start", inside.x + 12, inside.bottom - 9, group.title)
            if any(
                a.style is Style.REPLICATION and a.source in {b.id for b in group.boxes} for a in drawn.arrows
            ):
                yield _label("note end", inside.right - 12, inside.bottom - 9, "Replication")
    for arrow in drawn.arrows:
        if arrow.style is Style.CONTROL:
            (x, y), (_, down) = way(layout, arrow)[:2]
            across = y == down
            yield _label("note start", x + 8, y - 6 if across else (y + down) / 2 + 4, label_of(arrow))


def _arrow(drawn: Sketch, layout: Layout, arrow: Arrow) -> str:
    absent = {box.id for box in drawn.boxes if not box.supported}
    kind = f"arrow {arrow.style}" + (" absent" if {arrow.source, arrow.target} & absent else "")
    told = "; ".join(
        f"{e.source} to {e.target}:{e.port} {e.protocol} {e.purpose}{', ' + e.label if e.label else ''}"
        for e in arrow.edges[:12]
    )
    return (
        f'<g class="{kind}" data-source="{_text(arrow.source)}" data-target="{_text(arrow.target)}">'
        f"<title>{_text(told)}</title>{_line(way(layout, arrow), arrow.style)}</g>"
    )


def _line(points: tuple[Point, ...], style: Style) -> str:
    corners = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<path d="M{corners}" marker-end="url(#head-{style})"/>'


def _box(box: Box, place: Rect) -> Iterator[str]:
    """A box or cylinder with its title, id, and its detail or health."""
    x, y, width, height = place.x, place.y, place.width, place.height
    yield f'<g class="box {class_of(box)}" data-node="{_text(box.id)}">'
    if box.id == "app-more":
        yield _rect("shape", Rect(x + 5, y - 5, width, height), 6)
    if box.kind in _CYLINDERS:
        lid = f"a{width / 2:g},{_CURVE:g} 0 0 "
        yield (
            f'<path class="shape" d="M{x:g},{y + _CURVE:g}{lid}1 {width:g},0v{height - 2 * _CURVE:g}'
            f'{lid}1 {-width:g},0z"/><path class="lid" d="M{x:g},{y + _CURVE:g}{lid}0 {width:g},0"/>'
        )
    else:
        yield _rect("shape", place, 6)
    center = place.middle[0]
    shift = 5 if box.kind in _CYLINDERS else 0
    last = f"{MARKS.get(box.health, MARKS['failing'])} {box.health}" if box.health else box.detail
    lines = [("title", box.title)]
    if box.kind is not Kind.USERS:
        lines.append(("id", box.id if box.id != "app-more" else box.detail))
    if box.health or (last and box.id != "app-more"):
        lines.append(("state" if box.health else "detail", last))
    first = place.middle[1] + shift + 4 - 8 * (len(lines) - 1)
    for number, (kind, words) in enumerate(lines):
        yield _label(kind, center, first + 16 * number, words)
    yield "</g>"


def _legend(layout: Layout) -> Iterator[str]:
    """What the lines and the dashed box mean."""
    y, x = layout.height - 22, layout.frame.x + 4
    for style, words in (
        (Style.CALL, "calls"),
        (Style.REPLICATION, "replication"),
        (Style.CONTROL, "checks and coordination"),
    ):
        yield f'<g class="legend {style}">{_line(((x, y), (x + 34, y)), style)}</g>'
        yield _label("note start", x + 42, y + 4, words)
        x += 42 + 7 * len(words) + 26
    yield f'<g class="box absent">{_rect("shape", Rect(x, y - 8, 26, 16), 4)}</g>'
    yield _label("note start", x + 34, y + 4, "not supported yet")
