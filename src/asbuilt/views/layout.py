"""Where everything of a drawing stands, and the way each arrow takes. Lengths are SVG units (pixels).

Rows: users, load balancing, applications, then data, storage and the rest side by side. Arrows run at right
angles in lanes between the rows, so that no arrow runs through a box; arrows of one kind share a lane, as on
a bus. Invariant: every box and group has a place, and every arrow a way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from asbuilt.graph.model import Kind
from asbuilt.views.sketch import Style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asbuilt.views.sketch import Arrow, Box, Group, Sketch, Tier

BOX_WIDTH: Final = 132
BOX_HEIGHT: Final = 68
_GAP: Final = 22
_PAD: Final = 16
_LABEL: Final = 130
"""Room for the name of a tier, left of its boxes."""
_FOOT: Final = 24
"""Room for the name of a tier or group, below its boxes."""
_GROUP_PAD: Final = 12
_LANE: Final = 18
"""Below the boxes of a group: the lane of its replication."""
_ROWS: Final = 48
"""Between two rows of tiers."""
_MARGIN: Final = 20
_LEGEND: Final = 34
_FLOOR: Final = 8

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle by its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """X of the right side."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Y of the lower side."""
        return self.y + self.height

    @property
    def middle(self) -> Point:
        """The middle."""
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(slots=True)
class Layout:
    """Places by id. `tiers` are by title; `rows` say in which row a box or group stands, `users` is row 0.

    `side` holds boxes that stand below another one of their tier and are entered from the left, `stack` these
    and the one above them. `floor` is below every box.
    """

    width: float = 0
    height: float = 0
    frame: Rect = field(default_factory=lambda: Rect(0, 0, 0, 0))
    tiers: dict[str, Rect] = field(default_factory=dict)
    boxes: dict[str, Rect] = field(default_factory=dict)
    groups: dict[str, Rect] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    below: dict[int, float] = field(default_factory=dict)
    side: set[str] = field(default_factory=set)
    stack: set[str] = field(default_factory=set)
    floor: float = 0


def arrange(sketch: Sketch) -> Layout:
    """A place for every frame, group and box."""
    layout = Layout()
    upper = [t for t in sketch.tiers if not t.groups and t.boxes[0].kind in {Kind.APP, *_FRONT}]
    lower = [t for t in sketch.tiers if t not in upper]
    stacked = any(t.groups for t in lower)
    widths = [_lower_width(tier, stacked=stacked) for tier in lower]
    needed = [sum(widths) + _GAP * (len(lower) - 1)] if lower else [0.0]
    needed += [_row_width(len(tier.boxes)) + _LABEL + 2 * _PAD for tier in upper]
    inner, left = max(needed), float(2 * _MARGIN)
    y = float(_MARGIN + BOX_HEIGHT + _ROWS + 22)
    top = y - 36
    for row, tier in enumerate(upper, 1):
        deep = BOX_HEIGHT + 2 * _PAD
        layout.tiers[tier.title] = Rect(left, y, inner, deep)
        start = max(left + (inner - _row_width(len(tier.boxes))) / 2, left + _LABEL)
        _row(layout, tier.boxes, (start, y + _PAD), row)
        layout.below[row] = y + deep
        y += deep + _ROWS + (12 if stacked else 0) * (row == len(upper))
    height = max((_lower_height(tier, stacked=stacked) for tier in lower), default=0)
    x, spare = left, inner - needed[0]
    for tier, width in zip(lower, widths, strict=True):
        share = spare / len(lower)
        layout.tiers[tier.title] = Rect(x, y, width + share, height)
        _fill(layout, tier, (x + share / 2, y), len(upper) + 1, stacked=stacked)
        x += width + share + _GAP
    bottom = y + height if lower else y - _ROWS
    layout.floor = bottom - _FLOOR
    layout.frame = Rect(_MARGIN, top, inner + 2 * _MARGIN, bottom - top + _MARGIN)
    layout.width, layout.height = inner + 4 * _MARGIN, bottom + 2 * _MARGIN + _LEGEND
    _above(layout, sketch)
    return layout


_FRONT: Final = (Kind.DNS, Kind.CDN, Kind.WAF, Kind.LOAD_BALANCER)


def _row_width(count: int) -> float:
    return count * BOX_WIDTH + (count - 1) * _GAP


def _group_width(group: Group) -> float:
    return _row_width(len(group.boxes)) + 2 * _GROUP_PAD


_GROUP_HEIGHT: Final = BOX_HEIGHT + _GROUP_PAD + _LANE + _FOOT


def _below_group(tier: Tier) -> tuple[Box, ...]:
    """Boxes that belong below the first group: the consensus store."""
    return tuple(box for box in tier.boxes if tier.groups and box.kind is Kind.CONSENSUS)


def _beside(tier: Tier) -> tuple[Box, ...]:
    under = _below_group(tier)
    return tuple(box for box in tier.boxes if box not in under)


def _lower_width(tier: Tier, *, stacked: bool) -> float:
    if stacked and not tier.groups and tier.boxes[0].kind is not Kind.DATABASE:
        return BOX_WIDTH + 2 * _PAD + 16
    blocks = [*map(_group_width, tier.groups), *(BOX_WIDTH for _ in _beside(tier))]
    return sum(blocks) + _GAP * (len(blocks) - 1) + 2 * _PAD


