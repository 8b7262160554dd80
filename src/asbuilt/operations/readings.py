"""What the app servers use, read once in each tick: the readings of `plan.saturation`.

Invariant: memory is bounded, and a server that runs another release than before begins anew.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from asbuilt.plan.saturation import Reading
from asbuilt.targets.local.usage import Usage, read_usage
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asbuilt.spec.schema import App
    from asbuilt.targets.local.client import AgentClient

_MOST: Final = 600
"""Readings kept of a server: ten minutes."""

Key = tuple[str, str]
"""A server and its release."""


class Readings:
    """Collects readings of app servers."""

    def __init__(self, app: App, client: AgentClient) -> None:
        self._client = client
        self._cpu = min(app.cpu, float(os.cpu_count() or 1))
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._memory = min(app.memory.bytes, pages)
        self._last: dict[Key, tuple[float, int, float]] = {}
        self._restarts: dict[Key, int] = {}
        self._seen: dict[Key, list[Reading]] = {}

    def begin_step(self) -> None:
        """Forget what was: restarts and trends are those of one step."""
        self._seen.clear()
        self._restarts.clear()

    def read(self, servers: Mapping[str, str]) -> None:
        """Look at `servers`, release by node, once."""
        workloads = {}
        with suppress(AsbuiltError, OSError):  # an agent that does not answer just now says nothing
            workloads = dict(self._client.snapshot().workloads)
        there = {node: workloads[node] for node in servers if node in workloads}
        usage = read_usage({node: one.pid for node, one in there.items() if one.pid is not None})
        now = time.monotonic()
        for node, one in there.items():
            key = (node, servers[node])
            if one.release != key[1]:
                continue  # not replaced yet
            first = self._restarts.setdefault(key, one.restarts)
            found = usage.get(node)
            reading = Reading(
                now,
                self._cpu_share(key, one.pid, now, found),
                found.memory / self._memory if found else None,
                found.files if found else None,
                one.restarts - first,
            )
            kept = self._seen.setdefault(key, [])
            kept.append(reading)
            del kept[:-_MOST]

    def of(self, release: str, servers: Mapping[str, str]) -> dict[str, list[Reading]]:
        """The readings of those of `servers` that run one release."""
        return {
            node: seen
            for (node, one), seen in list(self._seen.items())
            if one == release and servers.get(node) == release
        }

    def _cpu_share(self, key: Key, pid: int | None, now: float, found: Usage | None) -> float | None:
        if found is None or pid is None:
            self._last.pop(key, None)
            return None
        before = self._last.get(key)
        self._last[key] = (now, pid, found.cpu)
        if before is None or before[1] != pid or now <= before[0]:
            return None
        return max(0.0, found.cpu - before[2]) / (now - before[0]) / self._cpu
