"""A tiny launcher for the database part: it starts workloads from their data, as a target would."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg

from asbuilt.engines.etcd.admin import Store, open_store
from asbuilt.engines.etcd.engine import EtcdEngine
from asbuilt.engines.postgresql.admin import DatabaseAdmin, open_admin
from asbuilt.engines.postgresql.engine import PostgresqlEngine
from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.graph.services import SERVICES
from asbuilt.plan.site import Entry, Site
from asbuilt.values.secret import Secret
from support import until
from support.specs import spec_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from asbuilt.plan.workload import Exchange, Setup, Workload

TIERS = {"db": 3, "consensus": 5}


def build_site(
    root: Path, slot: int, nodes: tuple[str, ...], secrets: dict[str, Secret] | None = None
) -> Site:
    kept = secrets if secrets is not None else {}

    def secret(name: str) -> Secret:
        return kept.setdefault(name, Secret(f"pw'{name}: \"#{{&*!"))

    return Site(
        root=root,
        project=root,
        addresses={node: f"127.{slot}.{TIERS[node.split('-')[0]]}.{node.split('-')[1]}" for node in nodes},
        ports={name: service.port for name, service in SERVICES.items()},
        entry=Entry("127.0.0.1", None, None),
        tools={},
        secret=secret,
        release=None,
        app_secrets={},
        cpus=2,
        memory=8 * 2**30,
    )


def ask(exchange: Exchange) -> bool:
    """Whether the answer matches; False also when there is none."""
    try:
        with contextlib.ExitStack() as stack:
            line: socket.socket = stack.enter_context(
                socket.create_connection((exchange.host, exchange.port), exchange.timeout)
            )
            if exchange.tls:
                context = ssl.create_default_context(cafile=exchange.tls.ca)
                context.load_cert_chain(exchange.tls.certificate, exchange.tls.key)
                line = stack.enter_context(
                    context.wrap_socket(line, server_hostname=exchange.tls.server_name)
                )
            line.sendall(exchange.send)
            got = b""
            while not re.search(exchange.expect.encode(), got, re.DOTALL):
                more = line.recv(65536)
                if not more:
                    return False
                got += more
            return True
    except OSError:
        return False


def below(folder: Path) -> set[int]:
    """Processes whose working directory is in `folder`."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink().is_relative_to(folder):
                    found.add(int(entry.name))
    return found


