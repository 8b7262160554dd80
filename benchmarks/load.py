"""Requests a second through the load balancer that `asbuilt up` made, beside other proxies.

The proxy has one core, the client (wrk) and the backend share another one. Rounds alternate between the
proxies, so that a busy moment of the machine hits all of them. Ours runs as it is rendered: access log,
health checks, request ids, TLS 1.3. On a busy machine, or where the client's core is the limit, the rates
draw near to each other: requests per CPU second of the proxy do not. The row "backend alone" shows how far
the client is from being the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import ssl
import statistics
import subprocess
import sys
import urllib.request
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from common import Bench, Environment, Row, answers, environment, print_rows, say, until
from peers import BACKEND, PROXY, haproxy_program, render_backend, write_peers

CONNECTIONS = 64
PROXY_CORE, CLIENT_CORE = 0, 1
_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
_BAD = re.compile(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)")

SPEC = """\
name: bench
app:
  command: taskset -c {core} {haproxy} -db -f backend.cfg
  build: none
  health: /health
environments:
  production:
    app: {{instances: 1}}
    database: null
    cache: null
    objects: null
    files: null
"""


def parse_wrk(text: str) -> float:
    """Requests a second; raises RuntimeError when any request went wrong."""
    bad, rate = _BAD.search(text), _RATE.search(text)
    if bad or not rate:
        raise RuntimeError(f"wrk: {bad.group(0) if bad else text}")
    return float(rate.group(1))


def measure(url: str, seconds: int) -> float:
    """One run of wrk over kept-alive connections."""
    argv = ["taskset", "-c", str(CLIENT_CORE), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", url]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=seconds + 30)
    return parse_wrk(done.stdout)


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    return [pid, *(deeper for child in _children(pid) for deeper in tree(child))]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and those below it."""
    total = 0.0
    for one in tree(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def measure_proxy(url: str, seconds: int, pid: int) -> tuple[float, float]:
    """Requests a second, and requests for each second of CPU that the proxy used."""
    before = cpu_seconds(pid)
    rate = measure(url, seconds)
    used = cpu_seconds(pid) - before
    return rate, rate * seconds / max(used, 0.01)


def write_project(folder: Path, cores: str = str(CLIENT_CORE)) -> Path:
    """A project whose app is the same static backend that the peers have, on these cores."""
    project = folder / "project"
    project.mkdir()
    (project / "backend.cfg").write_text(render_backend('"${HOST}:${PORT}"'))
    (project / "asbuilt.yaml").write_text(SPEC.format(core=cores, haproxy=haproxy_program()))
    return project


def pin(status: dict[str, Any]) -> None:
    """Everything of the environment but its proxy leaves the proxy's core."""
    for node in status["nodes"]:
        if node["pid"]:
            core = PROXY_CORE if node["kind"] == "load-balancer" else CLIENT_CORE
            for task in os.listdir(f"/proc/{node['pid']}/task"):  # noqa: PTH208 - names, not paths
                os.sched_setaffinity(int(task), {core})


def our_proxy(ours: Environment) -> tuple[int, dict[str, str]]:
    """Pid and addresses of the running proxy. Plain HTTP is redirected to TLS, so only TLS serves the app."""
    status = ours.status()
    pin(status)
    pid = next(node["pid"] for node in status["nodes"] if node["kind"] == "load-balancer")
    return pid, {"TLS": status["entrypoints"]["https"] + "/"}


def good(url: str) -> bool:
    """Whether a request is answered with 200: Traefik listens before it knows its routes."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError), urllib.request.urlopen(url, timeout=2, context=unchecked) as answer:
        return bool(answer.status == 200)
    return False


Pairs = list[tuple[float, float]]
"""(requests/s, requests per CPU second) of each run."""
Found = dict[tuple[str, str], Pairs]
"""By (proxy, protocol)."""


def collect(bench: Bench, runs: int, seconds: int, *, with_ours: bool) -> Found:
    """All rounds."""
    peers = write_peers(bench)
    backend = bench.start(haproxy_program(), "-db", "-f", bench.folder / "backend.cfg", core=CLIENT_CORE)
    until(lambda: answers(*BACKEND), "the backend")
    ours: tuple[int, dict[str, str]] | None = None
    if with_ours:
        on_core = ("taskset", "-c", str(PROXY_CORE))
        ours = our_proxy(
            bench.enter_context(environment(bench, write_project(bench.folder), "production", on_core))
        )
    found: Found = {}

    def run(name: str, pid: int, urls: dict[str, str]) -> None:
        for protocol, url in urls.items():
            until(partial(good, url), f"{name} to answer {url}", within=20)
            measure(url, 1)  # warm
            found.setdefault((name, protocol), []).append(measure_proxy(url, seconds, pid))

    for turn in range(runs):
        run("backend alone", backend.pid, {"HTTP": f"http://{BACKEND[0]}:{BACKEND[1]}/"})
        if ours:
            run("asbuilt", *ours)
        for peer in peers:
            with Bench() as one:
                child = one.start(*peer.argv, core=PROXY_CORE, env=dict(peer.env))
                try:
                    run(
                        peer.name,
                        child.pid,
                        {"HTTP": f"http://{PROXY}:8081/", "TLS": f"https://{PROXY}:8444/"},
                    )
                except TimeoutError as error:
                    raise RuntimeError(f"{error}\n{one.log_end()}") from error
            until(lambda: not answers(PROXY, 8081), "the port to be free", within=20)
        say(f"load: round {turn + 1} of {runs}")
    return found


def paired(ours: Pairs, peer: Pairs, column: int) -> float:
    """The middle of the ratios of each round: what slows a whole round down cancels out."""
    return statistics.median(one[column] / other[column] for one, other in zip(ours, peer, strict=True))


def build_rows(found: Found) -> list[Row]:
    """Each proxy beside the minimal HAProxy of the same rounds: by the clock, and by the CPU it used."""
    rows = []
    for column, unit in ((0, "requests/s"), (1, "requests per CPU second")):
        for (name, protocol), pairs in found.items():
            if name == "backend alone" and column == 1:
                continue
            ratio = paired(pairs, found["minimal HAProxy", protocol], column)
            beside, target, met = f"{ratio:.2f} of minimal HAProxy", "", None
            if name == "asbuilt":
                nginx, caddy = (paired(pairs, found[peer, protocol], column) for peer in ("nginx", "Caddy"))
                beside += f", {nginx:.2f} of nginx, {caddy:.1f} of Caddy"
                target = "0.75 of minimal HAProxy, above nginx, 2 x Caddy"
                met = ratio >= 0.75 and nginx > 1 and caddy > 2
            values = tuple(pair[column] for pair in pairs)
            rows.append(Row(f"{name}, {protocol}", unit, values, beside, target, met))
    return rows


def rows(runs: int = 15, seconds: int = 1, *, with_ours: bool = True) -> list[Row]:
    """Measure and return the table's rows."""
    with Bench() as bench:
        return build_rows(collect(bench, runs, seconds, with_ours=with_ours))


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--runs", type=int, default=15)
    words.add_argument("--seconds", type=int, default=1, help="of each run")
    words.add_argument("--peers-only", action="store_true", help="without an environment of ours")
    words.add_argument("--json", type=Path, help="write the rates there too")
    given = words.parse_args()
    table = rows(given.runs, given.seconds, with_ours=not given.peers_only)
    print_rows(table)
    if given.json:
        given.json.write_text(json.dumps({f"{row.what}, {row.unit}": row.values for row in table}, indent=1))
    sys.exit(any(row.met is False for row in table))
