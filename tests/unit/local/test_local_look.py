"""One look at the machine serves several workloads, but never one that was started after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from asbuilt.targets.local import host as module
from asbuilt.targets.local.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> tuple[Host, list[float], Callable[[float], None]]:
    """A host, the times at which it looked, and what sets the clock."""
    clock = [100.0]
    looks: list[float] = []

    def look_around() -> dict[int, Any]:
        looks.append(clock[0])
        return {len(looks): None}

    monkeypatch.setattr(module, "look_around", look_around)
    monkeypatch.setattr("asbuilt.targets.local.host.time.monotonic", lambda: clock[0])
    one = Host(cast("Any", Path()), cast("Any", None), cast("Any", None), cast("Any", None))
    return one, looks, lambda now: clock.__setitem__(0, now)


def test_those_that_start_together_share_a_look(
    host: tuple[Host, list[float], Callable[[float], None]],
) -> None:
    one, looks, at = host
    first = one.look_for("a")
    at(100.3)
    assert one.look_for("b") is first
    assert looks == [100.0]


def test_a_look_grows_old(host: tuple[Host, list[float], Callable[[float], None]]) -> None:
    one, looks, at = host
    one.look_for("a")
    at(100.6)
    one.look_for("a")
    assert looks == [100.0, 100.6]


def test_a_look_from_before_a_start_shows_nothing_of_it(
    host: tuple[Host, list[float], Callable[[float], None]],
) -> None:
    one, looks, at = host
    one.look_for("a")
    one.note_start("a")
    one.look_for("a")
    assert looks == [100.0, 100.0]
    at(100.2)
    one.look_for("b")
    assert len(looks) == 2
    one.note_start("b")
    at(100.3)
    one.look_for("a")
    one.look_for("b")
    assert looks == [100.0, 100.0, 100.3]
