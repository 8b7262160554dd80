"""What `asbuilt status --json` says, from the agent and two small files. Light: no schema, no engines."""

from __future__ import annotations

import json
import time

from asbuilt.targets.local.wire import ask_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from asbuilt.values.stage import Stage

SUMMARY = "environment.json"
"""Written by `up`: what no process can tell (entry points, nodes without a process, notes)."""

DECISION = "scaling.json"
"""Written by the autoscaler: what it decided last, and why."""

_READY = "ready"
_WORST = ("failing", "stopped", "starting", "draining", _READY)


def read_summary(stage: Stage) -> dict[str, Any]:
    """What the last `up` wrote; empty when there was none."""
    try:
        found: dict[str, Any] = json.loads((stage.root / SUMMARY).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


def look(stage: Stage) -> tuple[list[dict[str, Any]], bool]:
    """What runs, one record for each workload, and whether the agent is alive. Starts nothing."""
    if not stage.root.is_dir():
        return [], False
    answer = ask_status(stage.root)
    if answer is not None:
        return list(answer["workloads"].values()), True
    from dataclasses import asdict  # noqa: PLC0415 - only when the agent is dead

    from asbuilt.targets.local.unwatched import read_unwatched  # noqa: PLC0415 - the same

    return [asdict(seen) for seen in read_unwatched(stage.root).workloads.values()], False


def read_status(stage: Stage) -> dict[str, Any]:
    """The status document of the command contract, with `notes` and each node's `problem`."""
    summary = read_summary(stage)
    workloads, watched = look(stage)
    nodes = [*fold_nodes(workloads), *(_static_node(stage, raw) for raw in summary.get("static", []))]
    running = bool(workloads)
    notes = list(summary.get("notes", [])) if running else []
    if running and not watched:
        notes.insert(
            0,
            "the agent does not run: traffic goes on, but nothing is restarted; "
            f"asbuilt up {stage.environment} brings it back",
        )
    return {
        "name": stage.name,
        "environment": stage.environment,
        "target": summary.get("target", "local"),
        "healthy": running and watched and all(node["health"] == _READY for node in nodes),
        "release": summary.get("release") if running else None,
        "entrypoints": summary.get("entrypoints", {}) if running else {},
        "nodes": sorted(nodes, key=_order) if running else [],
        "operation": _operation(stage),
        "scaling": _scaling(stage) if running else None,
        "notes": notes,
    }


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _scaling(stage: Stage) -> dict[str, Any] | None:
    """What the autoscaler decided last; None where there is none."""
    try:
        found: dict[str, Any] = json.loads((stage.root / DECISION).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return {name: found.get(name) for name in ("at", "servers", "reason", "at_ceiling")}


def _operation(stage: Stage) -> dict[str, str] | None:
    """The operation under way, if any."""
    path = stage.root / "journal.sqlite"
    if not path.exists():
        return None
    import sqlite3  # noqa: PLC0415 - only where there is a journal

    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)
        try:
            held = connection.execute("SELECT 1 FROM lock WHERE held = 1").fetchone()
        finally:
            connection.close()
    except sqlite3.Error:
        return None  # a damaged journal is the next `up`'s business, not a reason to show no status
    return _holder(stage) if held else None


def _holder(stage: Stage) -> dict[str, str] | None:
    from asbuilt.record.journal import Journal  # noqa: PLC0415 - only while an operation is under way
    from asbuilt.record.lock import look as look_at_lock  # noqa: PLC0415 - the same

    journal = Journal.open(stage.root / "journal.sqlite", clock=time.time)
    try:
        holder = look_at_lock(journal)
    finally:
        journal.close()
    if holder is None or not holder.held or holder.client.dead():
        return None
    return {"verb": holder.verb, "owner": holder.client.owner, "since": _utc(holder.since)}


_KINDS = ("load-balancer", "app", "database", "cache", "consensus", "objects", "files")


def _order(node: dict[str, Any]) -> tuple[int, int, str]:
    kind = node["kind"]
    number = node["id"].rpartition("-")[2]
    return (
        _KINDS.index(kind) if kind in _KINDS else len(_KINDS),
        int(number) if number.isdecimal() else 0,
        node["id"],
    )


def fold_nodes(workloads: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a node: its main workload, as unhealthy as the worst of its workloads."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for seen in workloads:
        groups.setdefault(seen["node"], []).append(seen)
    return [_node(node, group) for node, group in groups.items()]


def _node(node: str, group: list[dict[str, Any]]) -> dict[str, Any]:
    main = next((seen for seen in group if seen["id"] == node), group[0])
    worst = min(group, key=lambda seen: _WORST.index(seen["health"]))
    problem = worst["problem"]
    if problem and worst is not main:
        problem = f"{worst['id']}: {problem}"
    return {
        "id": node,
        "kind": main["kind"],
        "role": main["role"],
        "engine": main["engine"],
        "address": main["address"],
        "health": worst["health"],
        "release": main["release"],
        "pid": main["pid"],
        "zone": main["zone"],
        "since": main["since"],
        "restarts": sum(seen["restarts"] for seen in group),
        "limits": main["limited_by"],
        "problem": "" if worst["health"] == _READY else problem,
    }


def _static_node(stage: Stage, raw: dict[str, Any]) -> dict[str, Any]:
    """A node without a process: healthy while its folder is there."""
    folder = stage.root / raw["folder"]
    there = folder.is_dir()
    since = _utc(folder.stat().st_ctime) if there else ""
    return {
        "id": raw["id"],
        "kind": raw["kind"],
        "role": None,
        "engine": raw["engine"],
        "address": str(folder),
        "health": _READY if there else "failing",
        "release": None,
        "pid": None,
        "zone": raw["zone"],
        "since": since,
        "restarts": 0,
        "limits": "none",
        "problem": "" if there else f"its folder is gone; asbuilt up {stage.environment} makes it again",
    }
