"""Who looks on during a campaign: clients at the front door, the machine's pulse, what is left behind."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from asbuilt.targets.local.leftovers import ancestors
from asbuilt.targets.local.process import Process, all_pids, look_around

if TYPE_CHECKING:
    from asbuilt.operations.drill.ground import Ground


class RefusedError(OSError):
    """The front door answered something else than that it is written."""


class Door:
    """One client of the front door; comes back on a new connection after each failure."""

    errors: tuple[type[Exception], ...] = (OSError, http.client.HTTPException)

    def __init__(self, ground: Ground, tag: str) -> None:
        self._host, self._port, _, name, authority = ground.entry
        self._headers = {"Host": name, "Content-Type": "application/json"}
        self._context = ssl.create_default_context(cafile=str(authority))
        self._tag = tag
        self._client: http.client.HTTPSConnection | None = None

    def open(self) -> bool:
        """Connect if it is not."""
        if self._client is not None:
            return False
        self._client = http.client.HTTPSConnection(self._host, self._port, timeout=5, context=self._context)
        self._client.connect()
        return True

    def write(self, number: int) -> None:
        """Post it; returns only when it was acknowledged."""
        self.open()
        if self._client is not None:
            body = json.dumps({"key": f"{self._tag}:{number}", "number": number})
            self._client.request("POST", "/ledger", body, self._headers)
            answer = self._client.getresponse()
            said = answer.read()
            if answer.status != 201:
                raise RefusedError(f"status {answer.status}: {said[:80].decode(errors='replace')}")

    def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.close()
        self._client = None


class Pulse:
    """Notes how long the machine stood still, as a virtual one does: no figure of such a round is ours."""

    def __init__(self) -> None:
        self.late = 0.0
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._over.wait(0.1):
            now = time.monotonic()
            self.late = max(self.late, now - before)
            before = now


def find_processes(home: Path) -> list[Process]:
    """Processes that work in a folder, or have it in their words or environment; never those above us."""
    sightings = look_around()
    keep, place, found = ancestors(sightings), os.fsencode(str(home)), []
    for pid in all_pids():
        if pid in keep or pid not in sightings:
            continue
        seen = [os.fsencode(sightings[pid].cwd or "")]
        for name in ("cmdline", "environ"):
            with suppress(OSError):
                seen.append(Path(f"/proc/{pid}/{name}").read_bytes())
        if any(place in one for one in seen):
            found.append(sightings[pid].process)
    return found


def describe(process: Process) -> str:
    """Pid, name and state."""
    return f"process {process.pid} {process.name} {process.state}"
