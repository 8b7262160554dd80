"""What each kind of step does on the local target: the doing half of the plan.

Invariant: every act is idempotent. A step may have run already, in full or in part, before a crash.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asbuilt.engines.app.advice import render_advice
from asbuilt.engines.app.engine import find_host_name
from asbuilt.engines.haproxy import admin as balancer
from asbuilt.engines.haproxy.names import MASTER_SOCKET, find_admin_socket
from asbuilt.engines.postgresql.admin import open_admin
from asbuilt.engines.redis import admin as cache
from asbuilt.graph.model import Kind, Role
from asbuilt.observe.snapshot import Health
from asbuilt.operations.prepare import Prepared
from asbuilt.plan.step import Step, StepKind
from asbuilt.targets.local.client import AgentClient
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.operations.execute import Act
    from asbuilt.plan.workload import Workload

Waiting = Callable[[str], None]
STOP_ROUTING: Final = "no more requests; those under way finish"
DEPLOY: Final = "deploy"
HEALTHY: Final = "the health check is OK"
RESUME_ROUTING: Final = "requests again, once the load balancer finds it healthy"
"""What happens to an app server when it is replaced, as the record of a release tells it, in this order."""
_UP_WITHIN = 30.0
"""Seconds until the balancer must have found a restarted server healthy."""


@dataclass(frozen=True, slots=True)
class Acts:
    """The acts of one operation, under one epoch."""

    prepared: Prepared
    client: AgentClient
    epoch: int
    remember: Callable[[str, str], None]

    def table(self) -> Mapping[str, Act]:
        """What does each kind of step."""
        return {
            StepKind.SETUP: self.set_up,
            StepKind.START: self.start,
            StepKind.RELOAD: self.reload,
            StepKind.RESTART: self.restart,
            StepKind.STOP: stop_act(self.client, self.epoch),
        }

    @property
    def _balancer_socket(self) -> Path:
        return find_admin_socket(self.prepared.site.root)

    @property
    def _master_socket(self) -> Path:
        return self.prepared.site.node_dir("lb-1") / MASTER_SOCKET

    def _workload(self, step: Step) -> Workload:
        return self.prepared.desired.workloads[step.subject]

    def set_up(self, step: Step, waiting: Waiting) -> None:
        """Do a setup unless reality says that it is done and the journal knows it."""
        setup = self.prepared.desired.setups[step.subject]
        waiting(setup.title)
        setup.run()
        self.remember(setup.id, setup.key)

    def start(self, step: Step, waiting: Waiting) -> None:
        """Start a workload and wait until it is ready."""
        workload = self._workload(step)
        if workload.release is not None:
            waiting(f"{DEPLOY} {workload.release}")
        self.client.start(workload, self.epoch)
        try:
            self.client.wait_ready(workload.id, workload.ready.start_timeout, waiting)
        except AsbuiltError as error:
            if step.node_kind == Kind.APP:
                self._advise(error, workload)
            raise

    def _advise(self, error: AsbuiltError, workload: Workload) -> None:
        """Put what an owner can do about it before the hint of an app server that is not ready."""
        advice = render_advice(
            error.evidence,
            address=workload.address,
            health=self.prepared.architecture.spec.app.health,
            name=find_host_name(self.prepared.architecture),
        )
        error.hint = "; ".join(filter(None, (advice, error.hint)))

    def reload(self, step: Step, waiting: Waiting) -> None:
        """Hand a workload its new files while it serves."""
        workload = self._workload(step)
        if step.node_kind == Kind.LOAD_BALANCER:
            self._drain_leavers(waiting)
        waiting("the new configuration to be taken")
        self.client.reload(workload, self.epoch)

    def _drain_leavers(self, waiting: Waiting) -> None:
        """App servers that the balancer is about to forget finish what is under way first."""
        wanted = {node.id for node in self.prepared.architecture.of(Kind.APP)}
        leavers = sorted(balancer.app_servers(self._balancer_socket) - wanted)
        for node in leavers:
            balancer.drain(self._balancer_socket, node)
        limit = self.prepared.architecture.spec.app.drain_timeout.seconds
        deadline = time.monotonic() + limit
        for node in leavers:
            waiting(f"requests under way at {node} to finish")
            balancer.wait_idle(self._master_socket, node, within=max(0.0, deadline - time.monotonic()))

    def restart(self, step: Step, waiting: Waiting) -> None:
        """Replace a running workload; an app server is drained first, a primary hands over first."""
        workload = self._workload(step)
        if step.node_kind == Kind.APP and workload.id == workload.node:
            with_balancer = self._drain(workload, waiting)
            self.start(step, waiting)
            waiting(HEALTHY)
            if with_balancer:
                balancer.ready(self._balancer_socket, workload.node)
                waiting(RESUME_ROUTING)
                balancer.wait_up(self._balancer_socket, workload.node, within=_UP_WITHIN)
            return
        self._hand_over(step, waiting)
        self.start(step, waiting)

    def _drain(self, workload: Workload, waiting: Waiting) -> bool:
        """Take an app server out of rotation; False where there is no running balancer to tell."""
        seen = self.client.snapshot().workloads.get("lb-1")
        if seen is None or seen.health is not Health.READY:
            return False
        waiting(STOP_ROUTING)
        limit = self.prepared.architecture.spec.app.drain_timeout.seconds
        balancer.drain(self._balancer_socket, workload.node)
        balancer.wait_idle(self._master_socket, workload.node, within=limit)
        return True

    def _hand_over(self, step: Step, waiting: Waiting) -> None:
        """Before a primary restarts, a replica takes over, where there is one."""
        seen = self.client.snapshot().workloads
        me = seen.get(step.subject)
        peers = [
            one.node
            for one in seen.values()
            if one.kind == step.node_kind
            and one.id == one.node
            and one.id != step.subject
            and one.health is Health.READY
        ]
        if me is None or me.role != Role.PRIMARY or not peers:
            return
        waiting("a replica to take over")
        if step.node_kind == Kind.DATABASE:
            open_admin(self.prepared.architecture, self.prepared.site).switch_over()
        elif step.node_kind == Kind.CACHE:
            cache.switch_over(self.prepared.architecture, self.prepared.site)


def stop_act(client: AgentClient, epoch: int) -> Act:
    """The only act that `down` needs: it knows no spec, so that it works when the spec is gone or broken."""

    def stop(step: Step, waiting: Waiting) -> None:
        waiting("its processes to end")
        client.stop(step.subject, epoch, forget=True)

    return stop
