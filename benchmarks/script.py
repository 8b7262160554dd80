"""The hand-written script that `up` is measured against: the same processes, settings and data, and no care.

It reads the workloads that `up` stored, writes their files, starts each one the moment what it needs is
ready, and is done when the environment is whole. No locks, no journal, no proof that ports are free, no
limits, no watching. The environment must be down; its data stays.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.exec.identity import find_identity
from asbuilt.plan.workload import from_json
from asbuilt.targets.local.names import CLAIM_PORT, claim_address
from asbuilt.targets.local.probe import Outcome, ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whole import Whole

    from asbuilt.exec.identity import Identity
    from asbuilt.plan.workload import Workload

_EVERY = 0.05
_WITHIN = 120.0


def read_workloads(root: Path) -> dict[str, Workload]:
    """The workloads of an environment that is up, by id."""
    states = (json.loads(path.read_text()) for path in sorted((root / "agent" / "workloads").glob("*.json")))
    return {one.id: one for one in (from_json(state["workload"]) for state in states)}


@contextmanager
def held_addresses(root: Path) -> Iterator[None]:
    """As an agent would: nobody else takes the addresses of an environment that is down for us."""
    slot = json.loads((root / "place.json").read_text())["slot"]
    with socket.socket() as claim:
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        claim.bind((claim_address(slot), CLAIM_PORT))
        claim.listen(1)
        yield


class Script:
    """Starts everything, and at the end kills everything it started."""

    def __init__(self, root: Path, workloads: dict[str, Workload]) -> None:
        self._root, self._workloads = root, workloads
        self._identity: Identity = find_identity()
        self._ready = {name: asyncio.Event() for name in workloads}
        self._children: dict[str, asyncio.subprocess.Process] = {}

    def _write(self, workload: Workload) -> None:
        for folder in workload.directories:
            Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        for file in workload.files:
            path = Path(file.path)
            if not (file.once and path.exists()):
                path.write_text(file.content)
                path.chmod(file.mode)

    async def _start(self, workload: Workload, argv: tuple[str, ...]) -> asyncio.subprocess.Process:
        node = self._root / "nodes" / workload.node
        env = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": f"{node}/home",
            "TMPDIR": f"{node}/tmp",  # noqa: S108 - the node's own
            **dict(workload.env),
            **{name: secret.reveal() for name, secret in workload.secret_env},
        }
        with (self._root / "logs" / f"script-{workload.id}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(self._identity.wrap(argv) if workload.unprivileged else argv),
                cwd=workload.cwd,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _run(self, workload: Workload) -> None:
        # what is no workload was done by `up` before: seeded data, made buckets, migrations
        await asyncio.gather(*(self._ready[name].wait() for name in workload.needs if name in self._ready))
        self._write(workload)
        if workload.before_start and await (await self._start(workload, workload.before_start)).wait() != 0:
            raise RuntimeError(f"before the start of {workload.id}: failed")
        child = self._children[workload.id] = await self._start(workload, workload.argv)
        while workload.ready.exchange and (await ask(workload.ready.exchange)).outcome is not Outcome.GOOD:
            if child.returncode is not None:
                raise RuntimeError(f"{workload.id} ended with status {child.returncode}")
            await asyncio.sleep(_EVERY)
        self._ready[workload.id].set()

    async def up(self, whole: Whole) -> None:
        """Until every workload is ready and the environment is whole."""
        await asyncio.gather(*(self._run(one) for one in self._workloads.values()))
        while not await asyncio.to_thread(whole.reached):  # noqa: ASYNC110 - asked over TCP
            await asyncio.sleep(_EVERY)

    async def down(self) -> None:
        """Stop as `down` would: apps, databases, then the rest; the hard signal after ten seconds."""
        for kinds in ({"app"}, {"database"}, {one.kind for one in self._workloads.values()}):
            chosen = [
                one for one in self._workloads.values() if one.kind in kinds and one.id in self._children
            ]
            for workload in chosen:
                with suppress(ProcessLookupError):
                    os.killpg(self._children[workload.id].pid, getattr(signal, workload.stop.signal))
            for workload in chosen:
                child = self._children.pop(workload.id)
                try:
                    await asyncio.wait_for(child.wait(), 10)
                except TimeoutError:
                    with suppress(ProcessLookupError):
                        os.killpg(child.pid, signal.SIGKILL)
                    await child.wait()
        self._kill_rest()

    def _kill_rest(self) -> None:
        """Some engines start children in sessions of their own; they all work in a node's folder."""
        place = f"{(self._root / 'nodes').resolve()}/"
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if f"{(entry / 'cwd').readlink()}/".startswith(place):
                        os.kill(int(entry.name), signal.SIGKILL)


def start_and_stop(root: Path, workloads: dict[str, Workload], whole: Whole) -> float:
    """Seconds until the environment is whole; everything is stopped again."""

    async def once() -> float:
        script = Script(root, workloads)
        began = time.monotonic()
        try:
            await asyncio.wait_for(script.up(whole), _WITHIN)
            return time.monotonic() - began
        finally:
            await script.down()

    with held_addresses(root):
        return asyncio.run(once())
