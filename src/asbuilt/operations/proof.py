"""Proves each step of a release before the next: smoke tests, and the comparison with the stable one.

Also counts what users ask and get meanwhile, so that the record of every release says what it cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from asbuilt.engines.app.engine import find_host_name
from asbuilt.operations.smoke import smoke
from asbuilt.operations.traffic import Traffic

if TYPE_CHECKING:
    from asbuilt.operations.prepare import Prepared
    from asbuilt.operations.progress import Tell
    from asbuilt.plan.fleet import Fleet
    from asbuilt.plan.rollout import Goal
    from asbuilt.spec.schema import Rollout
    from asbuilt.targets.local.client import AgentClient
    from asbuilt.values.stage import Stage


class Proof:
    """Watches the traffic while the block runs."""

    def __init__(self, stage: Stage, rollout: Rollout, client: AgentClient) -> None:
        self._stage, self._rollout, self._client = stage, rollout, client
        self._traffic = Traffic(stage.root / "logs" / "lb-1.log")
        self.verdicts: list[dict[str, object]] = []
        """What was found at each step of a canary, with its evidence."""

    def __enter__(self) -> Self:
        self._traffic.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._traffic.__exit__(*error)

    @property
    def requests(self) -> int:
        """Requests of users so far."""
        return self._traffic.requests

    @property
    def lost(self) -> int:
        """How many of them got no answer of an app server."""
        return self._traffic.lost

    def serve(self, fleet: Fleet) -> None:
        """From now on this fleet serves."""
        self._traffic.serve({f"app-{number}": release for number, release in fleet.servers.items()})

    def prove(self, prepared: Prepared, fleet: Fleet, goal: Goal, _tell: Tell) -> None:
        """Raises AsbuiltError where the release must not go on: DEPLOY-007, DEPLOY-008, DEPLOY-009."""
        if fleet.candidate != goal.release:
            return
        nodes = [f"app-{number}" for number in fleet.running(goal.release)]
        if fleet.share == 0:
            site, name = prepared.site, find_host_name(prepared.architecture)
            for node in nodes:
                smoke(node, site.addresses[node], site.ports[node], self._rollout.smoke, name)

    def _count_restarts(self, nodes: list[str]) -> int:
        seen = self._client.snapshot().workloads
        return sum(seen[node].restarts for node in nodes if node in seen)
