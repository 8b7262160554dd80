"""Keeps one workload as it should be: the loop around `supervise.decide`, and what an operator asks for.

Invariant: whatever changes the processes happens under the lock, one thing at a time; what is wanted is on
disk before anything is done about it.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from asbuilt.observe.snapshot import Health
from asbuilt.plan.workload import Workload, to_json
from asbuilt.targets.local.body import Body
from asbuilt.targets.local.files import write_atomically
from asbuilt.targets.local.host import Host, tell_status
from asbuilt.targets.local.probe import Answer, Outcome, ask
from asbuilt.targets.local.supervise import (
    PROBE_ROLE,
    Ask,
    Failures,
    Fence,
    Rest,
    Start,
    Watch,
    decide,
    judge,
    next_probe,
    with_answer,
)
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_AFTER_FENCE_TRIES = 3
_AFTER_FENCE_PAUSE = 0.2
_PATIENCE = 120.0
"""Seconds that a workload waits for what it needs after a boot; then it tries on its own."""
_NEEDS_PAUSE = 0.1


class Keeper:
    """One workload under supervision."""

    def __init__(self, host: Host, workload: Workload, *, wanted: bool = False, held: bool = False) -> None:
        self.host = host
        self.workload = workload
        self.wanted = wanted
        self.held = held
        self.restarts = 0
        self.epoch = 0
        self.body = Body(host, workload, self._main_ended)
        self.digest = workload.digest
        self.watch = Watch()
        self.role: str | None = None
        self.problem = ""
        self.error: AsbuiltError | None = None
        self.last_answer: Answer | None = None
        self.version = 0
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._abort = asyncio.Event()
        self._news = asyncio.Event()
        self._stale = False
        self._patient_until = 0.0
        self._ports_proven = False
        self._next_role = 0.0
        self._shown: tuple[object, ...] = ()
        self._digested: tuple[Workload, str] | None = None
        self._spread = zlib.crc32(workload.id.encode()) / 2**32
        self._question: asyncio.Task[None] | None = None
        self._loop_task: asyncio.Task[None] | None = None

    # -- what is on disk ----------------------------------------------------------------------------------

    def persist(self) -> None:
        """Write what is wanted. Raises AsbuiltError LOCAL-024."""
        state = {
            "schema": 1,
            "epoch": self.epoch,
            "wanted": self.wanted,
            "held": self.held,
            "restarts": self.restarts,
            "workload": to_json(self.workload),
        }
        try:
            write_atomically(self.host.paths.state(self.workload.id), json.dumps(state))
        except OSError as error:
            raise AsbuiltError(
                "LOCAL-024",
                f"cannot write the state of {self.workload.id}: {error.strerror}",
                where=str(self.host.paths.workloads),
                hint="free some space and run the command again; what runs goes on running",
            ) from None

    # -- the loop -----------------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def adopt(self) -> None:
        """Take over what an earlier agent left running."""
        record = self.body.read_record()
        if record is not None and self.body.adopt(record):
            self._stale = record.digest != self.workload.process_digest
            self.watch = Watch(wanted=True, alive=True, started=self._now())
        elif record is not None and self.wanted and not self.held:
            self.problem = "its main process ended while nobody watched"
            self.watch = Watch(wanted=True, started=self._now())  # not clean: decide() fences it

    async def begin(self) -> None:
        """End what should not run, and start to keep."""
        should_run = self.wanted and not self.held
        if self.watch.alive and should_run and not self._stale:
            self.host.say(f"{self.workload.id}: adopted pid {self.body.main.pid if self.body.main else '-'}")
        elif self.watch.alive:
            self.host.say(f"{self.workload.id}: ending what an interrupted operation left")
            await self._end()
            self.watch = Watch(wanted=should_run, clean=True)
        elif not self.watch.wanted:
            # nothing on record: after a boot, when nobody else keeps the order of starting
            await self.body.kill_all()
            self.watch = Watch(wanted=should_run, clean=True)
            self._patient_until = self._now() + _PATIENCE
        self.keep()

    def keep(self) -> None:
        """Start to keep; a new workload needs nothing before, `start` looks for leftovers itself."""
        self._loop_task = asyncio.ensure_future(self._keep())

    async def _keep(self) -> None:
        while True:
            try:
                await self._turn()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - one workload's bad luck must not end the agent
                self.host.say(f"{self.workload.id}: {type(error).__name__}: {error}")
                self.problem = f"the agent stumbled: {type(error).__name__}: {error}"
                await asyncio.sleep(1)

    async def _turn(self) -> None:
        self._wake.clear()
        probe = self.workload.ready
        async with self._lock:
            action = decide(
                self.watch, self._now(), hang_after=probe.hang_after, start_timeout=probe.start_timeout
            )
            if isinstance(action, Fence):
                await self._fence(action.reason)
            elif isinstance(action, Start):
                lacking = self._lacking()
                if lacking:
                    self.problem = f"waiting for {lacking}"
                    action = Rest(self._now() + _NEEDS_PAUSE)
                else:
                    await self._start()
        self._tell()
        if isinstance(action, Ask):
            self.watch = replace(self.watch, probing=True)
            self._question = asyncio.ensure_future(self._ask())
        elif isinstance(action, Rest):
            with suppress(TimeoutError):
                async with asyncio.timeout_at(action.until):
                    await self._wake.wait()

    def _lacking(self) -> str:
        if self._now() >= self._patient_until:
            return ""
        return next((need for need in self.workload.needs if not self.host.is_ready(need)), "")

    def _main_ended(self) -> None:
        self.watch = replace(self.watch, alive=False, clean=False, good=False, frozen_since=None)
        self._wake.set()
        self.host.stir(self.workload.kind)

    def tick(self) -> None:
        """The look that is taken all the time: is it frozen?"""
        if not self.watch.alive:
            return
        if not self.body.is_frozen():
            since = None
        elif self.watch.frozen_since is None:
            since = self._now()
        else:
            since = self.watch.frozen_since
        if since is not None or self.watch.frozen_since is not None:
            self.watch = replace(self.watch, frozen_since=since)
            self._wake.set()

    def stir(self) -> None:
        """Something happened to a fellow: ask for the role at once."""
        if self.workload.role is not None and self.watch.alive:
            self._next_role = 0.0
            self.watch = replace(self.watch, next_probe=0.0)
            self._wake.set()

    # -- starting and fencing -----------------------------------------------------------------------------

    async def _start(self) -> None:
        try:
            self.body.prepare()
            if not await self.body.run_first(self._abort):
                await self.body.kill_all()
                return
            await self.body.launch()
        except AsbuiltError as error:
            await self.body.kill_all()
            self._failed(error.what, 0.0, error)
            return
        now = self._now()
        # a process that ended at once has already been told of: its end must not be overwritten
        ended = self.body.gone.is_set()
        self.watch = Watch(wanted=True, alive=not ended, started=now, failures=self.watch.failures)
        self._ports_proven, self._next_role, self.role = False, 0.0, None
        self.last_answer, self.error = None, None
        self.problem = "started, not asked yet"
        pid = self.body.main.pid if self.body.main else "-"
        self.host.say(f"{self.workload.id}: started pid {pid}")
        self.host.stir(self.workload.kind)

    def _failed(self, problem: str, ran: float, error: AsbuiltError | None = None) -> None:
        now = self._now()
        failures = self.watch.failures.after(now, ran)
        self.watch = Watch(wanted=True, clean=True, failures=failures)
        self.restarts += 1
        again = max(0.0, failures.retry_at - now)
        words = "crash loop; " if failures.looping else ""
        self.problem = f"{problem}; {words}starting again in {again:.1f} s"
        self.error, self.role = error, None
        self.host.say(f"{self.workload.id}: {self.problem}")
        with suppress(AsbuiltError):  # told by problem and log; a full disk must not stop the restart
            self.persist()
        self.host.stir(self.workload.kind)

    async def _fence(self, reason: str) -> None:
        ran, alive = self._now() - self.watch.started, self.watch.alive
        self.host.say(f"{self.workload.id}: fencing, {reason}")
        self._tell()
        count = await self.body.kill_all()
        await self._after_fence()
        await self._after_failure()
        words = reason if alive else f"its main process {tell_status(self.body.status)}"
        left = f" ({count} process{'es' if count != 1 else ''} killed)" if count else ""
        self._failed(words + left, ran)

    async def _after_fence(self) -> None:
        exchange = self.workload.after_fence
        if exchange is None:
            return
        # a late release could take away what the next process has won, so only before that one starts
        for number in range(_AFTER_FENCE_TRIES):
            if number:
                await asyncio.sleep(_AFTER_FENCE_PAUSE)
            answer = await ask(exchange)
            if answer.outcome is Outcome.GOOD:
                self.host.say(f"{self.workload.id}: after the fence: {exchange.shown}: done")
                return
            self.host.say(f"{self.workload.id}: after the fence: {exchange.shown}: {answer.got}")

    async def _after_failure(self) -> None:
        if not self.workload.after_failure:
            return
        try:
            await self.body.run_after_failure(self._abort)
        except AsbuiltError as error:
            self.host.say(f"{self.workload.id}: {error.what}")
        await self.body.kill_all()

    # -- asking -------------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        main, asked, exchange = self.body.main, self._now(), self.workload.ready.exchange
        try:
            answer = Answer(Outcome.GOOD, "runs") if exchange is None else await ask(exchange)
            if self.body.main != main or not self.watch.alive:
                return
            good = answer.outcome is Outcome.GOOD
            if good and not self._ports_proven:
                self._ports_proven, trouble = self.body.check_ports()
                if trouble != self.watch.trouble:
                    self.watch = replace(self.watch, trouble=trouble)
            answered = answer.outcome is not Outcome.SILENT
            self.watch = with_answer(self.watch, asked, good=good, answered=answered)
            self.last_answer = answer
            shown = exchange.shown if exchange else ""
            self.problem = self.watch.trouble or ("" if good else f"{shown}: {answer.got}")
            if self.workload.role is not None and self._now() >= self._next_role:
                await self._ask_role()
        except Exception as error:  # noqa: BLE001 - a bad expression or certificate is a failed question
            self.problem = f"cannot ask: {type(error).__name__}: {error}"
            self.watch = replace(self.watch, good=False)
        finally:
            due = next_probe(
                self.watch,
                self._now(),
                member=self.workload.role is not None,
                spread=self._spread,
                start_timeout=self.workload.ready.start_timeout,
            )
            self.watch = replace(self.watch, probing=False, next_probe=due)
            self._tell()
            self._wake.set()

    async def _ask_role(self) -> None:
        if self.workload.role is None:
            return
        main = self.body.main
        self._next_role = self._now() + PROBE_ROLE
        answer = await ask(self.workload.role.primary)
        if self.body.main != main:
            return
        role = {Outcome.GOOD: "primary", Outcome.BAD: "replica", Outcome.SILENT: None}[answer.outcome]
        if role != self.role:
            self.role = role
            self.host.stir(self.workload.kind)

    # -- telling ------------------------------------------------------------------------------------------

    @property
    def health(self) -> Health:
        """How it does now."""
        return judge(self.watch, self._now(), start_timeout=self.workload.ready.start_timeout)

    def _tell(self) -> None:
        shown = (self.health, self.problem, self.role, self.body.main, self.digest, self.watch.failures.count)
        if shown != self._shown:
            self._shown = shown
            self.version += 1
            self._news.set()
            self._news = asyncio.Event()

    async def wait_for_news(self, version: int, timeout: float) -> None:  # noqa: ASYNC109 - a plain deadline
        """Until something shown is newer than `version`, at most `timeout` seconds."""
        if self.version == version:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._news.wait()

    def _process_digest(self) -> str:
        if self._digested is None or self._digested[0] is not self.workload:
            self._digested = self.workload, self.workload.process_digest
        return self._digested[1]

    def describe(self) -> dict[str, Any]:
        """The fields of `Seen`, and more for who waits."""
        engine = self.body.engine()
        health = self.health
        work = self.workload
        return {
            "id": work.id,
            "node": work.node,
            "kind": work.kind,
            "engine": work.engine,
            "digest": self.digest,
            "process_digest": self._process_digest(),
            "health": str(health),
            "role": self.role if self.watch.alive else None,
            "pid": engine.pid if engine and self.watch.alive else None,
            "address": work.address,
            "zone": work.zone,
            "release": work.release,
            "since": self.body.since,
            "restarts": self.restarts,
            "problem": "" if health in {Health.READY, Health.STOPPED} else self.problem,
            "needs": list(work.needs),
            "limited_by": self.body.applied.by if self.watch.alive else "none",
            "main_pid": self.body.main.pid if self.body.main else None,
            "limits": asdict(self.body.applied.limits),
            "held": self.held,
            "looping": self.watch.failures.looping,
            "failures": self.watch.failures.count,
            "error": self.error.to_json() if self.error else None,
            "asked": work.ready.exchange.shown if work.ready.exchange else "",
            "got": self.last_answer.got if self.last_answer else "",
            "log": str(self.body.log),
            "version": self.version,
        }

    # -- what an operator asks for --------------------------------------------------------------------------

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        self._abort.set()
        async with self._lock:
            self._abort.clear()
            try:
                yield
            finally:
                self._tell()
                self._wake.set()

    async def start(self, workload: Workload, epoch: int) -> str:
        """Run this workload; what was done: `unchanged`, `started` or `replaced`."""
        async with self._exclusive():
            self.epoch = epoch
            self._patient_until = 0.0  # whoever starts it keeps the order
            if self.wanted and not self.held and workload.digest == self.digest:
                if not self.watch.alive or self.watch.failures.looping:  # whoever asks has probably mended it
                    self.watch = replace(self.watch, failures=Failures())
                    self.error = None
                return "unchanged"
            before = self.workload, self.wanted, self.held
            self.workload, self.wanted, self.held = workload, True, False
            try:
                self.persist()
            except AsbuiltError:
                self.workload, self.wanted, self.held = before
                raise
            replaced = self.watch.alive
            await self._end()
            self.body = Body(self.host, workload, self._main_ended)
            self.digest, self.error, self.problem = workload.digest, None, "about to start"
            self.watch = Watch(wanted=True, clean=True)
            return "replaced" if replaced else "started"

    async def stop(self, epoch: int, *, hold: bool = False) -> None:
        """End it and keep it ended. `hold`: it is still wanted, `release` starts it again."""
        async with self._exclusive():
            self.epoch, self.held = epoch, hold
            self.wanted = self.wanted if hold else False
            try:
                self.persist()
            finally:  # a full disk must not keep anything running
                await self._end()

    async def release(self, epoch: int) -> None:
        """Undo `hold`."""
        async with self._exclusive():
            self.epoch, self.held = epoch, False
            self.persist()
            if self.wanted and not self.watch.wanted:
                self.watch = Watch(wanted=True, clean=True)

    async def reload(self, workload: Workload, epoch: int) -> None:
        """Take new files without a restart. Raises LOCAL-035 (bad answer) or LOCAL-036 (cannot)."""
        async with self._exclusive():
            if workload.process_digest != self.workload.process_digest or workload.reload is None:
                raise AsbuiltError(
                    "LOCAL-036", f"{workload.id} cannot take this change by a reload", hint="start it anew"
                )
            if not self.watch.alive:
                raise AsbuiltError("LOCAL-036", f"{workload.id} does not run", hint="start it")
            self.body.workload = workload
            try:
                self.body.write_files(again=True)
            except OSError as error:
                self.body.workload = self.workload
                raise AsbuiltError(
                    "LOCAL-024", f"cannot write the files of {workload.id}: {error.strerror}"
                ) from None
            answer = await ask(workload.reload)
            if answer.outcome is not Outcome.GOOD:
                self.body.workload = self.workload
                with suppress(OSError):
                    self.body.write_files(again=True)
                raise AsbuiltError(
                    "LOCAL-035",
                    f"{workload.id} did not take its new configuration",
                    where=workload.reload.shown,
                    evidence=(f"{workload.reload.shown}: {answer.got}",),
                )
            self.workload, self.digest, self.epoch = workload, workload.digest, epoch
            self._ports_proven = False
            self.persist()

    async def _end(self) -> None:
        """Signal, grace, then the whole tree. A frozen process gets no grace: it cannot use it."""
        stop = self.body.workload.stop
        killed = False
        if self.watch.alive and self.body.main is not None:
            self.watch = replace(self.watch, wanted=False)
            frozen = self.body.is_frozen()
            if not frozen and self.body.signal_main(stop.signal):
                with suppress(TimeoutError):
                    async with asyncio.timeout(stop.grace):
                        await self.body.gone.wait()
            killed = not self.body.gone.is_set()
        await self.body.kill_all()
        if killed:
            self.host.say(f"{self.workload.id}: killed after {stop.grace:g} s")
            await self._after_fence()
        self.body.forget()
        self.watch = Watch(wanted=False, clean=True)
        self.role, self.problem = None, ""
        self.host.stir(self.workload.kind)

    async def probe(self) -> dict[str, str]:
        """Ask the readiness question now."""
        exchange = self.workload.ready.exchange
        if exchange is None:
            return {"outcome": "good" if self.watch.alive else "silent", "asked": "", "got": ""}
        answer = await ask(exchange)
        return {"outcome": answer.outcome.value, "asked": exchange.shown, "got": answer.got}

    async def close(self) -> None:
        """Stop keeping; the processes are left as they are."""
        for task in (self._loop_task, self._question):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
