"""`deploy`, `rollback` and `scale`: walk from one fleet to the next while users notice nothing.

The walk is `plan.rollout`'s; each move is written down, then made by the same planner and the same acts as
`up`. Invariants: one walk at a time; killed anywhere, the next `deploy` goes on from the fleet on record; a
release that does not get through is left, and what was stable serves again.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from asbuilt.engines.haproxy import admin as balancer
from asbuilt.engines.haproxy.names import find_admin_socket
from asbuilt.graph.model import Kind
from asbuilt.observe.snapshot import Health
from asbuilt.operations.acts import Acts
from asbuilt.operations.broken import spoil
from asbuilt.operations.choose import find_release, remake_release
from asbuilt.operations.entry import verify_entry
from asbuilt.operations.execute import run_plan
from asbuilt.operations.gather import Gathered, gather
from asbuilt.operations.goal import Pending, choose_goal, keep_pending, load_fleet, load_pending
from asbuilt.operations.migrations import render_events, review
from asbuilt.operations.prepare import Offer, Prepared, arrange, refuse_half_way
from asbuilt.operations.progress import Event, Tell
from asbuilt.operations.proof import Proof
from asbuilt.operations.prune import prune_builds
from asbuilt.operations.reading import FLEET, ROLLOUT
from asbuilt.operations.runs import take_asked
from asbuilt.operations.up import remember_summary
from asbuilt.plan.fleet import Fleet, to_json
from asbuilt.plan.planner import plan
from asbuilt.plan.render import render_json
from asbuilt.plan.rollout import advance
from asbuilt.plan.step import Plan, Step, StepKind
from asbuilt.record.releases import Releases, ReleaseState
from asbuilt.values.errors import AsbuiltError, RefusedError, ResumableError

if TYPE_CHECKING:
    from asbuilt.operations.order import Order
    from asbuilt.operations.session import Session
    from asbuilt.plan.site import Release
    from asbuilt.targets.local.client import AgentClient
    from asbuilt.values.stage import Stage


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a walk.

    Args:
        release: the release that serves.
        before: the one that served when it began.
        seconds: how long it took.
        phases: each move in words, with its seconds.
        requests: requests that users made meanwhile.
        lost: how many of them got no answer of an app server: must be 0.
        verdicts: what the gate said at each step, with its evidence.
    """

    release: str
    before: str
    seconds: float
    phases: tuple[tuple[str, float], ...]
    requests: int
    lost: int
    verdicts: tuple[dict[str, object], ...]


def deploy(stage: Stage, order: Order, session: Session, client: AgentClient, tell: Tell) -> Outcome:
    """Bring a release to the users, take one back, or change the number of servers.

    Raises RefusedError DEPLOY-001 (the environment is not up), DEPLOY-002 (nothing to go on with or back to),
    DEPLOY-003 (the release did not get through: what was stable serves again), DEPLOY-004 (aborted, and the
    same), DEPLOY-006 (the strategy needs what the environment lacks), RELEASE-001, RELEASE-003.
    """
    session.lift_epoch(client)
    return _Walk(stage, session, client, order, tell).run()


_NOT_OURS: Final = frozenset({"LOCAL-022"})
"""Refusals of the agent that say that a newer operation is in charge."""


class _AbortedError(RefusedError):
    """Somebody asked for the way back."""


