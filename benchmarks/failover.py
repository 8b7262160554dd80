"""How long an already connected client cannot write after a fault, and what it loses.

A ledger of numbered writes goes through the environment's own route. The gap is the longest time between two
acknowledged writes. Passed also means: no acknowledged write lost, never two writable primaries, redundancy
restored. A round whose fault left no trace is inconclusive and counts as an error.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import urllib.parse
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import Environment, Row, percentile, print_rows, say, until
from oracle import Cache, Database, Writer
from shop import running_shop

from asbuilt.operations.drill.sampler import sample_databases
from asbuilt.values.secret import Secret

_SETTLE = 2.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks the primary of a kind of node.

    Args:
        name: for the command line.
        what: in the table.
        kind: of the node.
        limit: p95 of the gap, in seconds.
        inject: does it to a node of the status document.
    """

    name: str
    what: str
    kind: str
    limit: float
    inject: Callable[[Environment, dict[str, Any]], object]


def find_processes(folder: Path) -> list[int]:
    """Every process that works in a folder."""
    place = f"{folder.resolve()}/"
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if f"{(entry / 'cwd').readlink()}/".startswith(place):
                    found.append(int(entry.name))
    return found


def node_tree(ours: Environment, node: str) -> list[int]:
    """Every process of one node."""
    return find_processes(ours.root() / "nodes" / node)


def _signal_tree(ours: Environment, node: str, number: signal.Signals) -> None:
    pids = node_tree(ours, node)
    if not pids:
        raise RuntimeError(f"no process of {node} found")
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


FAULTS = (
    Fault(
        "postmaster",
        "primary's postmaster killed",
        "database",
        3.0,
        lambda _, node: os.kill(node["pid"], signal.SIGKILL),
    ),
    Fault(
        "node",
        "primary's whole node killed",
        "database",
        3.0,
        lambda ours, node: _signal_tree(ours, node["id"], signal.SIGKILL),
    ),
    Fault(
        "frozen",
        "primary's whole node frozen",
        "database",
        5.0,
        lambda ours, node: _signal_tree(ours, node["id"], signal.SIGSTOP),
    ),
    Fault(
        "cache",
        "Redis primary killed",
        "cache",
        4.0,
        lambda _, node: os.kill(node["pid"], signal.SIGKILL),
    ),
)

SWITCHOVER = Fault(
    "switchover",
    "planned switchover of the database",
    "database",
    2.0,
    lambda ours, _: ours.run("failover", "production", "database"),
)


def app_environment(ours: Environment) -> dict[str, str]:
    """The variables that an app server was given, its secrets included."""
    workload = json.loads((ours.root() / "agent" / "workloads" / "app-1.json").read_text())["workload"]
    return {**dict(workload["env"]), **dict(workload["secret_env"])}


def node_urls(ours: Environment, url: str) -> dict[str, str]:
    """The database's URL with each node's own address."""
    parts = urllib.parse.urlsplit(url)
    account = parts.netloc.rpartition("@")[0]
    return {
        node["id"]: parts._replace(netloc=f"{account}@{node['address']}").geturl()
        for node in ours.nodes("database")
    }


def primary(ours: Environment, kind: str) -> dict[str, Any] | None:
    """The one primary of a kind, or None while there is not exactly one."""
    found = [node for node in ours.nodes(kind) if node["role"] == "primary"]
    return found[0] if len(found) == 1 else None


def redundant(ours: Environment, kind: str, store: Database | Cache) -> bool:
    """Whether every node is ready again, one of them primary, and every replica follows it."""
    status = ours.status()
    nodes = [node for node in status["nodes"] if node["kind"] == kind]
    roles = sorted(str(node["role"]) for node in nodes)
    if not status["healthy"] or roles != ["primary", *["replica"] * (len(nodes) - 1)]:
        return False
    with suppress(*store.errors):
        return not isinstance(store, Database) or store.replicas() == len(nodes) - 1
    return False


