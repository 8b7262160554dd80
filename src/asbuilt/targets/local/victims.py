"""Which processes make up a workload, seen from outside of the agent: who is hurt by a drill.

Invariant: the same processes that the agent itself would fence; never the agent, the caller or its ancestors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.targets.local.files import read_json
from asbuilt.targets.local.leftovers import ancestors
from asbuilt.targets.local.limits import read_members
from asbuilt.targets.local.names import Paths, render_marker
from asbuilt.targets.local.process import Ident, look_around, read_process, select_tree
from asbuilt.targets.local.spawn import read_record

if TYPE_CHECKING:
    from pathlib import Path


def find_tree(root: Path, workload: str) -> frozenset[Ident]:
    """Every living process of one workload."""
    paths = Paths(root)
    state = read_json(paths.state(workload)) or {}
    node = str(state.get("workload", {}).get("node", workload))
    record = read_record(paths.record(workload))
    mains = [read_record(file) for file in paths.pids.glob("*") if file != paths.record(workload)]
    groups = read_json(paths.group(workload)) or {}
    sightings = look_around()
    agent = find_agent_process(root)
    keep = ancestors(sightings) | ({agent.pid} if agent else set())
    return select_tree(
        sightings,
        marker=render_marker(root, workload),
        main=record.ident if record else None,
        node_dir=str(paths.node(node)),
        strays=workload == node,
        others=[one.ident.pid for one in mains if one],
        grouped=read_members(tuple(groups.get("groups", ()))),
        keep=keep,
    )


def find_agent_process(root: Path) -> Ident | None:
    """The agent's own process, answering or not; None when there is none."""
    try:
        pid = int(Paths(root).pid.read_text())
    except (OSError, ValueError):
        return None
    process = read_process(pid)
    return process.ident if process is not None and process.state not in "ZX" else None
