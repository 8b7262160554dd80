"""A campaign of random faults, alone and in pairs, against one production environment under load.

Numbered writes go in through the front door all the time, those of asbuilt's own drills beside them through
the database's route, and every round is judged by the rule of the drills. Passed means for each: whole again
by itself, no acknowledged write lost or doubled, never two writable primaries, nothing left behind. What the
cache loses does not count: it promises less. A fault that left no trace counts as none at all.

The environment's data lives as long as the campaign. That may be stopped after any round and gone on with:
what is known is in a file of JSON lines, and so is every number that was acknowledged.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import psycopg
from campaign_book import Book, to_rows, to_spans
from campaign_faults import Done, Faults
from campaign_targets import Shot, draw
from campaign_watch import Door, Pulse, describe, find_processes
from common import BIN, Environment, Row, print_rows, say, until
from script import read_workloads
from shop import copy_shop
from whole import Whole

from asbuilt.graph.model import Kind
from asbuilt.operations.drill.contract import DATABASE, Drill
from asbuilt.operations.drill.database import DatabaseClients, connect
from asbuilt.operations.drill.ground import Ground, open_ground
from asbuilt.operations.drill.run import Wish, run_round
from asbuilt.operations.drill.writers import Writers
from asbuilt.plan.ledger import Losses, count_losses, measure_rto
from asbuilt.plan.verdict import RATE, Verdict
from asbuilt.targets.local.leftovers import leftovers
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.operations.drill.track import Track
    from asbuilt.operations.progress import Event
    from asbuilt.plan.drillreport import Round

NAME: Final = "production"
PATIENCE: Final = 120.0
"""Seconds without a write, or until it is whole: far below what is promised, far above what it takes."""
STILL: Final = 5.0
"""Seconds for which nothing at all ran: then nobody can tell how long anything took."""
THERE: Final = "every write at the front door is there"
_CLIENTS: Final = 3
_BASELINE: Final = 0.5
_BETWEEN: Final = 1000
"""Numbers left out when it is gone on with: those of writes that were on their way."""


class Campaign:
    """A part of a campaign, while its environment is up."""

    def __init__(self, book: Book, ours: Environment, ground: Ground) -> None:
        self.book, self.ours, self.ground = book, ours, ground
        self.events: list[str] = []
        last = max(book.acknowledged, default=-_BETWEEN)
        self.public = Writers(
            lambda: Door(ground, str(book.seed)), itertools.count(last + _BETWEEN), clients=_CLIENTS
        )
        self._kept = 0

    def whole(self) -> bool:
        """Whether it is, for the balancer and for somebody at the door too."""
        host, port, path, *_ = self.ground.entry
        workloads = read_workloads(self.ground.root)
        return Whole.of(self.ground.root, workloads, f"https://{host}:{port}{path}").reached()

    def await_whole(self) -> None:
        """Before a round: nothing is missing, and writes flow."""
        until(
            lambda: self.whole() and not self.ground.missing(), "the environment to be whole", within=PATIENCE
        )
        until(lambda: self.public.since(time.monotonic() - 1) >= RATE, "writes to flow", within=PATIENCE)

    def tell(self, event: Event) -> None:
        """Keep what a round says, for the evidence of one that fails."""
        self.events.append(f"{time.monotonic():.2f} {event.kind} {event.subject} {event.text}")

    def run_next(self) -> bool:
        """One round more; whether it may be followed by another one."""
        index = 1 + max((one["index"] for one in self.book.rounds), default=0)
        shots = draw(self.book.seed, index)
        done: list[Done] = []
        drill = Drill(
            name="campaign",
            title=" and ".join(shot.kind for shot in shots),
            promise=DATABASE,
            needs=(Kind.DATABASE,),
            replicated=True,
            blast=lambda *_: (),
            run=partial(self._run, shots, done, Random(f"{self.book.seed}:{index}:targets")),
        )
        self.events.clear()
        with Pulse() as pulse:
            found = run_round(self.ground, Wish(drill, "", 1, PATIENCE), f"campaign-{index}", (), self.tell)
        verdict, reasons = found.decision.verdict, found.decision.reasons
        if pulse.late > STILL and not _did_harm(found):
            verdict = Verdict.INCONCLUSIVE
            reasons = (f"the machine stood still for {pulse.late:.0f} s", *reasons)
        self.book.add(
            index=index,
            kinds=[shot.kind for shot in shots],
            done=[one.words for one in done],
            apart=round(done[-1].moment - done[0].moment, 2) if done else 0.0,
            verdict=str(verdict),
            reasons=reasons,
            gap=found.figures.get("gap"),
            route_gap=found.observed.rto,
            whole=found.legs.get("full redundancy"),
            legs=dict(found.legs),
            lost=found.observed.lost,
            doubled=found.observed.doubled,
            two_primaries=found.observed.two_primaries,
            seconds=found.seconds,
            began=found.began,
            writes=found.figures.get("writes acknowledged", 0),
            acknowledged=self._take(),
        )
        self._tell_round(self.book.lines[-1])
        if verdict is Verdict.INCONCLUSIVE:
            self.await_whole()
        good = verdict in {Verdict.PASSED, Verdict.INCONCLUSIVE}
        if not good:
            self._keep_evidence(found)
        return good

    def _run(self, shots: tuple[Shot, ...], done: list[Done], chance: Random, track: Track, _: str) -> None:
        """What is done in one round."""
        track.blast = tuple(node["id"] for node in self.ground.status()["nodes"])
        with (
            DatabaseClients(track, baseline=_BASELINE) as clients,
            Faults(self.ground, self.ours, chance, done) as faults,
        ):
            track.check("writes came in at the front door", self.public.since(time.monotonic() - 1) >= RATE)
            began = track.moment = time.monotonic()
            track.probes["write at the front door"] = lambda: self.public.last(began)
            for shot in shots:
                _shoot(track, faults, shot, began)
            track.until("the faults to be over", faults.are_over, 300.0)
            over = time.monotonic()
            track.proven = all(one.proven for one in done)
            track.until("writes on the route", lambda: clients.writers.steady(over), PATIENCE)
            track.until("writes at the front door", lambda: self.public.steady(over), PATIENCE)
            clients.use_rested()
            track.until("the balancer to serve from all", self.whole, PATIENCE, every=0.2)
            track.wait_whole(within=PATIENCE)
        track.probes.clear()
        track.evidence.extend(one.words for one in done)
        wrong = [one.words for one in done if "BUG-" in one.said or "Traceback" in one.said]
        track.check("asbuilt itself did not stumble", not wrong, "; ".join(wrong))
        self._judge_public(track)

    def _judge_public(self, track: Track) -> None:
        """The writes at the front door of this round: for how long there were none, and what is there."""
        now = time.monotonic()
        fresh = self.public.acknowledged[self._kept :]
        gap = measure_rto([at for at, _ in fresh], track.moment, now)
        if gap is not None:
            track.figures["gap"] = round(gap, 3)
        losses = self.compare(fresh)
        words = f"{len(losses.lost)} of {losses.acknowledged} lost: {losses.lost[:5]}"
        track.check(THERE, not losses.lost, words)
        left = [describe(one) for one in find_processes(self.ours.home) if one.state == "T"]
        track.check("nothing is left stopped", not left, "; ".join(left))

    def compare(self, acknowledged: list[tuple[float, int]]) -> Losses:
        """What was acknowledged with what is there now."""
        numbers = [number for _, number in acknowledged] or [0]
        with connect(self.ground.database_url) as connection:
            connection.execute("SET statement_timeout = '60s'")
            rows = connection.execute(
                "SELECT number FROM ledger WHERE number BETWEEN %s AND %s", (min(numbers), max(numbers))
            ).fetchall()
        return count_losses(acknowledged, [int(row[0]) for row in rows], 0.0)

    def _take(self) -> list[list[int]]:
        """The numbers acknowledged since the last time."""
        numbers = [number for _, number in self.public.acknowledged[self._kept :]]
        self._kept += len(numbers)
        return to_spans(numbers)

    def finish(self) -> None:
        """Compare everything that was ever acknowledged; the last line but one of this part."""
        spans = self._take()
        wanted = self.book.acknowledged | {n for a, b in spans for n in range(a, b + 1)}
        losses = self.compare([(0.0, number) for number in wanted])
        self.book.add(
            all=losses.acknowledged,
            all_lost=losses.lost[:100],
            all_doubled=losses.doubled[:100],
            acknowledged=spans,
        )

    def _tell_round(self, one: dict[str, Any]) -> None:
        apart = f", {one['apart']:.1f} s apart" if len(one["done"]) > 1 else ""
        gap, whole = ("?" if one[name] is None else f"{one[name]:.1f} s" for name in ("gap", "whole"))
        say(
            f"campaign: round {one['index']} of {one['index'] + self.book.missing}: "
            f"{' and '.join(one['done'])}{apart}: "
            f"gap {gap}, whole after {whole}, {one['seconds']:.0f} s: {one['verdict']} "
            + "; ".join(one["reasons"])
        )

    def _keep_evidence(self, found: Round) -> None:
        index = self.book.rounds[-1]["index"]
        folder = self.book.file.parent / f"failed-{index}"
        folder.mkdir(exist_ok=True)
        for name in ("logs", "agent"):
            shutil.copytree(
                self.ground.root / name,
                folder / name,
                ignore=shutil.ignore_patterns("*.sock", "workloads"),
                dirs_exist_ok=True,
            )
        (folder / "events").write_text("\n".join(self.events))
        say(
            f"campaign: FAILED with seed {self.book.seed} in round {index}; the sequence so far: "
            + "; ".join(f"{one['index']} {' + '.join(one['kinds'])}" for one in self.book.rounds[-10:])
        )
        for line in (*found.decision.reasons, *found.evidence, f"logs and events are in {folder}"):
            say(f"  {line}")


def _did_harm(found: Round) -> bool:
    seen = found.observed
    return bool(seen.lost or seen.doubled or seen.two_primaries) or any(
        one.name == THERE and not one.good for one in seen.checks
    )


def _shoot(track: Track, faults: Faults, shot: Shot, began: float) -> None:
    track.until("the next", lambda: faults.is_time(began, shot.after), 60.0, every=0.02)
    track.note(f"now: {faults.shoot(shot).words}")


@contextmanager
def campaign(book: Book) -> Iterator[Campaign]:
    """Its environment, up in the block; what `down` leaves is told."""
    folder = book.file.parent
    home = folder / "home"
    # an agent that we start must see what one sees that a command starts
    os.environ.update(ASBUILT_HOME=str(home), PATH=f"{BIN}:{os.environ['PATH']}")
    project = copy_shop(folder)
    ours = Environment(project, NAME, home)
    try:
        ours.run("up", NAME)
        ground = open_ground(Stage(project / "asbuilt.yaml", "shop", NAME, home))
        one = Campaign(book, ours, ground)
        with one.public:
            one.await_whole()
            yield one
        one.finish()
    finally:
        delete = ("--delete-data", "--confirm", NAME) if book.missing <= 0 else ()
        said = ours.run("down", NAME, *delete, check=False)
        root = home / "shop" / NAME
        left = [
            *map(describe, find_processes(home)),
            *leftovers(root),
            *([said.stderr[-1000:]] if said.returncode else []),
        ]
        if delete and root.exists():
            left.append(str(root))
        book.add(left=left, status=said.returncode)
        for line in left:
            say(f"campaign: left behind: {line}")


def run_part(book: Book, within: float, yield_to: Path | None) -> bool:
    """Rounds until all are done, the time is over or somebody else needs the machine; False: one failed."""
    deadline = time.monotonic() + within
    good = True
    with campaign(book) as one:
        while good and book.missing > 0 and time.monotonic() < deadline:
            if yield_to is not None and yield_to.exists():
                say(f"campaign: {yield_to} is there: stopped for now")
                break
            good = one.run_next()
    return good


def rows(count: int, resume: Path | None = None) -> list[Row]:
    """A whole campaign at one go, or the figures of one that was run in parts."""
    book = Book.read(resume) if resume else Book.begin(int(time.time()), count)
    say(f"campaign: seed {book.seed}; {book.file}")
    if book.missing > 0:
        run_part(book, float("inf"), None)
    found = to_rows(book)
    if not resume and all(row.met is not False for row in found):
        shutil.rmtree(book.file.parent, ignore_errors=True)
    return found


def main() -> int:
    """A campaign, or a part of it; 1 when a round failed."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--count", type=int, default=200)
    words.add_argument("--seed", type=int, default=None, help="by default the time")
    words.add_argument("--resume", type=Path, metavar="FILE", help="go on with a campaign")
    words.add_argument(
        "--within", type=float, default=float("inf"), help="begin no round after so many seconds"
    )
    words.add_argument("--yield-to", type=Path, metavar="FILE", help="stop while this file exists")
    given = words.parse_args()
    book = (
        Book.read(given.resume) if given.resume else Book.begin(given.seed or int(time.time()), given.count)
    )
    say(f"campaign: seed {book.seed}; go on with --resume {book.file}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    good = run_part(book, given.within, given.yield_to) if book.missing > 0 else True
    found = to_rows(book)
    print_rows(found)
    failed = not good or (book.missing <= 0 and any(row.met is False for row in found))
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (AsbuiltError, psycopg.Error, TimeoutError, RuntimeError) as error:
        say(f"campaign: {error}")
        sys.exit(1)
