"""Runs one drill from its preflight to its report.

Invariants: nothing is broken before everything was looked at and agreed to; a round that ends in any way is
judged; what is left of it is told.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import psycopg

from asbuilt.engines.redis.resp import ReplyError
from asbuilt.graph.model import Kind
from asbuilt.operations.drill.contract import Drill
from asbuilt.operations.drill.database import has_schema
from asbuilt.operations.drill.ground import Ground, open_ground
from asbuilt.operations.drill.preflight import find_interrupted, look_before, only_one
from asbuilt.operations.drill.reports import save_report
from asbuilt.operations.drill.track import LateError, StopError, Track, explain
from asbuilt.operations.prepare import refuse_half_way
from asbuilt.operations.progress import Event, Tell
from asbuilt.operations.session import Session, open_session
from asbuilt.plan.drillreport import Report, Round, make_round
from asbuilt.plan.preflight import Before, describe, find_refusal, render_safety
from asbuilt.plan.verdict import Check, Observed, Verdict
from asbuilt.record.client import Client
from asbuilt.values.clock import now_text, render_utc
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from asbuilt.values.stage import Stage

VERB: Final = "drill"
Confirm = Callable[[str], None]
"""Is told what is going to be broken; raises to refuse."""
_FAILURES: Final = (AsbuiltError, LateError, psycopg.Error, OSError, ReplyError)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for.

    Args:
        drill: which.
        variant: in which way; empty where there is only one.
        repeat: how often.
        patience: seconds without service after which it is stopped; None: what is promised.
    """

    drill: Drill
    variant: str = ""
    repeat: int = 1
    patience: float | None = None

    @property
    def name(self) -> str:
        """The drill with its variant."""
        return f"{self.drill.name} {self.variant}".rstrip()


def run_drill(stage: Stage, wish: Wish, tell: Tell, confirm: Confirm) -> Report:
    """Run it and keep its report.

    Raises RefusedError DRILL-001 and -003 to -008 and LOCK-001 before anything is touched.
    """
    ground = open_ground(stage)
    with only_one(stage):
        before = look_before(ground, wish.drill, wish.variant, tell)
        refusal = find_refusal(before)
        if refusal is not None:
            raise refusal
        blast = wish.drill.blast(ground, wish.variant)
        _announce(stage, wish, before, blast, tell)
        confirm(f"this breaks {', '.join(blast) or 'no node'} of {stage.environment} on purpose: {wish.name}")
        began = datetime.now(UTC)
        name = f"{began:%Y%m%dT%H%M%S}Z-{wish.drill.name}"
        with _at_work(stage, wish, name, blast, tell) as session:
            rounds = _run_rounds(ground, wish, name, blast, tell=tell, session=session)
        report = Report(
            name,
            wish.drill.name,
            wish.variant,
            wish.drill.title,
            stage.name,
            stage.environment,
            Client.this().owner,
            render_utc(began),
            now_text(),
            wish.drill.promise,
            blast,
            describe(before, began),
            wish.drill.not_tested,
            tuple(rounds),
        )
        save_report(stage, report)
    return report


def _announce(stage: Stage, wish: Wish, before: Before, blast: tuple[str, ...], tell: Tell) -> None:
    promise = wish.drill.promise
    tell(Event("note", "", f"{wish.name}: {wish.drill.title}"))
    tell(Event("note", "", f"redundancy is complete; {render_safety(before, datetime.now(UTC))}"))
    tell(Event("note", "", f"hurts {', '.join(blast) or 'no node'} of {stage.name} {stage.environment}"))
    tell(Event("note", "", f"{promise.procedure}: promised to be over within {promise.rto:g} s"))


@contextmanager
def _at_work(
    stage: Stage, wish: Wish, name: str, blast: tuple[str, ...], tell: Tell
) -> Iterator[Session | None]:
    """Hold the environment's lock, or, where the drill's own operations take it, see that it is free."""
    plan = {"drill": name, "variant": wish.variant, "blast": list(blast), "rounds": wish.repeat}
    with open_session(stage, VERB, tell) as session:
        refuse_half_way(stage, session.journal)
        with session.operation(plan):
            if wish.drill.locks:
                yield session
                return
    yield None


def _run_rounds(
    ground: Ground, wish: Wish, name: str, blast: tuple[str, ...], *, tell: Tell, session: Session | None
) -> list[Round]:
    rounds: list[Round] = []
    with _one_interrupt():
        for number in range(1, wish.repeat + 1):
            if wish.repeat > 1:
                tell(Event("note", "", f"round {number} of {wish.repeat}"))
            if number > 1:
                blast = wish.drill.blast(ground, wish.variant)
            if session is not None:
                session.held.check()
            one = run_round(ground, wish, name, blast, tell)
            rounds.append(one)
            tell(Event("note", "", _describe_round(one)))
            if one.decision.verdict is not Verdict.PASSED:
                break  # another one would only hurt more
    return rounds


def _describe_round(one: Round) -> str:
    seen = one.observed
    words = [str(one.decision.verdict)]
    if seen.rto is not None:
        words.append(f"RTO {seen.rto:.2f} s")
    words += [f"{name} {seconds:.2f} s" for name, seconds in one.legs.items()]
    return ", ".join(words)


def run_round(ground: Ground, wish: Wish, name: str, blast: tuple[str, ...], tell: Tell) -> Round:
    """One round, judged however it ends."""
    promise = wish.drill.promise
    track = Track(ground, name, blast, wish.patience or promise.rto, tell)
    began, clock = datetime.now(UTC), time.monotonic()
    try:
        wish.drill.run(track, wish.variant)
    except (StopError, KeyboardInterrupt) as stop:
        track.aborted = explain(stop)
    except _FAILURES as error:
        track.checks.append(Check("the drill ran to its end", good=False, detail=explain(error)))
    tell(Event("started", "drill", "verify"))
    for judge in reversed(track.judges):
        try:
            judge()
        except _FAILURES as error:
            track.checks.append(Check("it could be judged", good=False, detail=explain(error)))
    observed = _observe(track)
    seconds = round(time.monotonic() - clock, 3)
    return make_round(
        promise,
        observed,
        legs=dict(sorted(track.legs.items(), key=lambda leg: leg[1])),
        evidence=track.evidence,
        figures=track.figures,
        began=render_utc(began),
        seconds=seconds,
    )


def _observe(track: Track) -> Observed:
    losses = track.losses
    return Observed(
        fault_on=track.proven,
        rto=None if track.rto is None else round(track.rto, 3),
        rpo=round(losses.seconds, 3) if losses is not None and track.moment else track.rpo,
        lost=len(losses.outside) if losses is not None else 0,
        doubled=len(losses.doubled) if losses is not None else 0,
        two_primaries=track.two_primaries,
        rate=track.rate,
        counted=not track.writes or losses is not None,
        removed=track.removed,
        whole=track.whole,
        left=_find_left(track),
        checks=tuple(track.checks),
        aborted=track.aborted,
    )


def _find_left(track: Track) -> tuple[str, ...]:
    left = []
    interrupted = find_interrupted(track.ground.root)
    if interrupted:
        left.append(f"what {interrupted} broke")
    if track.ground.nodes(Kind.DATABASE):
        try:
            if has_schema(track.ground):
                left.append("the schema asbuilt_drill")
        except (psycopg.Error, OSError):
            left.append("perhaps the schema asbuilt_drill: the database does not answer")
    return tuple(left)


@contextmanager
def _one_interrupt() -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the round; more of them must not end the cleaning up."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
