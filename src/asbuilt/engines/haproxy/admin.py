"""Talks to a running HAProxy through its sockets: state of servers, drain, reload, a new certificate.

Invariant: what is changed here is immediate and lost at the next reload; the rendered file must say it too.
"""

from __future__ import annotations

import csv
import os
import re
import socket as sockets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asbuilt.engines.haproxy.names import APP, CANDIDATE, HOLD, SHARE
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT = 10.0
_EVERY = 0.05
_APPS = frozenset({APP, CANDIDATE, HOLD})
"""The backends that app servers are in."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server of one backend.

    Args:
        backend: its backend.
        name: its node.
        status: HAProxy's word: `UP`, `DOWN`, `DRAIN`, `MAINT`, `no check`, also with progress like `UP 1/2`.
        sessions: requests and connections under way.
        check: the last check's result, like `L7OK`.
    """

    backend: str
    name: str
    status: str
    sessions: int
    check: str


@dataclass(frozen=True, slots=True)
class Load:
    """What the app servers have to do, as the balancer counts it.

    Args:
        ready: app servers in rotation.
        in_flight: requests that are not answered yet, queued ones included.
        requests: requests since the balancer started or reloaded; only differences mean something.
    """

    ready: frozenset[str]
    in_flight: int
    requests: int


def ask(socket: Path, command: str, *, timeout: float = _TIMEOUT) -> str:
    """What HAProxy answers to one command on its socket.

    The socket is reached through its folder's descriptor: paths of sockets end at 107 bytes.

    Raises AsbuiltError LB-002 when nobody answers.
    """
    folder = -1
    try:
        folder = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY)
        with sockets.socket(sockets.AF_UNIX) as stream:
            stream.settimeout(timeout)
            _connect(stream, f"/proc/self/fd/{folder}/{socket.name}")
            stream.sendall(command.encode() + b"\n")
            stream.shutdown(sockets.SHUT_WR)  # the master would wait for more
            return b"".join(iter(lambda: stream.recv(65536), b"")).decode(errors="replace").strip()
    except OSError as error:
        raise AsbuiltError(
            "LB-002",
            f"the load balancer does not answer: {error.strerror or error}",
            where=str(socket),
            hint="asbuilt status says whether it runs",
        ) from None
    finally:
        if folder >= 0:
            os.close(folder)


def _connect(stream: sockets.socket, path: str) -> None:
    """Connect; during a reload the socket changes hands and is nobody's for a moment."""
    deadline = time.monotonic() + 1.0
    while True:
        try:
            stream.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            if time.monotonic() > deadline:
                raise
            time.sleep(_EVERY)
        else:
            return


def parse_servers(said: str) -> tuple[Server, ...]:
    """The servers in the answer to `show stat`."""
    rows = csv.DictReader(said.removeprefix("# ").splitlines())
    return tuple(
        Server(
            row["pxname"],
            row["svname"],
            row["status"],
            int(row["scur"] or 0),
            row["check_status"].lstrip("* "),
        )
        for row in rows
        if row["svname"] not in {"FRONTEND", "BACKEND"}
    )


def ask_servers(admin: Path) -> tuple[Server, ...]:
    """Every server with its state and its load."""
    return parse_servers(ask(admin, "show stat -1 4 -1"))


def parse_load(said: str) -> Load:
    """The load in the answer to `show stat` with backends and servers."""
    ready: set[str] = set()
    in_flight = requests = 0
    for row in csv.DictReader(said.removeprefix("# ").splitlines()):
        if row["pxname"] not in _APPS:
            continue
        if row["svname"] == "BACKEND":
            in_flight += int(row["scur"] or 0)
            requests += int(row["stot"] or 0)
        elif row["pxname"] != HOLD and row["status"].startswith("UP"):
            ready.add(row["svname"])
    return Load(frozenset(ready), in_flight, requests)


def ask_load(admin: Path) -> Load:
    """What the app servers have to do now. Raises AsbuiltError LB-002 when nobody answers."""
    return parse_load(ask(admin, "show stat -1 6 -1"))


