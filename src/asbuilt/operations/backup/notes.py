"""What is written down of backups: beside each of them in the store, and in the catalogue.

Invariant: a backup counts from the moment that its description is stored, and that is the last thing.
"""

from __future__ import annotations

import io
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from asbuilt.plan.copies import PARTS, choose_id
from asbuilt.record.catalogue import StoredObject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.exec.store import Put
    from asbuilt.operations.backup.context import Backups
    from asbuilt.record.catalogue import Kind, Result

BASE: Final = "base"
FOLDERS: Final = (BASE, *PARTS)
"""Where backups are in the store: each has a folder of its own below, by its id."""
UNSWEPT: Final = "unswept"
"""A fact: there may be pieces that no backup needs."""
DESCRIPTION: Final = "/backup.json"


def write_down(backups: Backups, folder: str, one: str, text: str) -> None:
    """Write down what is known of a backup: beside it, and in the catalogue."""
    key = f"{folder}/{one}{DESCRIPTION}"
    put = backups.store.put(key, io.BytesIO(text.encode()))
    with backups.catalogue.write():
        note_stored(backups, key, put)
        backups.catalogue.remember_backup(folder, one, text)


def note_stored(backups: Backups, key: str, put: Put) -> None:
    """Write down that an object is stored now."""
    backups.catalogue.remember([StoredObject(key, put.size, put.sha256, time.time())])


def choose_own_id(backups: Backups) -> str:
    """An id for a backup that begins now."""
    taken = {one for folder in FOLDERS for one in backups.catalogue.backups(folder)}
    return choose_id(datetime.now(UTC), taken)


@contextmanager
def sweeping_later(backups: Backups) -> Iterator[None]:
    """Pieces that are stored within the block are looked for by the next pruning, unless it ends well."""
    before = backups.catalogue.fact(UNSWEPT)
    backups.catalogue.remember_facts({UNSWEPT: "yes"})
    yield
    if before is None:
        backups.catalogue.forget_fact(UNSWEPT)


@contextmanager
def running(backups: Backups, kind: Kind) -> Iterator[dict[str, object]]:
    """Write down that something runs, and how it ended; what is put into the mapping is said then."""
    run = backups.catalogue.begin_run(kind)
    said: dict[str, object] = {}
    try:
        yield said
    except BaseException as error:
        result: Result = "failed" if isinstance(error, Exception) else "interrupted"
        backups.catalogue.finish_run(run, result, {**said, "why": str(error)})
        raise
    backups.catalogue.finish_run(run, "done", said)
