"""The signals that the autoscaler decides by, read from the balancer, the agent, /proc and the journal.

Invariant: a signal that cannot be read is None, never a guess.
"""

from __future__ import annotations

import statistics
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from asbuilt.engines.haproxy.admin import Load, ask_load
from asbuilt.engines.haproxy.names import find_admin_socket
from asbuilt.operations.reading import FLEET, ROLLOUT, SCALE, peek_facts
from asbuilt.operations.traffic import Tick, Traffic
from asbuilt.plan.demand import Sample
from asbuilt.plan.fleet import Fleet, from_json
from asbuilt.plan.histogram import Histogram
from asbuilt.targets.local.usage import Usage, read_usage
from asbuilt.targets.local.wire import ask_status
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from asbuilt.values.stage import Stage

_READY = "ready"
_STARTING = "starting"


class Signals:
    """Looks often at what is under way, and makes a sample of several looks.

    Args:
        stage: the environment.
        times: whether response times are wanted: only then the access log is read.
    """

    def __init__(self, stage: Stage, *, times: bool) -> None:
        self._stage = stage
        self._admin = find_admin_socket(stage.root)
        self._traffic = Traffic(stage.root / "logs" / "lb-1.log", self._hear) if times else None
        self._times = Histogram()
        self._under_way: list[int] = []
        self._last: tuple[float, Load] | None = None
        self._usage: dict[str, tuple[float, int, Usage]] = {}

    def __enter__(self) -> Self:
        if self._traffic is not None:
            self._traffic.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._traffic is not None:
            self._traffic.__exit__(*error)

    def look(self) -> None:
        """One look at what is under way."""
        with suppress(AsbuiltError, OSError, ValueError, KeyError):
            self._under_way.append(ask_load(self._admin).in_flight)

    def sample(self) -> Sample | None:
        """What was seen since the last sample; None while there is no fleet, or nothing can be asked."""
        now = time.monotonic()
        facts = peek_facts(self._stage)
        fleet = from_json((facts or {}).get(FLEET))
        status = ask_status(self._stage.root)
        if facts is None or fleet is None or status is None:
            return None
        workloads: dict[str, dict[str, Any]] = status["workloads"]
        servers = self._name_servers(fleet)
        there = {name: workloads[name] for name in servers if name in workloads}
        ready, rate = self._read_load(now, servers)
        manual = facts.get(SCALE, "")
        return Sample(
            at=now,
            wanted=len(servers),
            ready=ready if ready is not None else sum(one["health"] == _READY for one in there.values()),
            starting=sum(one["health"] == _STARTING for one in there.values()),
            crashing=sum(bool(one["looping"]) for one in there.values()),
            in_flight=self._take_under_way(),
            rate=rate,
            p95=self._take_p95(),
            cpu=self._read_cpu(now, there),
            releasing=ROLLOUT in facts or fleet.share > 0,
            by_hand=int(manual) if manual.isdecimal() else None,
            failing_over=_lacks_primary(workloads),
        )

    def _name_servers(self, fleet: Fleet) -> list[str]:
        servers = {f"app-{number}": fleet.servers[number] for number in fleet.running(fleet.stable)}
        if self._traffic is not None:
            self._traffic.serve(servers)
        return list(servers)

    def _read_load(self, now: float, servers: list[str]) -> tuple[int | None, float | None]:
        """App servers in rotation, and requests each second since the last sample."""
        try:
            load = ask_load(self._admin)
        except (AsbuiltError, OSError, ValueError, KeyError):
            self._last = None
            return None, None
        before, self._last = self._last, (now, load)
        ready = len(load.ready.intersection(servers))
        # after a reload the balancer counts from nothing
        if before is None or load.requests < before[1].requests:
            return ready, None
        return ready, (load.requests - before[1].requests) / max(now - before[0], 0.001)

    def _take_under_way(self) -> float | None:
        looks, self._under_way = self._under_way, []
        return statistics.fmean(looks) if looks else None

    def _take_p95(self) -> float | None:
        if self._traffic is None:
            return None
        times, self._times = self._times, Histogram()
        return times.quantile(0.95) if times.total else None

    def _hear(self, tick: Tick) -> None:
        for release in tick.releases:
            self._times.merge(tick.whole(release).times)

    def _read_cpu(self, now: float, there: dict[str, dict[str, Any]]) -> float | None:
        """Part of its limit that a ready server used since the last sample, in the mean."""
        mains = {name: one["pid"] for name, one in there.items() if one["pid"] and one["health"] == _READY}
        usage, shares = read_usage(mains), []
        seen = {}
        for name, used in usage.items():
            seen[name] = (now, mains[name], used)
            before = self._usage.get(name)
            limit = (there[name].get("limits") or {}).get("cpu")
            if before is not None and before[1] == mains[name] and limit:
                shares.append(max(0.0, used.cpu - before[2].cpu) / (now - before[0]) / limit)
        self._usage = seen
        return statistics.fmean(shares) if shares else None


def _lacks_primary(workloads: dict[str, dict[str, Any]]) -> bool:
    """Whether there are databases and none of them is the primary now."""
    roles = [
        one["role"] for name, one in workloads.items() if one["kind"] == "database" and name == one["node"]
    ]
    return bool(roles) and "primary" not in roles
