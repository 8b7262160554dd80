"""Clients of the fault tests: what was acknowledged to them while something broke."""

from __future__ import annotations

import http.client
import itertools
import json
import shutil
import ssl
import sys
import threading
import time
import urllib.parse
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
import pytest

from asbuilt.targets.local.client import AgentClient
from support import until
from support.live import Live

if TYPE_CHECKING:
    from collections.abc import Callable

_APP = Path(__file__).with_name("ledger_app.py")
_NUMBERS = itertools.count(1)
_RATE = 50
"""Acknowledged writes a second that a fault must meet, or it proves little."""


def make_ledger(folder: Path, more: str = "") -> Path:
    """A project whose app acknowledges numbered writes; `more` goes below `production`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_APP, folder / "app.py")
    (folder / "asbuilt.yaml").write_text(
        f"name: ledger\napp:\n  command: {sys.executable} app.py\n  instances: 2\n"
        f"environments:\n  production:\n    objects: none\n    files: none\n{more}"
    )
    return folder


@dataclass(frozen=True)
class Ground:
    """Where things are in one running environment."""

    live: Live

    @cached_property
    def variables(self) -> dict[str, str]:
        """What an app server gets, its secrets included."""
        workload = json.loads((self.live.root / "agent/workloads/app-1.json").read_text())["workload"]
        return {**dict(workload["env"]), **dict(workload["secret_env"])}

    @cached_property
    def databases(self) -> dict[str, str]:
        """Each database node's own URL."""
        parts = urllib.parse.urlsplit(self.variables["DATABASE_URL"])
        account = parts.netloc.rpartition("@")[0]
        nodes = [one for one in self.live.status()["nodes"] if one["kind"] == "database"]
        return {n["id"]: parts._replace(netloc=f"{account}@{n['address']}").geturl() for n in nodes}

    @cached_property
    def addresses(self) -> dict[str, str]:
        """Address and port of each node."""
        return {one["id"]: one["address"] for one in self.live.status()["nodes"]}

    def client(self) -> AgentClient:
        """The agent, which is not started by this."""
        return AgentClient(self.live.root, revive=False)

    def pids(self) -> dict[str, int | None]:
        return {node: one["pid"] for node, one in self.live.nodes().items()}

    def connect(self, node: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.databases[node], autocommit=True, connect_timeout=3)

    def _ask(self, node: str, path: str) -> bytes:
        """What the node itself answers about its database; empty unless it agrees."""
        host = urllib.parse.urlsplit(self.databases[node]).hostname
        with suppress(OSError), urllib.request.urlopen(f"http://{host}:8008/{path}", timeout=2) as answer:
            return bytes(answer.read())
        return b""

    def leader(self, *, other_than: str = "", within: float = 60) -> str:
        """The node that holds the lead and serves; what others remember of it doesn't count."""

        def look() -> str:
            return next((n for n in self.databases if n != other_than and self._ask(n, "primary")), "")

        return until(look, what="a primary database", within=within, every=0.1)

    def protected(self) -> bool:
        """Whether one leads, one confirms every commit, and all follow."""
        leaders = [node for node in self.databases if self._ask(node, "primary")]
        if len(leaders) != 1:
            return False
        replicas = [node for node in self.databases if node != leaders[0]]
        if not all(self._ask(node, "replica") for node in replicas):
            return False
        said = json.loads(self._ask(leaders[0], "cluster") or b'{"members": []}')["members"]
        wanted = ["leader", *["replica"] * (len(replicas) - 1), "sync_standby"]
        states = {one["state"] for one in said if one["role"] != "leader"}
        return sorted(one["role"] for one in said) == wanted and states == {"streaming"}

    def redundant(self, within: float = 90) -> None:
        """Wait until all that the spec asks for is there again."""
        until(self.protected, what="every replica of the database", within=within, every=0.2)
        self.live.healthy(within)
        kinds = [(n["kind"], n["role"]) for n in self.live.status()["nodes"]]
        for kind in ("database", "cache"):
            assert sorted(r or "-" for k, r in kinds if k == kind) == ["primary", "replica", "replica"]