@dataclass(frozen=True, slots=True)
class Round:
    """One fault: the gap, the time to full redundancy (both in seconds), and what went wrong."""

    gap: float
    redundancy: float
    lost: int
    doubles: tuple[str, ...]


def run_round(ours: Environment, fault: Fault, number: int) -> Round:
    """Write, break, wait for writes, wait for redundancy, count."""
    variables = app_environment(ours)
    store: Database | Cache
    urls: dict[str, str] = {}
    if fault.kind == "database":
        store = Database(variables["DATABASE_URL"], f"ledger_{fault.name}_{number}")
        store.create()
        urls = node_urls(ours, variables["DATABASE_URL"])
    else:
        store = Cache(variables["REDIS_URL"], f"ledger:{fault.name}:{number}")
    victim = primary(ours, fault.kind)
    if victim is None:
        raise RuntimeError(f"no single primary among the {fault.kind} nodes")
    with ExitStack() as stack:
        sampler = stack.enter_context(sample_databases({node: Secret(url) for node, url in urls.items()}))
        writer = stack.enter_context(Writer(store))
        until(lambda: len(writer.acknowledged) >= 50, "the writer to be under way", within=20)
        moment = time.monotonic()
        fault.inject(ours, victim)
        until(
            lambda: (
                writer.failures
                and writer.failures[-1][0] > moment
                and writer.since(writer.failures[-1][0]) > 20
            ),
            "writes to be acknowledged again after the fault was felt",
            within=90,
        )
        settled = time.monotonic()
        until(lambda: time.monotonic() - settled > _SETTLE, "a steady stream of writes")
        until(
            lambda: redundant(ours, fault.kind, store_of(store, variables)),
            "full redundancy",
            within=120,
            every=0.3,
        )
        redundancy = time.monotonic() - moment
    lost = {n for _, n in writer.acknowledged} - store.read()
    store.forget()
    return Round(writer.longest_gap(moment), redundancy, len(lost), tuple(sampler.two_primaries()))


def store_of(store: Database | Cache, variables: dict[str, str]) -> Database | Cache:
    """A second connection beside the writer's own, which only the writer's thread may use."""
    return Database(variables["DATABASE_URL"], "unused") if isinstance(store, Database) else store


def measure(ours: Environment, fault: Fault, runs: int) -> list[Row]:
    """Two rows for a fault: the gap, and the time to full redundancy."""
    rounds = []
    for number in range(runs):
        until(
            lambda: primary(ours, fault.kind) and ours.status()["healthy"],
            "a healthy environment",
            within=120,
        )
        rounds.append(run_round(ours, fault, number))
        say(f"failover: {fault.name}: round {number + 1} of {runs}: {rounds[-1]}")
    gaps = tuple(one.gap for one in rounds)
    lost, doubles = sum(one.lost for one in rounds), sum(bool(one.doubles) for one in rounds)
    p95 = percentile(gaps, 0.95)
    beside = f"p95 {p95:.2f} s; {lost} acknowledged writes lost; two primaries in {doubles} rounds"
    # the cache promises no lost write, the database does
    met = p95 <= fault.limit and doubles == 0 and (lost == 0 or fault.kind == "cache")
    return [
        Row(
            f"{fault.what}: longest gap",
            "s",
            gaps,
            beside,
            f"p95 at most {fault.limit:g} s, nothing lost",
            met,
        ),
        Row(f"{fault.what}: full redundancy", "s", tuple(one.redundancy for one in rounds)),
    ]


def rows(runs: int = 15, faults: Sequence[Fault] = FAULTS) -> list[Row]:
    """Faults on one environment, one after the other."""
    with running_shop() as ours:
        return [row for fault in faults for row in measure(ours, fault, runs)]


if __name__ == "__main__":
    known = {fault.name: fault for fault in (*FAULTS, SWITCHOVER)}
    words = argparse.ArgumentParser()
    words.add_argument("--runs", type=int, default=15)
    words.add_argument("--fault", action="append", choices=list(known))
    given = words.parse_args()
    table = rows(given.runs, [known[name] for name in given.fault or known])
    print_rows(table)
    sys.exit(any(row.met is False for row in table))
