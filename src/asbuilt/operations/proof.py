"""Proves each step of a release before the next: smoke tests, and the comparison with the stable release.

Also counts what users ask and get meanwhile, so that the record of every release says what it cost. A bad
verdict ends any wait of the walk, whatever the strategy; a canary waits at each step for a good one.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from asbuilt.engines.app.engine import find_host_name
from asbuilt.engines.haproxy.admin import set_share
from asbuilt.engines.haproxy.names import find_admin_socket
from asbuilt.operations.judge import Judge
from asbuilt.operations.progress import Event
from asbuilt.operations.runs import take_asked
from asbuilt.operations.smoke import smoke
from asbuilt.operations.traffic import Tick, Traffic
from asbuilt.plan.fleet import WHOLE
from asbuilt.plan.gate import Verdict
from asbuilt.plan.rollout import Strategy
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Collection

    from asbuilt.operations.goal import Pending
    from asbuilt.operations.prepare import Prepared
    from asbuilt.operations.progress import Tell
    from asbuilt.plan.fleet import Fleet
    from asbuilt.plan.gate import Finding
    from asbuilt.plan.rollout import Goal
    from asbuilt.spec.schema import Environment
    from asbuilt.targets.local.client import AgentClient
    from asbuilt.values.stage import Stage

_LOOK = 0.2
"""Seconds between two looks at the verdict."""


class Proof:
    """Watches the traffic while the block runs."""

    def __init__(self, stage: Stage, environment: Environment, client: AgentClient, tell: Tell) -> None:
        self._stage, self._rollout, self._tell = stage, environment.rollout, tell
        self._judge = Judge(environment, client)
        self._traffic = Traffic(stage.root / "logs" / "lb-1.log", self._hear)
        self._proven = 0
        self._braked = True
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

    def serve(self, prepared: Prepared, pending: Pending, moving: Collection[int] = ()) -> None:
        """From now on its fleet serves, on the way from one release to another.

        Servers that are `moving` from one to the other count for neither.
        """
        goal, before = pending.goal, pending.before
        fleet = prepared.fleet
        servers = {f"app-{n}": release for n, release in fleet.servers.items() if n not in moving}
        self._braked = pending.back or pending.rollback or fleet.candidate != goal.release
        site = prepared.site
        self._traffic.serve(servers)
        addresses = {node: (site.addresses[node], site.ports[node]) for node in servers}
        self._judge.compare(goal.release, before, servers, addresses)

    def check(self) -> None:
        """Raise AsbuiltError DEPLOY-008 when the new release is known to be worse by now.

        Also raises BUG-001 when the comparison itself has broken: nobody goes on unwatched.
        """
        if self._traffic.broken is not None:
            raise AsbuiltError("BUG-001", f"the comparison of the releases broke: {self._traffic.broken}")
        found = self._judge.result
        if found.verdict is not Verdict.BAD:
            return
        self._record(found, "", 0.0)
        raise AsbuiltError(
            "DEPLOY-008",
            found.text,
            evidence=_lines(found),
            hint=f"asbuilt logs {self._stage.environment} shows what its servers say",
        )

    def prove(self, prepared: Prepared, fleet: Fleet, goal: Goal, tell: Tell) -> None:
        """Raises AsbuiltError where the release must not go on: DEPLOY-007, DEPLOY-008, DEPLOY-009."""
        if fleet.candidate != goal.release:
            return
        if fleet.share == 0:
            site, name = prepared.site, find_host_name(prepared.architecture)
            for number in fleet.running(goal.release):
                node = f"app-{number}"
                smoke(node, site.addresses[node], site.ports[node], self._rollout.smoke, name)
                tell(Event("note", "smoke", f"{node} passed its smoke test"))
        elif goal.strategy is Strategy.CANARY and self._proven != fleet.share < WHOLE:
            self._stay(f"{fleet.share / 100:g} %", tell)
            self._proven = fleet.share

    def _stay(self, step: str, tell: Tell) -> None:
        """At one step until there is a verdict, or patience ends."""
        began = time.monotonic()
        self._judge.begin_step()
        take_asked(self._stage.root, "promote")  # one of an earlier step is not for this one
        told = False
        while True:
            time.sleep(_LOOK)
            result, waited = self._judge.result, time.monotonic() - began
            tell(Event("waiting", "gate", f"at {step}: {result.text}", waited))  # raises on a bad verdict
            if take_asked(self._stage.root, "promote"):
                return self._record(result, step, waited, "promoted by hand")
            if result.verdict is Verdict.GOOD and waited >= self._rollout.step_time.seconds:
                return self._record(result, step, waited)
            if waited < self._rollout.patience.seconds:
                continue
            if self._rollout.without_evidence == "proceed":
                return self._record(result, step, waited, "went on without enough evidence")
            if self._rollout.without_evidence == "back":
                self._record(result, step, waited)
                raise AsbuiltError(
                    "DEPLOY-009",
                    f"not enough evidence at {step} after {waited:.0f} s: {result.text}",
                    evidence=_lines(result),
                    hint="more traffic or a longer rollout.patience; without_evidence: proceed goes on",
                )
            if not told:
                words = f"not enough evidence at {step}: --promote takes the next step, --abort goes back"
                tell(Event("note", "gate", words, waited))
                told = True

    def _record(self, found: Finding, step: str, waited: float, decision: str = "") -> None:
        """Keep a verdict for the history, each once."""
        if self.verdicts and found.verdict is Verdict.BAD and self.verdicts[-1]["verdict"] == Verdict.BAD:
            return
        text = "; ".join(filter(None, (decision, found.text)))
        kept = {"step": step, "verdict": str(found.verdict), "seconds": round(waited, 1), "text": text}
        self.verdicts.append({**kept, "decision": decision, "evidence": found.evidence})
        self._tell(Event("note", "gate", f"{step}: {text}" if step else text, waited, {"verdict": kept}))

    def _hear(self, tick: Tick) -> None:
        """Each tick, in the thread that reads the log."""
        self._judge.hear(tick)
        if self._judge.result.verdict is Verdict.BAD and not self._braked:
            # at once, whatever the walk waits for just now; it makes it last
            self._braked = True
            with suppress(AsbuiltError):
                set_share(find_admin_socket(self._stage.root), 0)
        data = {}
        words = []
        for release in sorted(tick.releases):
            whole = tick.whole(release)
            p50, p99 = whole.times.quantile(0.5), whole.times.quantile(0.99)
            rate = whole.requests / tick.seconds
            data[release] = {
                "requests_per_second": round(rate, 1),
                "errors": whole.errors,
                "p50_ms": p50,
                "p99_ms": p99,
            }
            words.append(
                f"{release}: {rate:.0f}/s, {whole.errors} errors, p50 {p50:.0f} ms, p99 {p99:.0f} ms"
            )
        self._tell(Event("traffic", "", "; ".join(words) or "no requests", data={"releases": data}))


def _lines(found: Finding) -> tuple[str, ...]:
    """The evidence as lines under an error."""
    return tuple(f"{name}: {json.dumps(value)}" for name, value in found.evidence.items())