class _Walk:
    """One operation's walk, with what it needs on the way."""

    def __init__(self, stage: Stage, session: Session, client: AgentClient, order: Order, tell: Tell) -> None:
        self._stage, self._session, self._client, self._order = stage, session, client, order
        self._plain_tell = tell
        self._releases = Releases(session.journal)
        gathered: Gathered = gather(stage, touch=True, tell=tell, recall=bool(order.why))
        self._gathered = spoil(gathered) if order.broken else gathered
        self._pending: Pending
        self._skip: frozenset[str] = frozenset()
        self._phases: list[tuple[str, float]] = []
        self._proof = Proof(stage, self._gathered.environment, client, tell)

    def _tell(self, event: Event) -> None:
        """Tell, and listen: an abort or a bad verdict ends any wait, but never the way back itself."""
        self._plain_tell(event)
        if self._pending.back:
            return
        if take_asked(self._stage.root, "abort"):
            raise _AbortedError("DEPLOY-004", "aborted as asked")
        if not self._pending.rollback:  # a way back is not judged by what it leaves
            self._proof.check()

    def run(self) -> Outcome:
        """To the goal, or back to where it began."""
        began = time.monotonic()
        fleet = load_fleet(self._session.journal, self._stage)
        self._pending = self._take_up(fleet)
        self._announce(fleet)
        self._review_migrations(fleet)
        self._keep()
        if self._pending.back and fleet.candidate not in {None, self._pending.goal.release}:
            fleet = self._brake(fleet, fleet.candidate or "")
        with self._proof:
            self._go(fleet)
        return Outcome(
            self._pending.goal.release,
            self._pending.before,
            round(time.monotonic() - began, 3),
            tuple(self._phases),
            self._proof.requests,
            self._proof.lost,
            tuple(self._proof.verdicts),
        )

    def _take_up(self, fleet: Fleet) -> Pending:
        """What is under way, or what is asked for."""
        pending = load_pending(self._session.journal)
        if pending is None:
            return choose_goal(self._gathered, self._session.journal, self._order, fleet)
        if self._order.verb in {"scale", "cool"}:
            refuse_half_way(self._stage, self._session.journal)
        if self._order.abort or (self._order.verb == "rollback" and not pending.rollback):
            if not pending.back:
                self._releases.mark(pending.goal.release, pending.state_when_left)
            return pending.turned_back(fleet)
        return self._go_on(pending, fleet)

    def _go_on(self, pending: Pending, fleet: Fleet) -> Pending:
        """What was under way. Where its build was not finished no traffic has moved: it is made again."""
        record = self._releases.get(pending.goal.release)
        if pending.back or not pending.forward or record is None:
            return pending
        try:
            remake_release(self._gathered, record)
        except AsbuiltError as error:
            if error.code != "RELEASE-003":
                raise
        else:
            return pending
        made, newest = find_release(self._gathered, self._session.journal)
        if newest.id == pending.goal.release:
            return replace(pending, made=made, newest=newest)
        self._session.journal.forget_fact(ROLLOUT)
        return choose_goal(self._gathered, self._session.journal, self._order, fleet)

    def _keep(self) -> None:
        if not self._pending.stays:
            keep_pending(self._session.journal, self._pending)

    def _announce(self, fleet: Fleet) -> None:
        goal = self._pending.goal
        if advance(fleet, goal) is None:
            words = f"release {goal.release} serves already, on {goal.count} app servers"
        elif goal.release == fleet.stable:
            words = self._order.why or f"{goal.count} app servers with release {goal.release}"
        else:
            words = f"release {goal.release} follows {fleet.stable}: {goal.strategy}"
        data = {"release": goal.release, "before": fleet.stable, "strategy": str(goal.strategy)}
        self._plain_tell(Event("note", "", words, data=data))

    def _review_migrations(self, fleet: Fleet) -> None:
        """Before it migrates, say what the serving release cannot live with."""
        if self._pending.newest is None or not self._pending.forward or self._pending.stays:
            return
        found = review(self._stage, self._gathered.loaded, self._session.journal, fleet.stable)
        for event in render_events(found, self._stage.environment):
            self._plain_tell(event)

    def _go(self, fleet: Fleet) -> None:
        try:
            self._walk(fleet)
        except AsbuiltError as error:
            if isinstance(error, ResumableError) or error.code in _NOT_OURS:
                raise  # somebody else is in charge by now: nothing more is touched
            if self._pending.stays:
                self._use_what_came_up()
            if self._pending.back or self._pending.stays:
                raise
            self._give_up(error)
        else:
            self._finish()

    def _use_what_came_up(self) -> None:
        """Not all servers got ready: those that did get their part of the traffic."""
        seen = self._client.snapshot().workloads
        fleet = load_fleet(self._session.journal, self._stage)
        nodes = {f"app-{number}" for number in fleet.servers}
        self._skip = frozenset(n for n in nodes if n not in seen or seen[n].health is not Health.READY)
        with suppress(AsbuiltError):  # the first trouble is the one to tell
            self._move(fleet, fleet)

    def _walk(self, fleet: Fleet) -> None:
        # the first turn makes what a killed walk had written down and not made; a change of the number begins
        # with its goal, so that nobody waits for servers that are to go
        following: Fleet | None = fleet
        if self._pending.stays:
            following = advance(fleet, self._pending.goal) or fleet
        while following is not None:
            prepared = self._move(fleet, following)
            fleet = following
            if not self._pending.back:
                self._proof.prove(prepared, fleet, self._pending.goal, self._tell)
            following = advance(fleet, self._pending.goal)

    def _move(self, fleet: Fleet, following: Fleet) -> Prepared:
        """Write down the next fleet, then make it so."""
        self._session.held.check()
        began = time.monotonic()
        words = describe_move(fleet, following)
        if words:
            self._tell(Event("note", "", words, data={"move": words}))
        self._session.journal.remember_facts({FLEET: to_json(following)})
        prepared = arrange(self._gathered, following, self._offer(following), self._session.journal)
        # what a server that is replaced still answers is its old release's
        self._proof.serve(prepared, self._pending, fleet.find_replaced(following))
        if following.share != fleet.share and following.candidate == fleet.candidate:
            # at once; the file says it too a moment later
            balancer.set_share(find_admin_socket(self._stage.root), following.share)
        self._converge(prepared)
        self._proof.serve(prepared, self._pending)
        self._pending = replace(self._pending, made=None)  # it is built by now
        if words:
            self._phases.append((words, round(time.monotonic() - began, 3)))
        return prepared

    def _offer(self, fleet: Fleet) -> Offer:
        goal = self._pending.goal
        by_id = {one: self._release(one) for one in {*fleet.releases, goal.release}}
        return Offer(by_id[goal.release], self._pending.made, by_id, forward=self._pending.forward)

    def _release(self, one: str) -> Release:
        """A release as it was made: never built again."""
        newest = self._pending.newest
        if newest is not None and one == newest.id:
            return newest
        record = self._releases.get(one)
        if record is None:
            raise AsbuiltError("RELEASE-001", f"there is no release {one}")
        return remake_release(self._gathered, record)

    def _converge(self, prepared: Prepared) -> None:
        seen = replace(self._client.snapshot(), setups=prepared.setups_done)
        steps = plan(prepared.desired, seen)
        steps = self._leave_out(steps, prepared)
        if not steps.empty:
            acts = Acts(prepared, self._client, self._session.epoch, self._session.journal.remember_setup)
            with self._session.operation(render_json(steps)) as operation:
                run_plan(steps, acts.table(), self._session.watch(operation), self._tell)
        balancers = self._client.snapshot().workloads
        if "lb-1" in balancers and balancers["lb-1"].health is Health.READY:
            balancer.restore(find_admin_socket(self._stage.root))
        verify_entry(prepared.site, prepared.architecture, self._tell, wait=not steps.empty)

    def _leave_out(self, steps: Plan, prepared: Prepared) -> Plan:
        """Nobody waits for servers of a release that is left: they may never get ready, or that is why."""
        goal = self._pending.goal.release
        servers = prepared.fleet.servers
        left = {f"app-{number}" for number, release in servers.items() if release != goal} | self._skip
        starts = {StepKind.START, StepKind.RESTART}

        def wanted(step: Step) -> bool:
            if step.destructive:
                return False  # only `up` takes data away, for it asks before
            if self._order.why or self._order.verb == "cool":
                # nobody is there: what else the spec says by now is the owner's to bring about
                moves = step.node_kind == Kind.APP and step.kind in {StepKind.START, StepKind.STOP}
                return moves or (step.subject == "lb-1" and step.kind is StepKind.RELOAD)
            return True

        return Plan(
            tuple(
                one
                for one in steps.steps
                if wanted(one) and (one.subject not in left or one.kind not in starts)
            )
        )

    def _give_up(self, error: AsbuiltError) -> None:
        """Go back to what served, and say why."""
        failed, aborted = self._pending.goal.release, isinstance(error, _AbortedError)
        state = self._pending.state_when_left if aborted else ReleaseState.FAILED
        fleet = load_fleet(self._session.journal, self._stage)
        self._pending = self._pending.turned_back(fleet)
        before = self._pending.goal.release
        self._keep()
        fleet = self._brake(fleet, failed)
        words = "aborted as asked" if aborted else f"release {failed} did not get through: {error.what}"
        self._plain_tell(Event("note", "", f"{words}; going back to {before}", data=error.to_json()))
        self._releases.mark(failed, state)
        self._walk(fleet)
        self._finish()
        self._count()
        raise RefusedError(
            "DEPLOY-004" if aborted else "DEPLOY-003",
            f"{words}; {before} serves",
            where=error.where,
            hint=error.hint or f"the release stays on record: asbuilt releases {self._stage.environment}",
            evidence=error.evidence,
        ) from None

    def _brake(self, fleet: Fleet, failed: str) -> Fleet:
        """No more users for a candidate that failed, at once; the walk back then makes it last."""
        if fleet.candidate != failed or not fleet.share:
            return fleet
        self._session.held.check()
        began = time.monotonic()
        braked = replace(fleet, share=0)
        self._session.journal.remember_facts({FLEET: to_json(braked)})
        with suppress(AsbuiltError):  # a balancer that does not answer is the walk's business
            balancer.set_share(find_admin_socket(self._stage.root), 0)
        words = describe_move(fleet, braked)
        self._phases.append((words, round(time.monotonic() - began, 3)))
        self._plain_tell(Event("note", "", words, data={"move": words}))
        return braked

    def _count(self) -> None:
        """Put on record what a release that did not get through has cost."""
        requests, lost = self._proof.requests, self._proof.lost
        data = {"requests": requests, "lost": lost, "verdicts": self._proof.verdicts}
        self._plain_tell(Event("note", "", f"{requests} requests meanwhile, {lost} lost", data=data))

    def _finish(self) -> None:
        """Write down what serves now."""
        self._session.held.check()
        goal = self._pending.goal
        fleet = load_fleet(self._session.journal, self._stage)
        self._releases.mark_active(goal.release)
        if self._pending.rollback and self._pending.before != goal.release:
            self._releases.mark(self._pending.before, ReleaseState.ROLLED_BACK)
        self._session.journal.forget_fact(ROLLOUT)
        prepared = arrange(self._gathered, fleet, self._offer(fleet), self._session.journal)
        remember_summary(prepared)
        prune_builds(
            self._stage.root / "releases", self._releases.all(), goal.release, self._client.snapshot()
        )


def describe_move(before: Fleet, after: Fleet) -> str:
    """What a move is, in words; empty when nothing changes."""
    added = [n for n in sorted(after.servers) if n not in before.servers]
    gone = [n for n in sorted(before.servers) if n not in after.servers]
    changed = before.find_replaced(after)
    said = []
    if after.candidate == before.candidate and after.share != before.share:
        said.append(f"{after.share / 100:g} % of the traffic to {after.candidate}")
    for verb, numbers, fleet in (
        ("start", added, after),
        ("replace", changed, after),
        ("stop", gone, before),
    ):
        by_release: dict[str, list[str]] = {}
        for number in numbers:
            by_release.setdefault(fleet.servers[number], []).append(f"app-{number}")
        said += [
            f"{verb} {', '.join(names)} {'with' if verb != 'stop' else 'of'} {one}"
            for one, names in by_release.items()
        ]
    if after.stable != before.stable:
        said.append(f"{after.stable} is the stable release")
    return "; ".join(said)
