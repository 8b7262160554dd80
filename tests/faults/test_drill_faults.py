"""The drill itself is killed, at every moment: its fault ends, and `recover` takes away what else is left."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from asbuilt.operations.drill.preflight import find_interrupted
from asbuilt.operations.drill.record import State, read_fault
from asbuilt.targets.local.process import is_alive, is_stopped, look_around
from support import until
from support.killing import killed_at
from support.ledger import Ground
from support.live import Live, copy_example, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(1800)]

WITHIN = 60.0
"""Seconds from the end of the drill until nothing of it is left and everything is whole."""


@pytest.fixture(scope="module")
def live(module_home: Path) -> Iterator[Live]:
    with running(copy_example("shop", module_home), "production") as one:
        Ground(one).redundant()
        yield one


def drill_killed_at(live: Live, moment: int, name: str, *words: str) -> tuple[int, str]:
    """The drill, killed at that moment: its status and the last thing that it said."""
    given = ("drill", live.name, name, *words, "--confirm", live.name)
    status, said = killed_at(live, moment, *given, timeout=240)
    return status, said.strip().splitlines()[-1]


def remains(live: Live) -> list[str]:
    """What is left of a drill."""
    left = [find_interrupted(live.root)] if find_interrupted(live.root) else []
    record = read_fault(live.root)
    if record is not None:
        left += [f"{record.state}"] if record.state is not State.REMOVED else []
        left += ["the holder"] if record.holder and is_alive(record.holder) else []
        left += [f"{one} is stopped" for one in record.victims if is_stopped(one)]
    workloads = Ground(live).client().raw_status()["workloads"]
    left += [f"{name} is held" for name, one in workloads.items() if one["held"]]
    left += [name for name in workloads if "sidecar" in name]
    nodes = str(live.root / "nodes")
    found = [one.process for one in look_around().values() if one.cwd and one.cwd.startswith(nodes)]
    left += [f"{one.name} {one.pid} is stopped" for one in found if one.state == "T"]
    try:
        with psycopg.connect(Ground(live).variables["DATABASE_URL"], connect_timeout=2) as connection:
            row = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'asbuilt_drill'").fetchone()
            left += ["the schema"] if row else []
    except psycopg.Error as error:
        left.append(f"a database that does not answer: {error}")
    if live.status()["operation"]:
        left.append("the lock")
    return left


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("database-primary-lost", ("--variant", "frozen")),
        ("database-and-standby-lost", ()),
        ("cache-primary-lost", ()),
        ("data-corruption", ()),
    ],
)
def test_killed_at_every_moment_it_is_clean_within_a_minute(
    live: Live, name: str, words: tuple[str, ...]
) -> None:
    status, said = drill_killed_at(live, 0, name, *words)
    assert status == 0, said
    took: list[float] = []
    moment = 0
    while status in {0, -signal.SIGKILL}:
        Ground(live).redundant()
        moment += 1
        status, said = drill_killed_at(live, moment, name, *words)
        begun = time.monotonic()
        if status == 0:
            break
        assert status == -signal.SIGKILL, said
        removed = json.loads(live.run("drill", live.name, "recover", "--json").stdout)["removed"]
        recovered = time.monotonic() - begun
        until(lambda: not remains(live), what=f"nothing of it to be left: {said}", within=WITHIN)
        Ground(live).redundant(WITHIN)
        took.append(time.monotonic() - begun)
        print(f"{name} {moment} ({said}): recovered after {recovered:.1f} s, whole after {took[-1]:.1f} s")
        print(f"    {removed}")
        assert took[-1] < WITHIN, said
    print(f"{name}: killed at {moment - 1} moments, whole after {max(took):.1f} s at most")
    assert moment > 8
