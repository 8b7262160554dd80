"""Takes and tries a backup of the cache: a dump that one of its nodes makes, checked before it is stored."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from asbuilt.engines.folders import give, make_folder
from asbuilt.engines.redis.dump import check_dump, make_dump
from asbuilt.exec.streams import CHUNK
from asbuilt.operations.backup.context import Backups, fail, hold
from asbuilt.operations.backup.manifests import open_copy
from asbuilt.operations.backup.notes import choose_own_id, note_stored, running
from asbuilt.operations.backup.snapshot import remember_copy
from asbuilt.operations.progress import Event
from asbuilt.plan.copies import DUMP, Copy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PART: Final = "cache"


def take_cache(backups: Backups, label: str = "", one: str = "") -> Copy:
    """Take one. Raises AsbuiltError CACHE-004 to -006, or what the store says. Arguments as of a snapshot."""
    prepared = backups.prepared
    with (
        hold(backups, "taking a backup of the cache"),
        running(backups, PART) as said,
        _folder(backups) as place,
    ):
        chosen, began = one or choose_own_id(backups), datetime.now(UTC)
        backups.tell(Event("started", PART, f"take the backup {chosen} of the cache"))
        dump = make_dump(
            prepared.architecture,
            prepared.site,
            place / DUMP,
            lambda text: backups.tell(Event("waiting", PART, text)),
        )
        keys = check_dump(prepared.site, prepared.runner, dump.path)
        copy = Copy(
            PART,
            chosen,
            label,
            began,
            datetime.now(UTC),
            size=0,
            clear_size=dump.path.stat().st_size,
            count=keys,
            sha256="",
            version=prepared.site.tools["redis"].version,
        )
        with dump.path.open("rb") as file, backups.sealer.seal(file) as sealed:
            put = backups.store.put(copy.key, sealed, expected=copy.clear_size)
        note_stored(backups, copy.key, put)
        copy = replace(copy, size=put.size, sha256=put.sha256)
        remember_copy(backups, copy)
        said.update(id=copy.id, size=copy.size, count=keys, node=dump.node)
        return copy


def try_cache(backups: Backups, copy: Copy) -> str:
    """Fetch it and have the engine's own tool read it; what was found. Raises AsbuiltError."""
    with _folder(backups) as place:
        dump = place / DUMP
        fetch_dump(backups, copy, dump)
        give(backups.prepared.runner.identity, place)
        keys = check_dump(backups.prepared.site, backups.prepared.runner, dump)
    if keys != copy.count:
        raise fail("BACKUP-007", f"the dump has {keys} keys, and had {copy.count} when it was taken")
    return f"the engine's own check read {keys:,} keys"


def fetch_dump(backups: Backups, copy: Copy, to: Path) -> None:
    """Put the dump of a copy into a file."""
    with open_copy(backups, copy) as clear, to.open("wb") as file:
        while chunk := clear.read(CHUNK):
            file.write(chunk)


@contextmanager
def _folder(backups: Backups) -> Iterator[Path]:
    """A folder for a dump, on the disk of the cache and for its identity, as long as it is needed."""
    folder = backups.stage.root / "dump"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield make_folder(backups.prepared.runner.identity, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
