"""The style sheet of the drawing, for light and for dark pages. Colours only underline what words say."""

from __future__ import annotations

from typing import Final

_LIGHT: Final = {
    "page": "fill:#ffffff",
    "environment": "fill:#fbfcfd;stroke:#8c959f",
    "tier": "fill:#f1f4f7;stroke:#d0d7de",
    "group": "fill:#ffffff;stroke:#afb8c1",
    "text": "fill:#1f2328",
    "quiet": "fill:#57606a",
    "call": "#3b4a5a",
    "replication": "#a33b3b",
    "control": "#6e7781",
}
_DARK: Final = {
    "page": "fill:#0d1117",
    "environment": "fill:#11161d;stroke:#6e7681",
    "tier": "fill:#161c24;stroke:#30363d",
    "group": "fill:#0f141a;stroke:#484f58",
    "text": "fill:#e6edf3",
    "quiet": "fill:#9aa4af",
    "call": "#a9b7c6",
    "replication": "#f08a8a",
    "control": "#8b949e",
}
_BOXES_LIGHT: Final = {
    "plain": ("#ffffff", "#57606a"),
    "users": ("#e1f5ff", "#4a7a96"),
    "front": ("#fff9e1", "#8a7a3a"),
    "balancer": ("#e1ffe1", "#3f7d3f"),
    "primary": ("#ffe1e1", "#a04848"),
    "absent": ("#ffffff", "#8c959f"),
    "ready": ("#dafbe1", "#1a7f37"),
    "moving": ("#fff8c5", "#9a6700"),
    "failing": ("#ffebe9", "#cf222e"),
    "stopped": ("#eaeef2", "#57606a"),
}
_BOXES_DARK: Final = {
    "plain": ("#1c232c", "#8b949e"),
    "users": ("#12303f", "#6fb3d8"),
    "front": ("#332d14", "#c9b458"),
    "balancer": ("#14331a", "#6cc07a"),
    "primary": ("#3f1c1e", "#e08a8a"),
    "absent": ("#0d1117", "#7d8590"),
    "ready": ("#12331c", "#56d364"),
    "moving": ("#3a2e0a", "#e3b341"),
    "failing": ("#4a1618", "#ff7b72"),
    "stopped": ("#21262d", "#8b949e"),
}


def _colours(words: dict[str, str], boxes: dict[str, tuple[str, str]]) -> str:
    rules = [
        f".page{{{words['page']}}}",
        f".environment{{{words['environment']}}}",
        f".tier{{{words['tier']}}}",
        f".group{{{words['group']}}}",
        f"text{{{words['text']}}}",
        f".id,.detail,.note,.heading{{{words['quiet']}}}",
    ]
    rules += [
        f"g.{style}>path{{stroke:{words[style]}}}.head.{style}>path{{fill:{words[style]}}}"
        for style in ("call", "replication", "control")
    ]
    for name, (fill, stroke) in boxes.items():
        rules.append(f".{name}>.shape{{fill:{fill};stroke:{stroke}}}.{name}>.lid{{stroke:{stroke}}}")
    return "".join(rules)


STYLE: Final = (
    'text{font-family:system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;font-size:12px;'
    "text-anchor:middle}"
    ".start{text-anchor:start}.end{text-anchor:end}.title,.state{font-weight:600}.title{font-size:13px}"
    ".name{font-size:15px;font-weight:600}.heading{font-weight:600}.id,.detail,.note{font-size:11px}"
    ".environment,.tier,.group{stroke-width:1}.group{stroke-dasharray:none}"
    ".shape{stroke-width:1.4}.lid{fill:none;stroke-width:1.2}.absent>.shape{stroke-dasharray:5 4}"
    ".stopped>.shape{stroke-dasharray:2 3}.failing>.shape{stroke-width:3}"
    "g.call>path,g.replication>path,g.control>path{fill:none;stroke-width:1.4;stroke-linejoin:round}"
    "g.replication>path{stroke-dasharray:6 4}g.control>path{stroke-dasharray:2 3}"
    "g.absent>path{stroke-dasharray:5 4}.arrow:hover>path{stroke-width:3}"
    + _colours(_LIGHT, _BOXES_LIGHT)
    + "@media (prefers-color-scheme:dark){"
    + _colours(_DARK, _BOXES_DARK)
    + "}"
)
"""The whole style sheet; it has neither `<` nor `&`, so that it can stand in XML as it is."""
