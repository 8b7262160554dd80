"""A spec written out: `load` of the text gives the same spec again.

Invariant: every text of the owner is quoted and in printable ASCII, so that no value can become a second
line or another key.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asbuilt.spec.schema import Spec

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def render_spec(spec: Spec) -> str:
    """The text of an asbuilt.yaml in which every environment is complete and nothing depends on a preset."""
    data = spec.model_dump(mode="json")
    lines = [f"name: {quote(data['name'])}", "environments:"]
    for name, environment in data["environments"].items():
        lines.append(f"  {_key(name)}:")
        lines += _render_block(_written(environment), 4)
    return "\n".join(lines) + "\n"


def _written(environment: dict[str, Any]) -> dict[str, Any]:
    """Components that are left out say so; optional fields without a value are not written."""
    return {key: "none" if value is None else value for key, value in environment.items()}


def _render_block(block: dict[str, Any], indent: int) -> list[str]:
    lines: list[str] = []
    for key, value in block.items():
        start = f"{' ' * indent}{_key(key)}:"
        if isinstance(value, dict) and value:
            lines += [start, *_render_block(value, indent + 2)]
        elif value == "none" and indent == 4:  # noqa: PLR2004 - a component: the word, not a text
            lines.append(f"{start} none")
        else:
            lines.append(f"{start} {_flow(value)}")
    return lines


def _key(key: str) -> str:
    """A key; quoted where YAML could read it otherwise, or take it for `<<`."""
    return key if _PLAIN.fullmatch(key) else quote(key)


def _flow(value: Any) -> str:  # noqa: ANN401 - a JSON value
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    return quote(value) if isinstance(value, str) else json.dumps(value)


def quote(text: str) -> str:
    """A text in double quotes, in printable ASCII on one line, as YAML and (but for emoji) JSON read it."""
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if " " <= char <= "~":
        return char
    return f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08x}"  # noqa: PLR2004 - the 16-bit form
