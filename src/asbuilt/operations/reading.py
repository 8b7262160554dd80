"""Reads of the journal by those who may hold it open, and by those who only look."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Final, TypeVar

from asbuilt.record.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from asbuilt.values.stage import Stage

T = TypeVar("T")
JOURNAL: Final = "journal.sqlite"
FLEET: Final = "fleet"
"""Fact of the journal: the app servers that are wanted."""
ROLLOUT: Final = "rollout"
"""Fact of the journal: the release that is on its way."""
SCALE: Final = "scale.app"
"""Fact of the journal: how many app servers the owner wants, whatever the load is."""
SIDECAR: Final = "restore.sidecar"
"""Fact of the journal: the restored copy that runs beside the database, and what it is."""
IN_PLACE: Final = "restore.in-place"
"""Fact of the journal: a restore that is replacing the database."""
LOAD: Final = "load.app"
"""Fact of the journal: how many app servers the load asks for, in place of the least number."""


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


def peek_facts(stage: Stage) -> Mapping[str, str] | None:
    """The facts on record, read without proof, so that it can be done all the time; None where it can't.

    An environment that was destroyed has none.
    """
    path = stage.root / JOURNAL
    if not path.exists():
        return {}
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)
        try:
            return dict(connection.execute("SELECT key, value FROM facts").fetchall())
        finally:
            connection.close()
    except sqlite3.Error:
        return None
