"""The agent of one environment: `python -m asbuilt.targets.local.agent ROOT`.

It knows nothing of engines. Traffic does not need it: when it dies, everything runs on, and the next one
adopts what runs. Invariant: one agent for one folder (a lock held for life), and one environment for one
address slot and one public entry (listening sockets held for life).
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asbuilt.exec.identity import find_identity
from asbuilt.exec.subreaper import become_subreaper
from asbuilt.observe.snapshot import Health
from asbuilt.plan.workload import from_json
from asbuilt.targets.local.claims import read_claims, taken_error
from asbuilt.targets.local.files import read_json, write_atomically
from asbuilt.targets.local.host import Host, Reaper
from asbuilt.targets.local.keeper import Keeper
from asbuilt.targets.local.limits import read_machine
from asbuilt.targets.local.listeners import describe_holder
from asbuilt.targets.local.logs import rotate
from asbuilt.targets.local.names import Paths
from asbuilt.targets.local.server import Server
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Coroutine

_TICK = 0.5
_ROTATE_EVERY = 8
_AGENT_LOG_BYTES = 2**20
_CLAIM_TRIES = 20


class Agent:
    """All workloads of one environment."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.keepers: dict[str, Keeper] = {}
        self.epoch = 0
        self.leaving = asyncio.Event()
        host.mains = self._mains_but
        host.stir = self._stir
        host.is_ready = self._is_ready
        self._claims: dict[tuple[str, int], socket.socket] = {}

    def _mains_but(self, workload: str) -> set[int]:
        others = (keeper for name, keeper in self.keepers.items() if name != workload)
        return {keeper.body.main.pid for keeper in others if keeper.body.main is not None}

    def _leave_when_removed(self) -> None:
        """Nothing runs and the folder was removed: nobody could ever reach this agent again."""
        alive = any(keeper.watch.alive for keeper in self.keepers.values())
        if not alive and not self.host.paths.agent.exists():
            self.leaving.set()

    def _is_ready(self, workload: str) -> bool:
        keeper = self.keepers.get(workload)
        return keeper is None or not keeper.wanted or keeper.health is Health.READY

    def claim(self) -> str:
        """Hold what place.json names; words on who holds some of it instead, or nothing."""
        wanted = read_claims(read_json(self.host.paths.place) or {})
        for address, port in wanted:
            if (address, port) in self._claims:
                continue
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address, port))
                sock.listen(1)
            except OSError:
                sock.close()
                return f"{describe_holder(address, port) or 'another program'} holds {address}:{port}"
            self._claims[address, port] = sock
        for gone in [one for one in self._claims if one not in wanted]:
            self._claims.pop(gone).close()
        return ""

    def _stir(self, kind: str) -> None:
        for keeper in self.keepers.values():
            if keeper.workload.kind == kind:
                keeper.stir()

    def remember(self) -> None:
        """Read what an earlier agent was doing. A damaged file is set aside and told of."""
        raw = read_json(self.host.paths.epoch)
        epochs = [int(raw["epoch"])] if raw and isinstance(raw.get("epoch"), int) else []
        for file in sorted(self.host.paths.workloads.glob("*.json")):
            state = read_json(file)
            try:
                if state is None:
                    raise ValueError("not a JSON object")  # noqa: TRY301 - one path for all damage
                workload = from_json(state["workload"])
                keeper = Keeper(self.host, workload, wanted=bool(state["wanted"]), held=bool(state["held"]))
                keeper.restarts = int(state["restarts"])
                epochs.append(int(state["epoch"]))
            except (KeyError, TypeError, ValueError) as error:
                self.host.say(f"{file.name} is damaged ({error}); set aside")
                with suppress(OSError):
                    file.replace(file.with_suffix(".damaged"))
                continue
            keeper.epoch = epochs[-1]
            self.keepers[workload.id] = keeper
        self.epoch = max(epochs, default=0)

    def accept_epoch(self, epoch: int) -> None:
        """Remember the highest epoch. Raises AsbuiltError LOCAL-024 when it cannot be written."""
        if epoch <= self.epoch:
            return
        try:
            write_atomically(self.host.paths.epoch, f'{{"schema": 1, "epoch": {epoch}}}\n', durable=True)
        except OSError as error:
            raise AsbuiltError(
                "LOCAL-024",
                f"cannot write the epoch: {error.strerror}",
                where=str(self.host.paths.epoch),
                hint="free some space and run the command again; what runs goes on running",
            ) from None
        self.epoch = epoch

    async def tick_for_ever(self) -> None:
        """Look for frozen processes, twice a second where a replica could take over, and at log sizes."""
        count = 0
        while True:
            await asyncio.sleep(_TICK)
            count += 1
            try:
                for keeper in tuple(self.keepers.values()):
                    if count % 2 == 0 or keeper.workload.role is not None:
                        keeper.tick()
                if count % _ROTATE_EVERY == 0:
                    self._leave_when_removed()
                    self.claim()  # the place may have been settled only after the start
                    for keeper in tuple(self.keepers.values()):
                        if rotate(keeper.body.log):
                            await asyncio.sleep(0)
                    rotate(self.host.paths.log, max_bytes=_AGENT_LOG_BYTES, kept=1)
            except Exception as error:  # noqa: BLE001 - the next look may succeed
                self.host.say(f"tick: {type(error).__name__}: {error}")


def take_lock(paths: Paths) -> int | None:
    """The lock of the folder, held until this process ends; None when another agent has it."""
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


async def claim_slot(agent: Agent) -> None:
    """Hold the address slot. Raises AsbuiltError LOCAL-013 when somebody else has it."""
    for _ in range(_CLAIM_TRIES):
        taken = agent.claim()
        if not taken:
            return
        await asyncio.sleep(0.05)  # a child of a dead agent may still be about to let go
    raise taken_error(taken)


async def serve(paths: Paths) -> None:
    """Be the agent until told to leave."""
    loop = asyncio.get_running_loop()
    become_subreaper()
    agent = Agent(Host(paths, find_identity(), read_machine(), Reaper(loop)))
    await claim_slot(agent)
    agent.remember()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, agent.leaving.set)
    write_atomically(paths.pid, f"{os.getpid()}\n")
    for keeper in agent.keepers.values():  # all before the first look: each must know the others' processes
        keeper.adopt()
    await asyncio.gather(*(keeper.begin() for keeper in agent.keepers.values()))
    server = Server(agent)
    await server.open()
    agent.host.say(f"agent {os.getpid()} answers")
    gc.freeze()
    ticking = asyncio.ensure_future(agent.tick_for_ever())
    await agent.leaving.wait()
    ticking.cancel()
    await server.close()
    for keeper in agent.keepers.values():
        await keeper.close()
    paths.pid.unlink(missing_ok=True)
    agent.host.say(f"agent {os.getpid()} leaves")


def run(work: Coroutine[Any, Any, None]) -> None:
    """asyncio.run without its own signal handling."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda _loop, context: _say_stray(context))
        runner.run(work)


def _say_stray(context: dict[str, Any]) -> None:
    with suppress(OSError):
        sys.stderr.write(f"stray: {context.get('message')}: {context.get('exception')!r}\n")


def main(argv: list[str]) -> int:
    """Entry point. Status 3: another agent has this folder."""
    paths = Paths(Path(argv[0]))
    os.umask(0o077)
    for folder in (paths.agent, paths.workloads, paths.pids, paths.groups, paths.logs):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = take_lock(paths)
    if lock is None:
        sys.stderr.write("error[LOCAL-025] another agent has this environment\n")
        return 3
    try:
        run(serve(paths))
    except AsbuiltError as error:
        sys.stderr.write(error.render() + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
