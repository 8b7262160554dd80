"""Starts workloads the way a target does, in the smallest way that will do for testing one engine alone."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.exec.identity import Identity, find_identity
from support import until

if TYPE_CHECKING:
    from asbuilt.plan.workload import Exchange, Workload


def answers(exchange: Exchange) -> bool:
    """Whether the exchange gets the answer that it expects."""
    heard = b""
    folder = -1
    try:
        if exchange.host.startswith("unix:"):
            path = Path(exchange.host.removeprefix("unix:"))
            folder = os.open(path.parent, os.O_PATH)
            stream = socket.socket(socket.AF_UNIX)
            stream.settimeout(exchange.timeout)
            stream.connect(f"/proc/self/fd/{folder}/{path.name}")
        else:
            stream = socket.create_connection((exchange.host, exchange.port), exchange.timeout)
        with stream:
            stream.sendall(exchange.send)
            while not re.search(exchange.expect.encode(), heard, re.DOTALL):
                more = stream.recv(65536)
                if not more:
                    return False
                heard += more
    except OSError:
        return False
    finally:
        if folder >= 0:
            os.close(folder)
    return True


@dataclass
class Launcher:
    """Every process it started is in its own session and ends with `stop_all`."""

    identity: Identity = field(default_factory=find_identity)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def prepare(self, workload: Workload) -> None:
        Path(workload.cwd).mkdir(parents=True, exist_ok=True)
        for directory in workload.directories:
            Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in workload.files:
            path = Path(file.path)
            if not (file.once and path.exists()):
                path.write_text(file.content)
                path.chmod(file.mode)

    def log(self, workload: Workload) -> Path:
        return Path(workload.cwd) / f"{workload.id}.log"

    def start(self, workload: Workload, *, attempts: int = 1) -> None:
        self.prepare(workload)
        env = {"PATH": os.defpath, "HOME": workload.cwd, **dict(workload.env)}
        env |= {name: value.reveal() for name, value in workload.secret_env}
        with self.log(workload).open("ab") as log:
            for attempt in range(attempts):
                if not workload.before_start:
                    break
                argv = self.identity.wrap(workload.before_start)
                done = subprocess.run(argv, cwd=workload.cwd, env=env, stdout=log, stderr=log, check=False)
                if done.returncode == 0:
                    break
                if attempt == attempts - 1:
                    raise AssertionError(f"{workload.id} refused to start: {self.log(workload).read_text()}")
                time.sleep(0.3)
            self.processes[workload.id] = subprocess.Popen(
                self.identity.wrap(workload.argv),
                cwd=workload.cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self, workload: Workload, within: float = 30.0) -> None:
        def ready() -> bool:
            assert self.processes[workload.id].poll() is None, self.log(workload).read_text()
            return workload.ready.exchange is None or answers(workload.ready.exchange)

        until(ready, what=f"{workload.id} to be ready", within=within)

    def up(self, workload: Workload, *, attempts: int = 1) -> None:
        self.start(workload, attempts=attempts)
        self.wait_ready(workload)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """The signal to the whole session of a workload; a process that dies by it is reaped."""
        process = self.processes[name]
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if number == signal.SIGKILL:
            process.wait(10)

    def end(self, workload: Workload) -> None:
        """Stop as asked for by the workload."""
        process = self.processes[workload.id]
        process.send_signal(getattr(signal, workload.stop.signal))
        with suppress(subprocess.TimeoutExpired):
            process.wait(workload.stop.grace)
        self.kill(workload.id)

    def stop_all(self) -> None:
        for name in self.processes:
            self.kill(name)