@dataclass
class Writers:
    """Clients that post numbers through the front door, each on its own connection, until the end."""

    ground: Ground
    kind: str = "ledger"
    clients: int = 8
    acknowledged: list[tuple[float, int]] = field(default_factory=list)
    refused: list[tuple[float, str]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for _ in range(self.clients):
            thread = threading.Thread(target=self._run, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self) -> None:
        door = Door(self.ground.live)
        while not self._over.is_set():
            number = next(_NUMBERS)
            refusal = door.post(self.kind, number)
            if refusal:
                self.refused.append((time.monotonic(), refusal))
            else:
                self.acknowledged.append((time.monotonic(), number))
            self._over.wait(0.03)
        door.close()

    def since(self, moment: float) -> int:
        return sum(at > moment for at, _ in self.acknowledged)

    def under_way(self) -> None:
        """Wait until the load is what it should be."""
        until(
            lambda: self.since(time.monotonic() - 1) >= _RATE,
            what=f"{_RATE} acknowledged writes a second; {self.refused[-1:]}",
            within=30,
        )

    def steady(self, seconds: float = 2.0, within: float = 60) -> None:
        """Wait until writes have been acknowledged without a longer gap for some seconds."""

        begun = time.monotonic()

        def look() -> bool:
            now = time.monotonic()
            if now < begun + seconds:
                return False  # a gap that has only just begun cannot be seen yet
            times = [now - seconds, *(at for at, _ in list(self.acknowledged) if at > now - seconds), now]
            return max(b - a for a, b in itertools.pairwise(sorted(times))) < 0.7

        until(look, what="a steady stream of acknowledged writes", within=within)

    def gap(self, moment: float) -> float:
        """The longest time without an acknowledged write from just before `moment`, in seconds."""
        times = sorted(at for at, _ in list(self.acknowledged) if at > moment - 1)
        return max((b - a for a, b in itertools.pairwise(times)), default=float("inf"))


class Door:
    """One client of the front door, who comes back after each failure on a new connection."""

    def __init__(self, live: Live, timeout: float = 8.0) -> None:
        points = json.loads((live.root / "environment.json").read_text())["entrypoints"]
        self._parts = urllib.parse.urlsplit(points["https"])
        self._context = ssl.create_default_context(cafile=str(live.root / "certificates" / "ca.crt"))
        self._timeout = timeout
        self._connection: http.client.HTTPSConnection | None = None

    def post(self, kind: str, number: int) -> str:
        """Post one number; empty when it was acknowledged, else what came instead."""
        try:
            if self._connection is None:
                assert self._parts.hostname is not None
                self._connection = http.client.HTTPSConnection(
                    self._parts.hostname, self._parts.port, timeout=self._timeout, context=self._context
                )
            self._connection.request("POST", f"/{kind}/{number}")
            answer = self._connection.getresponse()
            body = answer.read().decode(errors="replace").strip()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return repr(error)
        return "" if answer.status == 201 and body == str(number) else f"{answer.status} {body}"

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass
class Session:
    """One connection to one node that writes for as long as it lives, and never comes back."""

    connection: psycopg.Connection[tuple[Any, ...]]
    acknowledged: list[tuple[float, int]] = field(default_factory=list)
    broken: tuple[float, str] | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            number = next(_NUMBERS)
            try:
                self.connection.execute("INSERT INTO ledger VALUES ('held', %s)", (number,))
            except psycopg.Error as error:
                self.broken = (time.monotonic(), str(error).strip())
                return
            self.acknowledged.append((time.monotonic(), number))


@dataclass
class Reader:
    """Reads from a replica through its route every 0.1 s, and comes back when the connection breaks."""

    url: str
    good: list[tuple[float, bool]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self._over.set()

    def _run(self) -> None:
        connection: psycopg.Connection[tuple[Any, ...]] | None = None
        while not self._over.wait(0.1):
            try:
                if connection is None:
                    connection = psycopg.connect(self.url, autocommit=True, connect_timeout=2)
                row = connection.execute("SELECT pg_is_in_recovery(), max(number) FROM ledger").fetchone()
                self.good.append((time.monotonic(), bool(row and row[0])))
            except psycopg.Error:
                if connection is not None:
                    connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def gap(self, moment: float) -> float:
        times = [moment, *(at for at, _ in list(self.good) if at > moment), time.monotonic()]
        return max(b - a for a, b in itertools.pairwise(times))


def inconclusive(why: str) -> None:
    """End the test: the fault was not on, so nothing is proven."""
    pytest.fail(f"inconclusive: {why}", pytrace=False)


def require(condition: Callable[[], object], why: str, within: float = 10.0) -> None:
    """The positive control: the fault must be seen within some seconds."""
    try:
        until(condition, what=why, within=within)
    except AssertionError:
        inconclusive(why)
