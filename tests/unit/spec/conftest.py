from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asbuilt.spec.load import Loaded, load
from asbuilt.values.errors import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def load_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], Loaded]:
    """Loads a text as asbuilt.yaml of an empty project."""
    from pathlib import Path as FilePath  # noqa: PLC0415 - the name above is for types

    monkeypatch.chdir(tmp_path)

    def act(text: str | bytes) -> Loaded:
        file = FilePath("asbuilt.yaml")
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(file)

    return act


@pytest.fixture
def problems_of(load_text: Callable[[str | bytes], Loaded]) -> Callable[[str | bytes], tuple[Problem, ...]]:
    """The problems of a text; fails when there are none."""

    def act(text: str | bytes) -> tuple[Problem, ...]:
        with pytest.raises(SpecError) as caught:
            load_text(text)
        return caught.value.problems

    return act