@dataclass
class Stack:
    """The database of one production environment, or of one without replicas."""

    root: Path
    slot: int
    replicas: int = 2
    database: dict[str, Any] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    took: dict[str, float] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec = spec_of(production={"database": {"replicas": self.replicas, **self.database}})
        self.architecture = build(spec, "production")
        self.runner = Runner(find_identity())
        self.engines = (EtcdEngine(), PostgresqlEngine())
        self.tools = {
            engine.name: engine.find(self.architecture, self.runner)
            for engine in self.engines
            if self.replicas or engine.name != "etcd"
        }
        self.realize()

    def realize(self) -> None:
        nodes = tuple(n.id for n in self.architecture.nodes if n.id.split("-")[0] in TIERS)
        bare = build_site(self.root, self.slot, nodes, self.secrets)
        self.site = Site(**{**{f: getattr(bare, f) for f in Site.__dataclass_fields__}, "tools": self.tools})
        parts = [engine.realize(self.architecture, self.site, self.runner) for engine in self.engines]
        self.workloads: dict[str, Workload] = {w.id: w for part in parts for w in part.workloads}
        self.setups: dict[str, Setup] = {s.id: s for part in parts for s in part.setups}
        self.admin: DatabaseAdmin = open_admin(self.architecture, self.site)

    @property
    def nodes(self) -> tuple[str, ...]:
        return self.admin.nodes

    def start(self, node: str) -> None:
        workload = self.workloads[node]
        for folder in workload.directories:
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in workload.files:
            Path(file.path).touch(mode=file.mode)
            Path(file.path).write_text(file.content)
        log = (self.root / f"{node}.log").open("ab")
        self.running[node] = subprocess.Popen(
            self.runner.identity.wrap(workload.argv),
            env={"PATH": os.defpath, "HOME": f"{workload.cwd}/home", **dict(workload.env)},
            cwd=workload.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()

    def ready(self, node: str) -> bool:
        exchange = self.workloads[node].ready.exchange
        assert exchange is not None
        return node in self.running and self.running[node].poll() is None and ask(exchange)

    def up(self, *, within: float = 90.0, without: tuple[str, ...] = ()) -> float:
        """Start everything as early as its needs allow; seconds until all is done."""
        began = time.monotonic()
        failures: list[BaseException] = []

        def go(name: str, needs: tuple[str, ...]) -> None:
            try:
                until(
                    lambda: all(n in self.done or n in without for n in needs) or failures,
                    what=f"the needs of {name}",
                    within=within,
                    every=0.02,
                )
                if failures:
                    return
                if name in self.setups:
                    if not self.setups[name].satisfied():
                        self.setups[name].run()
                    assert self.setups[name].satisfied(), name
                else:
                    if name not in self.running:
                        self.start(name)
                    until(lambda: self.ready(name), what=name, within=within, every=0.02)
                self.took[name] = time.monotonic() - began
                self.done.add(name)
            except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
                failures.append(error)

        every = {
            **{s.id: s.needs for s in self.setups.values()},
            **{w.id: w.needs for w in self.workloads.values()},
        }
        threads = [threading.Thread(target=go, args=one) for one in every.items() if one[0] not in without]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return time.monotonic() - began

    def down(self) -> float:
        """The planned stop: databases in parallel, then the store."""
        began = time.monotonic()
        for group in (self.nodes, tuple(n for n in self.running if n not in self.nodes)):
            for node in group:
                if node in self.running:
                    self.running[node].send_signal(getattr(signal, self.workloads[node].stop.signal))
            for node in group:
                if node in self.running:
                    self.running.pop(node).wait(timeout=60)
        self.done.clear()
        return time.monotonic() - began

    def kill(self, node: str, sent: int = signal.SIGKILL) -> None:
        """Send a signal to the node's whole tree, again until nothing new appears."""
        for _ in range(2 if sent == signal.SIGKILL else 1):
            for pid in below(self.site.node_dir(node)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sent)
        if sent == signal.SIGKILL and node in self.running:
            self.running.pop(node).wait()
            until(lambda: not below(self.site.node_dir(node)), what=f"{node} to be gone", within=10)
            self.done.discard(node)

    def engines_store(self) -> Store:
        """The consensus store, as the engines reach it."""
        return open_store(self.site, "consensus-1")

    def leader(self) -> str:
        """The primary of now, waited for."""
        until(lambda: self.admin.leader() is not None, what="a leader")
        return str(self.admin.leader())

    def fence(self, node: str) -> bool:
        """Kill the tree, then release its lead."""
        self.kill(node)
        release = self.workloads[node].after_fence
        assert release is not None
        return ask(release)

    def connect(self, node: str, role: str = "app", database: str = "app") -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=self.site.addresses[node],
            port=self.site.ports["postgresql"],
            user=role,
            password=self.site.secret(f"database.{'superuser' if role == 'postgres' else role}").reveal(),
            dbname=database,
            connect_timeout=2,
            sslmode="disable",
            autocommit=True,
        )

    def close(self) -> None:
        for pid in below(self.root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.running.values():
            process.wait()
        until(lambda: not below(self.root), what="everything to end", within=10)


@contextlib.contextmanager
def stack(
    root: Path, slot: int, *, replicas: int = 2, database: dict[str, Any] | None = None
) -> Iterator[Stack]:
    """A stack that is gone afterwards, whatever happens."""
    made = Stack(root, slot, replicas, database or {})
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(root / "nodes", ignore_errors=True)


@dataclass
class Ledger:
    """Numbered inserts into whichever node is the primary; what was acknowledged, and when."""

    of: Stack
    acknowledged: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._first = 0
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Self:
        with self.of.connect(self.of.leader()) as connection:
            connection.execute("create table if not exists ledger (n bigint primary key)")
            row = connection.execute("select coalesce(max(n), 0) from ledger").fetchone()
            self._first = row[0] if row else 0
        self._thread.start()
        until(lambda: len(self.times) > 20, what="the first rows")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        number = self._first
        connection: psycopg.Connection[Any] | None = None
        while not self._stop.is_set():
            number += 1
            try:
                if connection is None:
                    connection = self._open()
                connection.execute("set statement_timeout = 2000")
                connection.execute("insert into ledger values (%s)", (number,))
                self.acknowledged.append(number)
                self.times.append(time.monotonic())
            except (psycopg.Error, OSError) as error:
                self.errors.append(f"{number}: {error}")
                if connection is not None:
                    connection.close()
                connection = None
                self._stop.wait(0.02)
            self._stop.wait(0.005)
        if connection is not None:
            connection.close()

    def _open(self) -> psycopg.Connection[Any]:
        node = self.of.admin.leader(timeout=0.5)
        if node is None:
            raise OSError("no leader")
        return self.of.connect(node)

    def gap_after(self, moment: float, *, what: str, within: float = 60.0) -> float:
        """Seconds from `moment` to the first row acknowledged at least 0.15 s after it that ends a pause."""
        rows: Callable[[], list[float]] = lambda: [t for t in list(self.times) if t > moment + 0.15]  # noqa: E731
        until(lambda: len(rows()) > 20, what=what, within=within)
        seen = [moment, *(t for t in self.times if t > moment)]
        return max(later - earlier for earlier, later in pairwise(seen))

    def lost(self) -> set[int]:
        """Acknowledged rows that the primary of now does not have."""
        with self.of.connect(self.of.leader()) as connection:
            there = {row[0] for row in connection.execute("select n from ledger")}
        return set(self.acknowledged) - there
