from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from asbuilt.plan.workload import Exchange, Limits, Listen, Probe, Stop, Workload
from asbuilt.targets.local.client import ensure_agent, find_agent
from asbuilt.targets.local.leftovers import kill_leftovers, leftovers

ENGINE = str(Path(__file__).with_name("tiny_engine.py"))
_hosts = itertools.count(1)


class Yard:
    """One environment folder with an agent, at an address of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        number = next(_hosts)
        self.host = f"127.200.{os.getpid() % 250}.{number % 250 + 1}"
        self.epoch = 1
        self.client = ensure_agent(root)

    def workload(self, name: str = "app-1", *words: str, port: int = 7000, **changes: Any) -> Workload:  # noqa: ANN401 - fields of Workload
        node = name.split(".", maxsplit=1)[0]
        folder = self.root / "nodes" / node
        exchange = Exchange(
            self.host, port, expect=r"^pid \d+", timeout=0.5, shown=f"pid of {self.host}:{port}"
        )
        given: dict[str, Any] = {
            "id": name,
            "node": node,
            "kind": "app",
            "engine": "tiny 1",
            "argv": (sys.executable, "-S", ENGINE, self.host, str(port), *words),
            "cwd": str(folder / "data"),
            "ready": Probe(exchange, hang_after=2.0, start_timeout=10.0),
            "listens": (Listen(self.host, port, "main"),),
            "stop": Stop(grace=5.0),
            "limits": Limits(),
            **changes,
        }
        return Workload(**given)

    def up(self, workload: Workload, timeout: float = 15.0) -> int:
        """Start it, wait, and return the pid it answers with."""
        self.client.start(workload, self.epoch)
        self.client.wait_ready(workload.id, timeout)
        return self.answer(workload)

    def answer(self, workload: Workload) -> int:
        """The pid that answers; 0 when nobody does."""
        assert workload.ready.exchange is not None
        with (
            suppress(OSError, IndexError),
            socket.create_connection(
                (workload.ready.exchange.host, workload.ready.exchange.port), 1.0
            ) as connection,
        ):
            return int(connection.makefile().readline().split()[1])
        return 0

    def seen(self, name: str = "app-1") -> dict[str, Any]:
        found: dict[str, Any] = self.client.raw_status()["workloads"][name]
        return found

    def agent_pid(self) -> int:
        return int(self.client.raw_status()["agent"])

    def kill_agent(self) -> None:
        pid = self.agent_pid()
        os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)

    def clean(self) -> None:
        client = find_agent(self.root)
        if client is not None:
            client.shutdown(10**6, leave_running=True)
        kill_leftovers(self.root)
        assert leftovers(self.root) == ()
