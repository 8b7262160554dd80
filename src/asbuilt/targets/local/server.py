"""The agent's private socket: JSON, one request and one answer per line.

    {"schema": 1, "op": "start", "epoch": 7, "workload": {...}}
    {"ok": true, ...}  or  {"ok": false, "error": {"code": ..., "what": ..., ...}}

Invariant: an operation that changes something carries an epoch, and one that is older than the newest epoch
ever accepted is refused: a controller that was paused cannot undo what its successor did.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from asbuilt.plan.workload import from_json
from asbuilt.targets.local.claims import taken_error
from asbuilt.targets.local.keeper import Keeper
from asbuilt.targets.local.names import short_socket_path
from asbuilt.targets.local.process import look_around, read_rss
from asbuilt.values.errors import AsbuiltError, RefusedError

if TYPE_CHECKING:
    from asbuilt.targets.local.agent import Agent

_LINE_LIMIT = 64 * 2**20
_LONGEST_WAIT = 20.0

Request = dict[str, Any]
Op = Callable[[Request], Awaitable[dict[str, Any]]]


class Server:
    """Answers on the socket for one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._reading: dict[str, Op] = {
            "status": self._status,
            "wait": self._wait,
            "probe": self._probe,
            "claim": self._claim,
        }
        self._changing: dict[str, Op] = {
            "start": self._start,
            "stop": self._stop,
            "reload": self._reload,
            "hold": self._hold,
            "release": self._release,
            "shutdown": self._shutdown,
        }

    async def open(self) -> None:
        """Listen. A socket file left by a dead agent is replaced: the folder's lock says that it is dead."""
        path = self._agent.host.paths.socket
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        name, descriptor = short_socket_path(str(path))
        try:
            listener.bind(name)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        path.chmod(0o600)
        listener.listen(128)
        listener.settimeout(0)
        self._server = await asyncio.start_unix_server(self._converse, sock=listener, limit=_LINE_LIMIT)

    async def close(self) -> None:
        """Stop answering and remove the socket."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._connections):
            with suppress(OSError):
                await writer.drain()
            writer.close()
        self._agent.host.paths.socket.unlink(missing_ok=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            if not _is_friend(writer):
                return
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass  # the other side went away, or sent an endless line
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            if not isinstance(request, dict) or request.get("schema") != 1:
                raise AsbuiltError("LOCAL-023", "the agent speaks schema 1")  # noqa: TRY301
            name = request.get("op")
            if name in self._reading:
                return {"ok": True, **await self._reading[name](request)}
            if name in self._changing:
                self._check_epoch(request)
                return {"ok": True, **await self._changing[name](request)}
            raise AsbuiltError("LOCAL-023", f"the agent knows no operation {name!r}")  # noqa: TRY301
        except AsbuiltError as error:
            return {"ok": False, "error": error.to_json()}
        except (KeyError, TypeError, ValueError) as error:
            what = f"not a request: {type(error).__name__}"
            return {"ok": False, "error": AsbuiltError("LOCAL-023", what).to_json()}
        except Exception as error:  # noqa: BLE001 - the client must hear of it, and the agent go on
            self._agent.host.say(f"operation: {type(error).__name__}: {error}")
            what = f"the agent stumbled: {type(error).__name__}"
            return {"ok": False, "error": AsbuiltError("LOCAL-027", what).to_json()}

    def _check_epoch(self, request: Request) -> None:
        epoch = request["epoch"]
        if not isinstance(epoch, int) or isinstance(epoch, bool):
            raise TypeError("epoch")
        if epoch < self._agent.epoch:
            raise RefusedError(
                "LOCAL-022",
                f"operation {epoch} is older than operation {self._agent.epoch}, which is in charge now",
                hint="run the command again",
            )
        self._agent.accept_epoch(epoch)

    def _keeper(self, request: Request) -> Keeper:
        keeper = self._agent.keepers.get(request["id"])
        if keeper is None:
            raise AsbuiltError("LOCAL-023", f"there is no workload {request['id']!r}")
        return keeper

    async def _status(self, request: Request) -> dict[str, Any]:
        wanted = request.get("id")
        chosen = {
            name: keeper for name, keeper in sorted(self._agent.keepers.items()) if wanted in {None, name}
        }
        described = {name: keeper.describe() for name, keeper in chosen.items()}
        if request.get("measure"):
            _measure(chosen, described)
        return {"agent": os.getpid(), "epoch": self._agent.epoch, "workloads": described}

    async def _wait(self, request: Request) -> dict[str, Any]:
        keeper = self._keeper(request)
        await keeper.wait_for_news(int(request["version"]), min(float(request["timeout"]), _LONGEST_WAIT))
        return {"workload": keeper.describe()}

    async def _claim(self, _: Request) -> dict[str, Any]:
        """Hold what place.json names by now, or say who does."""
        words = self._agent.claim()
        if words:
            raise taken_error(words)
        return {}

    async def _probe(self, request: Request) -> dict[str, Any]:
        return {"probe": await self._keeper(request).probe()}

    async def _start(self, request: Request) -> dict[str, Any]:
        workload = from_json(request["workload"])
        keepers = self._agent.keepers
        if workload.id not in keepers:
            keeper = Keeper(self._agent.host, workload)
            keepers[workload.id] = keeper
            keeper.keep()
        return {"done": await keepers[workload.id].start(workload, request["epoch"])}

    async def _stop(self, request: Request) -> dict[str, Any]:
        name = request["id"]
        keeper = self._agent.keepers.get(name)
        if keeper is None:
            return {"done": "absent"}
        await keeper.stop(request["epoch"])
        if request.get("forget"):
            await keeper.close()
            self._agent.keepers.pop(name, None)
            self._agent.host.paths.state(name).unlink(missing_ok=True)
        return {"done": "stopped"}

    async def _reload(self, request: Request) -> dict[str, Any]:
        workload = from_json(request["workload"])
        await self._keeper({"id": workload.id}).reload(workload, request["epoch"])
        return {"done": "reloaded"}

    async def _hold(self, request: Request) -> dict[str, Any]:
        await self._keeper(request).stop(request["epoch"], hold=True)
        return {"done": "held"}

    async def _release(self, request: Request) -> dict[str, Any]:
        await self._keeper(request).release(request["epoch"])
        return {"done": "released"}

    async def _shutdown(self, request: Request) -> dict[str, Any]:
        running = sorted(name for name, keeper in self._agent.keepers.items() if keeper.watch.wanted)
        if running and not request.get("leave"):
            raise RefusedError(
                "LOCAL-026",
                f"{len(running)} workloads still run: {', '.join(running)}",
                hint="stop them first",
            )
        asyncio.get_running_loop().call_later(0.01, self._agent.leaving.set)
        return {"done": "leaving"}


def _measure(keepers: dict[str, Keeper], described: dict[str, dict[str, Any]]) -> None:
    sightings = look_around()
    for name, keeper in keepers.items():
        pids = [ident.pid for ident in keeper.body.tree(sightings)] if keeper.body.main else []
        described[name]["processes"] = len(pids)
        described[name]["rss"] = read_rss(pids)


def _is_friend(writer: asyncio.StreamWriter) -> bool:
    """Only the same user and root may speak, whatever the file's mode says."""
    sock = writer.get_extra_info("socket")
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid = struct.unpack("3i", raw)[1]
    return uid in {0, os.geteuid()}
