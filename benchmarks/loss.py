"""The loss of every data directory at once, under writes: what of them is gone, and what the restore says.

The backups are in a folder outside. Every process of the environment is killed and its whole home deleted.
The new one has the saved `secrets.json` and nothing else, and restores as "Restore at 3 a.m." says. The loss
is the time from the last acknowledged write that was restored to the last one that was acknowledged.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from backup import write_project
from campaign_watch import find_processes
from common import Bench, Environment, Row, environment, run_alone, say, until
from failover import app_environment
from oracle import Database, Writer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LIMIT = 5.0
_APART = 0.1
"""What the restore states may differ from what was lost, in seconds."""


@dataclass(frozen=True, slots=True)
class Loss:
    """One total loss.

    Args:
        seconds: of acknowledged writes that are gone.
        stated: the same, if the last transaction is of the time that the restore says.
        writes: acknowledged ones that are gone.
        holes: those of them that are older than one that was restored.
        rate: acknowledged writes a second.
        back: seconds from the loss to a restored database.
    """

    seconds: float
    stated: float
    writes: int
    holes: int
    rate: float
    back: float


def lose_everything(one: Environment) -> None:
    """Kill every process of the environment, and delete its home."""

    def kill() -> bool:
        found = find_processes(one.home)
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return not found

    until(kill, "every process to be dead", within=20, every=0)
    shutil.rmtree(one.home)


def bring_back(one: Environment, root: Path, secrets: bytes) -> datetime:
    """A new environment with the saved secrets, restored; the time of the last transaction, as it says."""
    root.mkdir(mode=0o700, parents=True)
    (root / "secrets.json").write_bytes(secrets)
    (root / "secrets.json").chmod(0o600)
    one.run("up", one.name)
    listed = json.loads(one.run("backup", one.name, "list", "--json").stdout)
    (system,) = listed["other_systems"]
    words = ("--system", system, "--to", "latest", "--in-place", "--confirm", one.name, "--json")
    said = json.loads(one.run("restore", one.name, *words).stdout)
    return datetime.fromisoformat(said["last_transaction"])


def run_round(one: Environment, seconds: float) -> Loss:
    """Write for a while, lose everything, bring it back, count."""
    root = one.root()
    ledger = Database(app_environment(one)["DATABASE_URL"], "ledger")
    ledger.create()
    one.run("backup", one.name, "create")
    secrets = (root / "secrets.json").read_bytes()
    with Writer(ledger) as writer:
        began = time.monotonic()
        until(lambda: time.monotonic() - began > seconds, "writes", within=seconds + 1)
        lost_at, wall = time.monotonic(), time.time() - time.monotonic()
        lose_everything(one)
    last = bring_back(one, root, secrets)
    back = time.monotonic() - lost_at
    stored = Database(app_environment(one)["DATABASE_URL"], "ledger").read()
    return count_loss(writer.acknowledged, stored, last.timestamp() - wall, back)


def count_loss(acknowledged: Sequence[tuple[float, int]], stored: set[int], last: float, back: float) -> Loss:
    """What is gone of the acknowledged writes. Pure; all times are of one clock.

    Args:
        acknowledged: when, and the number.
        stored: the numbers that came back.
        last: when the last transaction that came back was committed, as the restore says.
        back: for the answer.

    Raises:
        RuntimeError: nothing came back.
    """
    times = {number: at for at, number in acknowledged}
    kept, gone = times.keys() & stored, times.keys() - stored
    if not kept:
        raise RuntimeError("nothing of what was written came back")
    end, newest = max(times.values()), max(kept)
    holes = sum(number < newest for number in gone)
    rate = (len(times) - 1) / (end - min(times.values()))
    return Loss(end - times[newest], end - last, len(gone), holes, rate, back)


def rows(runs: int = 3) -> list[Row]:
    """Measure and return the table's rows."""
    found: list[Loss] = []
    moments = random.Random(7)
    for number in range(runs):
        with Bench() as bench:
            vault = bench.folder / "vault"
            vault.mkdir()
            project = write_project(bench.folder / "project", f", folder: {vault}", "none", replicas=1)
            with environment(bench, project, "production") as one:
                # what is new is stored every two seconds: anywhere in between
                found.append(run_round(one, 10 + moments.uniform(0, 4)))
        say(f"total loss: {number + 1} of {runs}: {found[-1]}")
    worst = max(one.seconds for one in found)
    apart = max(abs(one.stated - one.seconds) for one in found)
    holes = sum(one.holes for one in found)
    rates = ", ".join(f"{one.rate:.0f}" for one in found)
    return [
        Row(
            "every data directory lost: acknowledged writes lost",
            "s",
            tuple(one.seconds for one in found),
            f"{rates} writes/s; {sum(one.writes for one in found)} lost, {holes} of them before a kept one",
            f"at most {_LIMIT:g} s, no holes",
            worst <= _LIMIT and holes == 0,
        ),
        Row(
            "the same, by the last transaction that the restore states",
            "s",
            tuple(one.stated for one in found),
            f"at most {apart:.3f} s apart",
            f"at most {_APART:g} s apart",
            apart <= _APART,
        ),
        Row("from the loss to a restored database", "s", tuple(one.back for one in found)),
    ]


if __name__ == "__main__":
    run_alone(rows, __doc__, runs=3)
