from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.yard import Yard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="asb-") as folder:
        yield Path(folder).resolve()


@pytest.fixture
def make_yard() -> Iterator[Callable[[Path], Yard]]:
    made: list[Yard] = []

    def make(root: Path) -> Yard:
        made.append(Yard(root))
        return made[-1]

    yield make
    for yard in made:
        yard.clean()


@pytest.fixture
def yard(root: Path, make_yard: Callable[[Path], Yard]) -> Yard:
    return make_yard(root)
