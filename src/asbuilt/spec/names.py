"""The names in a spec, read fast: `status` needs no more, and must work while the rest is being edited.

Invariant: pydantic is never imported, and a wrong value elsewhere in the file doesn't matter.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from asbuilt.spec.source import Block, Scalar, read_source
from asbuilt.values.errors import Place, Problem, SpecError

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")


def read_names(path: Path) -> tuple[str, tuple[str, ...]]:
    """The system's name and its environments, in the order of the file; without wrongly named ones.

    Raises:
        SpecError: the file is missing or isn't YAML, or it has no usable name (names become paths).
    """
    root = read_source(path)
    name = root.entries.get("name")
    if name is None or not isinstance(name.value, Scalar) or not NAME.fullmatch(name.value.text):
        place = name.value.place if name else Place(str(path), 1, 1)
        hint = "asbuilt check shows everything that is wrong"
        raise SpecError((Problem("SPEC-010", "name", "the system has no usable name", place, hint),))
    environments = root.entries.get("environments")
    if environments is None or not isinstance(environments.value, Block):
        return name.value.text, ()
    return name.value.text, tuple(key for key in environments.value.entries if NAME.fullmatch(key))
