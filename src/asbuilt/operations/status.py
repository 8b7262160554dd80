"""What `asbuilt status --json` says, from the agent and two small files. Light: no schema, no engines."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from asbuilt.observe.snapshot import Health, Seen, Snapshot
from asbuilt.record.journal import Journal
from asbuilt.record.lock import look as look_at_lock
from asbuilt.targets.local.client import find_agent
from asbuilt.targets.local.unwatched import read_unwatched

if TYPE_CHECKING:
    from asbuilt.values.stage import Stage

SUMMARY = "environment.json"
"""Written by `up`: what no process can tell (entry points, nodes without a process, notes)."""

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_WORST = (Health.FAILING, Health.STOPPED, Health.STARTING, Health.DRAINING, Health.READY)


def read_summary(stage: Stage) -> dict[str, Any]:
    """What the last `up` wrote; empty when there was none."""
    try:
        found: dict[str, Any] = json.loads((stage.root / SUMMARY).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


def look(stage: Stage) -> Snapshot:
    """What runs, from the agent or, where it is dead, from what it left. Starts nothing."""
    if not stage.root.is_dir():
        return Snapshot()
    agent = find_agent(stage.root)
    return agent.snapshot() if agent else read_unwatched(stage.root)


def read_status(stage: Stage) -> dict[str, Any]:
    """The status document of DESIGN's contract (without `schema`), with `notes` and each node's `problem`."""
    summary = read_summary(stage)
    snapshot = look(stage)
    nodes = [*fold_nodes(snapshot), *(_static_node(stage, raw) for raw in summary.get("static", []))]
    running = bool(snapshot.workloads)
    notes = list(summary.get("notes", [])) if running else []
    if running and snapshot.agent is None:
        notes.insert(
            0,
            "the agent does not run: traffic goes on, but nothing is restarted; "
            f"asbuilt up {stage.environment} brings it back",
        )
    ready = all(node["health"] == Health.READY for node in nodes)
    operation = _operation(stage)
    return {
        "name": stage.name,
        "environment": stage.environment,
        "target": summary.get("target", "local"),
        "healthy": bool(running and ready and snapshot.agent is not None),
        "release": summary.get("release") if running else None,
        "entrypoints": summary.get("entrypoints", {}) if running else {},
        "nodes": sorted(nodes, key=_order) if running else [],
        "operation": operation,
        "notes": notes,
    }


def _operation(stage: Stage) -> dict[str, str] | None:
    """The operation under way, if any."""
    path = stage.root / "journal.sqlite"
    if not path.exists():
        return None
    journal = Journal.open(path, clock=time.time)
    try:
        holder = look_at_lock(journal)
    finally:
        journal.close()
    if holder is None or not holder.held or holder.client.dead():
        return None
    since = datetime.fromtimestamp(holder.since, UTC).strftime(_TIME)
    return {"verb": holder.verb, "owner": holder.client.owner, "since": since}


_KINDS = ("load-balancer", "app", "database", "cache", "consensus", "objects", "files")


def _order(node: dict[str, Any]) -> tuple[int, int, str]:
    kind = node["kind"]
    number = node["id"].rpartition("-")[2]
    return (
        _KINDS.index(kind) if kind in _KINDS else len(_KINDS),
        int(number) if number.isdecimal() else 0,
        node["id"],
    )


def fold_nodes(snapshot: Snapshot) -> list[dict[str, Any]]:
    """One row a node: its main workload, as unhealthy as the worst of its workloads."""
    groups: dict[str, list[Seen]] = {}
    for seen in snapshot.workloads.values():
        groups.setdefault(seen.node, []).append(seen)
    return [_node(node, group) for node, group in groups.items()]


def _node(node: str, group: list[Seen]) -> dict[str, Any]:
    main = next((seen for seen in group if seen.id == node), group[0])
    worst = min(group, key=lambda seen: _WORST.index(seen.health))
    problem = worst.problem if worst is main or not worst.problem else f"{worst.id}: {worst.problem}"
    return {
        "id": node,
        "kind": main.kind,
        "role": main.role,
        "engine": main.engine,
        "address": main.address,
        "health": str(worst.health),
        "release": main.release,
        "pid": main.pid,
        "zone": main.zone,
        "since": main.since,
        "restarts": sum(seen.restarts for seen in group),
        "limits": main.limited_by,
        "problem": problem,
    }


def _static_node(stage: Stage, raw: dict[str, Any]) -> dict[str, Any]:
    """A node without a process: healthy while its folder is there."""
    folder = stage.root / raw["folder"]
    there = folder.is_dir()
    since = datetime.fromtimestamp(folder.stat().st_ctime, UTC).strftime(_TIME) if there else ""
    return {
        "id": raw["id"],
        "kind": raw["kind"],
        "role": None,
        "engine": raw["engine"],
        "address": str(folder),
        "health": str(Health.READY if there else Health.FAILING),
        "release": None,
        "pid": None,
        "zone": raw["zone"],
        "since": since,
        "restarts": 0,
        "limits": "none",
        "problem": "" if there else f"its folder is gone; asbuilt up {stage.environment} makes it again",
    }
