"""What is still there of an environment that should be gone: looked up, not remembered.

Works without an agent. Invariant: only processes that carry the environment's marker, work below its folder
without a terminal, or descend from such ones are named; never the caller or its ancestors.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from asbuilt.targets.local import limits as limiting
from asbuilt.targets.local.files import read_json
from asbuilt.targets.local.names import Paths, root_hash
from asbuilt.targets.local.process import Ident, Sighting, is_below, look_around, select_tree, send_signal

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE = 10.0


def ancestors(sightings: dict[int, Sighting]) -> set[int]:
    """The caller and those above it: never to be signalled."""
    found, pid = {1}, os.getpid()
    while pid in sightings and pid not in found:
        found.add(pid)
        pid = sightings[pid].process.ppid
    return found


def _groups(root: Path) -> tuple[str, ...]:
    found: list[str] = []
    for file in sorted(Paths(root).groups.glob("*.json")):
        raw = read_json(file)
        found += [str(group) for group in raw["groups"]] if raw else []
    name = root_hash(root)
    for base in limiting.list_bases():
        folder = base / "asbuilt" / name
        if limiting.is_ours(str(folder)):
            found += [str(group) for group in sorted(folder.glob("*/"))]
    return tuple(dict.fromkeys(group.rstrip("/") for group in found if limiting.is_ours(group)))


def find_processes(root: Path) -> dict[Ident, str]:
    """Living processes of the environment, with a word on each. The agent is not one of them."""
    sightings = look_around()
    prefix = root_hash(root) + "/"
    nodes = str(Paths(root).root / "nodes")
    keep = ancestors(sightings)
    markers = {s.marker for s in sightings.values() if s.marker and s.marker.startswith(prefix)}
    grouped = limiting.read_members(_groups(root))
    found: set[Ident] = set()
    for marker in sorted(markers):
        found |= select_tree(
            sightings, marker=marker, main=None, node_dir=nodes, strays=False, grouped=grouped, keep=keep
        )
    found |= {
        s.process.ident
        for pid, s in sightings.items()
        if pid not in keep and s.process.tty == 0 and is_below(s.cwd, nodes)
    }
    return {ident: sightings[ident.pid].process.name for ident in found}


def leftovers(root: Path) -> tuple[str, ...]:
    """One line for each process, cgroup, socket and agent that is still there; () means a clean end."""
    paths = Paths(root)
    lines = [f"process {ident.pid} ({name})" for ident, name in find_processes(root).items()]
    lines += [f"cgroup {group}" for group in _groups(root)]
    if paths.socket.exists():
        lines.append(f"socket {paths.socket}")
    return tuple(sorted(lines))


def remove_empty_groups(root: Path) -> None:
    """Remove the cgroups that have no process any more: the kernel may let go of one only a moment later."""
    limiting.remove(_groups(root))


def kill_leftovers(root: Path) -> None:
    """End without an agent: SIGKILL every process of the environment, remove its cgroups and socket."""
    deadline = time.monotonic() + _PATIENCE
    while (found := find_processes(root)) and time.monotonic() < deadline:
        for ident in found:
            send_signal(ident, signal.SIGKILL)
        time.sleep(0.01)
    limiting.remove(_groups(root))
    paths = Paths(root)
    paths.socket.unlink(missing_ok=True)