def set_state(admin: Path, node: str, state: str) -> None:
    """Set an app server to `drain`, `maint` or `ready`, in every backend that knows it."""
    for one in ask_servers(admin):
        if one.name != node or one.backend not in _APPS:
            continue
        said = ask(admin, f"set server {one.backend}/{node} state {state}")
        if said:
            raise AsbuiltError("LB-003", f"the load balancer refused {state} for {node}: {said}", where=node)


def drain(admin: Path, node: str) -> None:
    """No new requests for an app server; those under way go on."""
    set_state(admin, node, "drain")


def ready(admin: Path, node: str) -> None:
    """Requests for an app server again."""
    set_state(admin, node, "ready")


def restore(admin: Path) -> None:
    """Requests again for every app server that an operation drained and then left."""
    for one in ask_servers(admin):
        if one.backend in _APPS and one.status.startswith(("DRAIN", "MAINT")):
            set_state(admin, one.name, "ready")


def ask_workers(master: Path) -> tuple[int, ...]:
    """Pids of the workers: that in charge, and those before reloads that still have something under way."""
    return tuple(int(pid) for pid in re.findall(r"^(\d+)\s+worker\b", ask(master, "show proc"), re.MULTILINE))


def count_sessions(master: Path, node: str) -> int:
    """Requests under way at an app server, in every worker."""
    return sum(
        server.sessions
        for worker in ask_workers(master)
        for server in parse_servers(ask(master, f"@!{worker} show stat -1 4 -1"))
        if server.name == node and server.backend in _APPS
    )


def app_servers(admin: Path) -> set[str]:
    """Names of the app servers it knows."""
    return {server.name for server in ask_servers(admin) if server.backend in _APPS}


def set_share(admin: Path, share: int) -> None:
    """Send so many ten-thousandths of the traffic to the candidate, from now on."""
    said = ask(admin, f"experimental-mode on; set var {SHARE} int({share})")
    if said:
        raise AsbuiltError("LB-006", f"the load balancer refused a share of {share}: {said}")


def wait_idle(master: Path, node: str, *, within: float) -> bool:
    """Wait until nothing is under way at an app server, at most `within` seconds. Returns whether it came."""
    deadline = time.monotonic() + within
    while count_sessions(master, node):
        if time.monotonic() > deadline:
            return False
        time.sleep(_EVERY)
    return True


def wait_up(admin: Path, node: str, *, within: float) -> bool:
    """Wait until an app server passes its checks, at most `within` seconds. Returns whether that came."""
    deadline = time.monotonic() + within
    while not any(
        s.status.startswith("UP") and s.check.startswith("L7OK")
        for s in ask_servers(admin)
        if s.name == node and s.backend in {APP, CANDIDATE}
    ):
        if time.monotonic() > deadline:
            return False
        time.sleep(_EVERY)
    return True


def reload(master: Path) -> None:
    """Load the file again without losing a connection. Raises AsbuiltError LB-004 with HAProxy's words."""
    said = ask(master, "reload", timeout=60.0)
    if not said.startswith("Success=1"):
        raise AsbuiltError(
            "LB-004",
            "the load balancer refused its new configuration and goes on with the old one",
            where=str(master),
            evidence=tuple(line for line in said.splitlines()[1:] if line.strip("- "))[-12:],
        )


def swap_certificate(admin: Path, pem: Path) -> bool:
    """Show a new certificate at once. Returns False when none runs. Raises AsbuiltError LB-005."""
    try:
        said = ask(admin, f"set ssl cert {pem} <<\n{pem.read_text()}")
    except AsbuiltError as error:
        if error.code == "LB-002":
            return False
        raise
    if "transaction created" in said.lower():
        said = ask(admin, f"commit ssl cert {pem}")
    if "success" not in said.lower():
        raise AsbuiltError("LB-005", f"the load balancer refused its new certificate: {said}", where=str(pem))
    return True
