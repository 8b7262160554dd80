"""Many TLS 1.3 connections held at once through the load balancer, each asked several times: all must answer.

Blocking sockets shared out over a few processes: a connection costs the client its kernel buffers and one
OpenSSL object, and a thread of each process walks over its share. Bounded: COUNT connections, ROUNDS requests
on each, one deadline for everything.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import signal
import socket
import ssl
import sys
import time
import urllib.parse
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common import Bench, Row, answers, environment, percentile, print_rows, say, until
from load import write_project
from peers import BACKEND, PROXY, haproxy_program, render_backend, render_haproxy, write_certificate

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

COUNT, ROUNDS, CLIENTS = 10_000, 4, 4
_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one client process saw: connections held at the same time, good requests, seconds of each."""

    held: int
    good: int
    times: list[float]
    versions: frozenset[str | None]


def raise_open_files(wanted: int) -> int:
    """Lift the limit on open files as far as we may; returns what is in force."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, hard), max(wanted, hard)))
        return max(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _ask(connection: ssl.SSLSocket, request: bytes) -> bool:
    """One request over a kept-alive connection; True for a complete 200."""
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = connection.recv(16384)
        if not part:
            return False
        answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        part = connection.recv(16384)
        if not part:
            return False
        body += part
    return head.split(b" ", 2)[1] == b"200"


def _hold(host: str, port: int, count: int, barrier: Barrier) -> Outcome:
    """Open `count` connections, wait for the other clients to have theirs, then ask on each in turn."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    held: list[ssl.SSLSocket] = []
    for _ in range(count):
        with suppress(OSError):
            raw = socket.create_connection((host, port), timeout=_TIMEOUT)
            connection = context.wrap_socket(raw, server_hostname=host)
            # a first request at once: a proxy rightly closes who connects and stays silent
            if _ask(connection, request):
                held.append(connection)
    barrier.wait(_TIMEOUT * 3)
    good, times = len(held), []
    for _ in range(ROUNDS - 1):
        for connection in held:
            began = time.perf_counter()
            with suppress(OSError):
                good += _ask(connection, request)
            times.append(time.perf_counter() - began)
    barrier.wait(_TIMEOUT * 3)
    versions = frozenset(connection.version() for connection in held[:100])
    for connection in held:
        connection.close()
    return Outcome(len(held), good, times, versions)


def hold(url: str, count: int = COUNT) -> tuple[int, int, float]:
    """Connections held together, good requests of `count * ROUNDS`, p99 of a request in ms."""
    place = urllib.parse.urlsplit(url)
    host, port = place.hostname or "", place.port or 443
    context = multiprocessing.get_context("fork")
    ends = (signal.SIGTERM, signal.SIG_DFL)  # the pool ends its processes so; ours would unwind the whole run
    with context.Manager() as shared, context.Pool(CLIENTS, signal.signal, ends) as pool:
        barrier = shared.Barrier(CLIENTS)
        shares = [count // CLIENTS + (n < count % CLIENTS) for n in range(CLIENTS)]
        outcomes = pool.starmap_async(_hold, [(host, port, n, barrier) for n in shares]).get(_TIMEOUT * 5)
    versions = {version for one in outcomes for version in one.versions}
    if versions != {"TLSv1.3"}:
        raise RuntimeError(f"spoke {versions} instead of TLS 1.3")
    times = [t for one in outcomes for t in one.times]
    return sum(o.held for o in outcomes), sum(o.good for o in outcomes), percentile(times, 0.99) * 1000


def measure(name: str, url: str, runs: int, count: int, target: str = "") -> list[Row]:
    """Two rows: good requests, and the p99 of their times."""
    good, slow, least = [], [], count
    for turn in range(runs):
        held, fine, p99 = hold(url, count)
        good.append(float(fine))
        slow.append(p99)
        least = min(least, held)
        say(f"connections: {name}: round {turn + 1} of {runs}: {held} held, {fine} of {count * ROUNDS} good")
    met = (least == count and min(good) == count * ROUNDS) if target else None
    what = f"{name}, {count:,} TLS 1.3 connections held"
    return [
        Row(what, "good requests", tuple(good), f"least held {least:,}", target, met),
        Row(f"{what}, p99", "ms", tuple(slow)),
    ]


def rows(runs: int = 5, count: int = COUNT, *, with_ours: bool = True) -> list[Row]:
    """The minimal HAProxy, and the load balancer that `asbuilt up` made."""
    limit = raise_open_files(2 * count + 1000)
    # the proxy is the one that holds them all; its connections to the backend are shared and few
    if limit < count + 1000:
        say(f"connections: only {limit} open files allowed here: {limit - 1000:,} instead of {count:,}")
        count = limit - 1000
    target = f"{count * ROUNDS:,} of {count * ROUNDS:,}"
    with Bench() as bench:
        found = []
        write_certificate(bench.folder)
        (bench.folder / "backend.cfg").write_text(render_backend(f"{BACKEND[0]}:{BACKEND[1]}"))
        (bench.folder / "haproxy.cfg").write_text(render_haproxy(bench.folder))
        bench.start(haproxy_program(), "-db", "-f", bench.folder / "backend.cfg")
        until(lambda: answers(*BACKEND), "the backend")
        with Bench() as one:
            one.start(haproxy_program(), "-db", "-f", bench.folder / "haproxy.cfg")
            until(lambda: answers(PROXY, 8444), "the minimal HAProxy")
            found += measure("minimal HAProxy", f"https://{PROXY}:8444/", runs, count)
        if with_ours:
            cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
            project = write_project(bench.folder, cores)
            with environment(bench, project, "production") as ours:
                url = ours.status()["entrypoints"]["https"]
                found += measure("asbuilt", url, runs, count, target)
    return found


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], prog=Path(__file__).name)
    words.add_argument("--runs", type=int, default=5)
    words.add_argument("--count", type=int, default=COUNT)
    words.add_argument("--peers-only", action="store_true", help="without an environment of ours")
    given = words.parse_args()
    table = rows(given.runs, given.count, with_ours=not given.peers_only)
    print_rows(table)
    sys.exit(any(row.met is False for row in table))