def _lower_height(tier: Tier, *, stacked: bool) -> float:
    if tier.groups:
        under = _ROWS - 8 + BOX_HEIGHT if _below_group(tier) else 0
        return _GROUP_HEIGHT + under + 2 * _PAD + (0 if under else _FOOT)
    count = len(tier.boxes) if stacked else 1
    return count * BOX_HEIGHT + (count - 1) * _GAP + 2 * _PAD + _FOOT


def _row(layout: Layout, boxes: Sequence[Box], start: Point, row: int) -> None:
    x, y = start
    for box in boxes:
        layout.boxes[box.id] = Rect(x, y, BOX_WIDTH, BOX_HEIGHT)
        layout.rows[box.id] = row
        x += BOX_WIDTH + _GAP


def _fill(layout: Layout, tier: Tier, start: Point, row: int, *, stacked: bool) -> None:
    """Place the groups and boxes of a lower tier."""
    x, y = start[0] + _PAD, start[1] + _PAD
    for number, group in enumerate(tier.groups):
        layout.groups[group.id] = frame = Rect(x, y, _group_width(group), _GROUP_HEIGHT)
        _row(layout, group.boxes, (x + _GROUP_PAD, y + _GROUP_PAD), row)
        if number == 0:
            under = (frame.middle[0] - BOX_WIDTH / 2, frame.bottom + _ROWS - 8)
            _row(layout, _below_group(tier), under, row + 1)
        x += frame.width + _GAP
    if stacked and not tier.groups:
        for number, box in enumerate(tier.boxes):
            _row(layout, (box,), (x + 16, y + number * (BOX_HEIGHT + _GAP)), row)
            layout.stack.add(box.id)
            if number:
                layout.side.add(box.id)
    else:
        _row(layout, _beside(tier), (x, y + (_GROUP_PAD if tier.groups else 0)), row)


def _above(layout: Layout, sketch: Sketch) -> None:
    """Users stand above the frame, over what they call first."""
    called = [a.target for a in sketch.arrows if a.source == "users" and a.target in layout.boxes]
    fronts = [name for name in called if name.startswith("lb-")] or called
    xs = [layout.boxes[name].middle[0] for name in fronts]
    center = (min(xs) + max(xs)) / 2 if xs else layout.width / 2
    _row(layout, sketch.outside, (center - BOX_WIDTH / 2, float(_MARGIN)), 0)
    layout.below[0] = float(_MARGIN + BOX_HEIGHT)


def way(layout: Layout, arrow: Arrow) -> tuple[Point, ...]:
    """The corners of the way that `arrow` takes, from its source to its target."""
    places = layout.boxes | layout.groups
    source, target = places[arrow.source], places[arrow.target]
    if arrow.style is Style.REPLICATION:
        lane = source.bottom + _LANE
        shift = 10 if target.x > source.x else -10
        x = source.middle[0] + shift
        return (x, source.bottom), (x, lane), (target.middle[0], lane), (target.middle[0], target.bottom)
    if arrow.source.startswith(f"{Kind.BACKUP}-"):
        return _under(layout, arrow, source, target)
    if arrow.source in layout.groups:
        return (source.middle[0], source.bottom), (target.middle[0], target.y)
    if arrow.target in layout.groups:
        trunk = layout.frame.right - _MARGIN - 14
        lane, x = target.y - _PAD - 18, target.right - 16
        return (
            (source.right, source.middle[1]),
            (trunk, source.middle[1]),
            (trunk, lane),
            (x, lane),
            (x, target.y),
        )
    if layout.rows[arrow.source] == layout.rows[arrow.target]:
        return (source.right, source.middle[1]), (target.x, target.middle[1])
    return _down(layout, arrow, source, target)


def _under(layout: Layout, arrow: Arrow, source: Rect, target: Rect) -> tuple[Point, ...]:
    """Beside the boxes of its own stack, and below all others."""
    if {arrow.source, arrow.target} <= layout.stack:
        x = source.right + _FLOOR
        return (
            (source.right, source.middle[1]),
            (x, source.middle[1]),
            (x, target.middle[1]),
            (target.right, target.middle[1]),
        )
    start, end = source.middle[0], target.x + 20
    return (start, source.bottom), (start, layout.floor), (end, layout.floor), (end, target.bottom)


def _down(layout: Layout, arrow: Arrow, source: Rect, target: Rect) -> tuple[Point, ...]:
    """From a row to one below it, over the lane between them."""
    start = source.middle[0]
    row = layout.rows[arrow.source]
    if row == 0 and not source.x <= target.middle[0] <= source.right:
        return (
            (source.x, source.middle[1]),
            (target.middle[0], source.middle[1]),
            (target.middle[0], target.y),
        )
    lane = layout.below[row] + 18
    if arrow.target in layout.side:
        x = target.x - 16
        return (
            (start, source.bottom),
            (start, lane),
            (x, lane),
            (x, target.middle[1]),
            (target.x, target.middle[1]),
        )
    end = target.middle[0]
    if abs(end - start) < 1:
        return (start, source.bottom), (end, target.y)
    return (start, source.bottom), (start, lane), (end, lane), (end, target.y)
