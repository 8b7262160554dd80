"""Compares the release on its way with the stable one, tick by tick: the gate, and what the servers use.

Only reads. Invariant: what cannot be read counts for nobody, so no evidence is ever made of a missing answer.
"""

from __future__ import annotations

import math
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from typing import TYPE_CHECKING, Final
from urllib.request import ProxyHandler, build_opener

from asbuilt.operations.readings import Readings
from asbuilt.plan.gate import Finding, Gate, Metric, Settings, Verdict
from asbuilt.plan.saturation import check_saturation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asbuilt.operations.traffic import Tick
    from asbuilt.spec.schema import Environment, Rollout
    from asbuilt.targets.local.client import AgentClient

_NOTHING: Final = Finding(Verdict.UNDECIDED, "", "nothing to compare with yet", {})
SATURATION: Final = "saturation"
_TIMEOUT: Final = 0.8
_MOST: Final = 2**20
"""Bytes of a page of metrics that are read."""


class Judge:
    """Hears each tick; `result` is what is known by now."""

    def __init__(self, environment: Environment, client: AgentClient) -> None:
        self._rollout = environment.rollout
        self._lock = threading.Lock()
        self._gate: Gate | None = None
        self._names = ("", "")
        self._servers: Mapping[str, str] = {}
        self._addresses: Mapping[str, tuple[str, int]] = {}
        self._counters = Counters(environment.rollout)
        self._readings = Readings(environment.app, client)
        self._result = _NOTHING

    @property
    def result(self) -> Finding:
        """What is known by now."""
        return self._result

    def compare(
        self,
        candidate: str,
        stable: str,
        servers: Mapping[str, str],
        addresses: Mapping[str, tuple[str, int]],
    ) -> None:
        """From now on `servers` run these releases (by node), and listen there."""
        with self._lock:
            self._servers, self._addresses = servers, addresses
            if self._names != (candidate, stable):
                self._names, self._result = (candidate, stable), _NOTHING
                settings = build_settings(self._rollout)
                self._gate = None if candidate == stable else Gate(settings, candidate, stable)

    def begin_step(self) -> None:
        """The share of the traffic has changed."""
        with self._lock:
            self._readings.begin_step()
            if self._gate is not None:
                self._gate.begin_step()
                if self._result.verdict is not Verdict.BAD:
                    self._result = _NOTHING

    def hear(self, tick: Tick) -> None:
        """What happened in one tick."""
        counters = self._counters.read(self._addresses, self._servers, self._names)
        with self._lock:
            if self._gate is None:
                return
            candidate, stable = self._names
            found = self._gate.observe(
                tick.releases.get(candidate, {}), tick.releases.get(stable, {}), tick.seconds, counters
            )
            self._know(found)
            servers = self._servers
        # the agent may be slow to answer: nobody waits for it under the lock
        self._readings.read(servers)
        with self._lock:
            trouble = check_saturation(
                self._readings.of(candidate, servers), self._readings.of(stable, servers)
            )
            if trouble and self._names == (candidate, stable):
                why = {"verdict": "bad", "reason": SATURATION}
                self._know(Finding(Verdict.BAD, SATURATION, trouble, {**found.evidence, **why}))

    def _know(self, found: Finding) -> None:
        """What is bad stays so."""
        if self._result.verdict is not Verdict.BAD:
            self._result = found


def build_settings(rollout: Rollout) -> Settings:
    """The gate's settings, from the spec."""
    return Settings(
        error_limit=None if rollout.error_limit is None else rollout.error_limit / 100,
        time_limit=None if rollout.time_limit is None else rollout.time_limit.seconds * 1000,
        metrics=tuple(
            Metric(name, lower_is_worse=one.worse == "lower", factor=one.factor)
            for name, one in rollout.metrics.items()
        ),
    )


class Counters:
    """The counters of the spec's metrics, as each app server shows them in Prometheus' text format."""

    def __init__(self, rollout: Rollout) -> None:
        self._metrics = rollout.metrics
        self._last: dict[tuple[str, str, str], float] = {}
        # no proxy of the owner's shell is ever on the way to a loopback address
        self._opener = build_opener(ProxyHandler({}))

    def read(
        self,
        addresses: Mapping[str, tuple[str, int]],
        servers: Mapping[str, str],
        releases: tuple[str, str],
    ) -> dict[str, tuple[int, int]]:
        """By metric, how much it grew since the last look at the candidate's servers and at the stable's."""
        if not self._metrics:
            return {}
        asked = [
            (node, path)
            for node in addresses
            if servers.get(node) in releases
            for path in sorted({one.path for one in self._metrics.values()})
        ]
        with ThreadPoolExecutor(max_workers=8) as pool:
            answers = pool.map(lambda one: self._get(addresses[one[0]], one[1]), asked)
            pages = dict(zip(asked, answers, strict=True))
        found = {}
        for name, metric in self._metrics.items():
            grown = dict.fromkeys(releases, 0.0)
            for node, path in asked:
                page = pages[node, path]
                if path == metric.path and page is not None:
                    value = parse_counter(page, metric.counter)
                    grown[servers[node]] += self._grow((node, servers[node], name), value)
            found[name] = (round(grown[releases[0]]), round(grown[releases[1]]))
        return found

    def _grow(self, key: tuple[str, str, str], value: float | None) -> float:
        if value is None:
            return 0.0
        last = self._last.get(key)
        self._last[key] = value
        # the first value is a start, and a smaller one that of a server that was started again
        return max(0.0, value - last) if last is not None else 0.0

    def _get(self, address: tuple[str, int], path: str) -> str | None:
        url = f"http://{address[0]}:{address[1]}{path}"
        with suppress(OSError, ValueError, HTTPException), self._opener.open(url, timeout=_TIMEOUT) as answer:
            return str(answer.read(_MOST).decode(errors="replace"))
        return None


def parse_counter(page: str, name: str) -> float | None:
    """The sum of a counter over all its labels in a page of Prometheus' text format; None where it is not."""
    line = re.compile(rf"^{re.escape(name)}(?:\{{.*\}})?\s+(\S+)", re.MULTILINE)
    values = []
    for match in line.finditer(page):
        with suppress(ValueError):
            value = float(match[1])
            if math.isfinite(value):
                values.append(value)
    return sum(values) if values else None
