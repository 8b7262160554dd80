"""Preset, shared block and an environment's own block put together; each value still knows its place.

Rules: an own value beats a shared one beats the preset; blocks are merged key by key, lists and the way a
secret is found are replaced as a whole. `none` removes a component, and a later block puts it back as its
preset has it. A component that the kind's preset lacks (the load balancer of development) is added by the
environment's own block alone, starts as production has it, and takes the shared block too.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from asbuilt.spec.presets import PRESETS
from asbuilt.spec.source import Block, Entry, Listing, Node, Scalar
from asbuilt.values.errors import Place

NOWHERE: Final = Place("", 0, 0)
"""The place of what comes from a preset."""
COMPONENTS: Final = ("app", "rollout", "load_balancer", "database", "cache", "objects", "files", "engines")
NEEDED: Final = frozenset({"app", "rollout", "engines"})
"""Components that can't be left out."""
_NONE_WORDS: Final = frozenset({"none", "None", "null", "Null", "NULL", "~", "false", "False", "no", "off"})


def is_none(node: Node) -> bool:
    """The owner wrote that a component is not wanted. An empty value isn't that: it may be a slip."""
    return isinstance(node, Scalar) and not node.quoted and node.text in _NONE_WORDS


def tree_of(value: Any) -> Node:  # noqa: ANN401 - the plain data of a preset
    """The data of a preset as a tree."""
    if isinstance(value, dict):
        entries = {
            key: Entry(NOWHERE, tree_of(each), "preset") for key, each in value.items() if each is not None
        }
        return Block(NOWHERE, entries)
    return Scalar(NOWHERE, str(value).lower() if isinstance(value, bool) else str(value))


@cache
def preset_of(kind: str, component: str) -> Block | None:
    """A preset's block; nothing where the preset has none."""
    value = PRESETS[kind].get(component, {} if component in NEEDED else None)
    tree = tree_of(value) if value is not None else None
    return tree if isinstance(tree, Block) else None


def combine(
    component: str, kind: str, shared: Block | None, own: Block | None, *, removed: str
) -> Block | None:
    """One component of one environment. `removed`: the block that says `none`, `shared`, `own` or neither."""
    preset = preset_of(kind, component)
    if removed == "own" or (own is None and (preset is None or removed == "shared")):
        return None
    state = preset or preset_of("production", component) or Block(NOWHERE)
    if shared is not None:
        state = overlay(state, shared, "shared")
    if own is not None:
        state = overlay(state, own, "own")
        if component == "app":
            _settle_variables(state, own)
    return state


def overlay(base: Block, over: Block, layer: str, *, deep: bool = True) -> Block:
    """`over` laid on `base`."""
    entries = dict(base.entries)
    for key, entry in over.entries.items():
        below = entries.get(key)
        value = entry.value
        if deep and below is not None and isinstance(below.value, Block) and isinstance(value, Block):
            value = overlay(_labelled(below), value, layer, deep=key != "secrets")
        entries[key] = Entry(entry.place, value, layer)
    return Block(over.place, entries)


def _labelled(entry: Entry) -> Block:
    """The block of an entry, with the entry's layer on each of its own entries."""
    block = entry.value
    if not isinstance(block, Block):
        raise TypeError("only blocks are merged")
    return Block(
        block.place,
        {
            key: Entry(e.place, e.value, e.layer if e.layer not in {"", "<<"} else entry.layer)
            for key, e in block.entries.items()
        },
    )


def _settle_variables(app: Block, own: Block) -> None:
    """A variable that the own block has as a secret is no longer a shared plain one; also the other way."""
    for here, there in (("env", "secrets"), ("secrets", "env")):
        mine = own.entries.get(here)
        other = app.entries.get(there)
        if (
            mine is None
            or other is None
            or not isinstance(mine.value, Block)
            or not isinstance(other.value, Block)
        ):
            continue
        own_other = own.entries.get(there)
        kept = own_other.value.entries if own_other and isinstance(own_other.value, Block) else {}
        entries = {k: e for k, e in other.value.entries.items() if k in kept or k not in mine.value.entries}
        app.entries[there] = Entry(other.place, Block(other.value.place, entries), other.layer)


def raw_of(node: Node) -> Any:  # noqa: ANN401 - what pydantic is given
    """A tree as plain data: text, lists and dictionaries; nothing for a missing value."""
    if isinstance(node, Scalar):
        return None if node.missing else node.text
    if isinstance(node, Listing):
        return [raw_of(item) for item in node.items]
    return {key: raw_of(entry.value) for key, entry in node.entries.items()}
