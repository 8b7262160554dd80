"""Reads of the journal by those who may hold it open, and by those who only look."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from asbuilt.record.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from asbuilt.values.stage import Stage

T = TypeVar("T")
JOURNAL: Final = "journal.sqlite"


def read_journal(stage: Stage, journal: Journal | None, read: Callable[[Journal], T]) -> T | None:
    """Something of the journal, the open one or that on disk; None where there is none."""
    if journal is not None:
        return read(journal)
    path = stage.root / JOURNAL
    if not path.exists():
        return None
    opened = Journal.open(path, clock=time.time)
    try:
        return read(opened)
    finally:
        opened.close()


def read_facts(stage: Stage, journal: Journal | None) -> Mapping[str, str]:
    """The facts on record."""
    return read_journal(stage, journal, Journal.facts) or {}


def read_setups(stage: Stage, journal: Journal | None) -> Mapping[str, str]:
    """The setups that are known as done, with their keys."""
    return read_journal(stage, journal, Journal.setups) or {}
