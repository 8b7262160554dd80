"""What redundancy lacks, in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_READY: Final = "ready"
_GOOD_STATES: Final = frozenset({"streaming", "running"})


def find_not_ready(nodes: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Nodes of a status document that do not serve."""
    return tuple(
        f"{one['id']} is {one['health']}" + (f": {one['problem']}" if one.get("problem") else "")
        for one in nodes
        if one["health"] != _READY
    )


def find_missing_members(members: Iterable[tuple[str, str, str]], wanted: Iterable[str]) -> tuple[str, ...]:
    """What a replicated database lacks of one leader, one synchronous standby and replicas that stream.

    Args:
        members: node, role and state of each.
        wanted: nodes there should be.
    """
    found = {node: (role, state) for node, role, state in members}
    said = [f"{node} is no member" for node in wanted if node not in found]
    roles = [role for role, _ in found.values()]
    if roles.count("leader") != 1:
        said.append(f"{roles.count('leader')} nodes lead")
    if "sync_standby" not in roles:
        said.append("there is no synchronous standby")
    said += [
        f"{node} is {state}"
        for node, (role, state) in sorted(found.items())
        if state not in _GOOD_STATES or (role != "leader" and state != "streaming")
    ]
    return tuple(said)
