"""Takes a copy of the files or the objects: what did not change since the last one is not even read.

Invariants: a copy counts from the moment that its description is stored, and that is the last thing; by then
every piece that its manifest names is stored. Killed anywhere, it leaves pieces that the next one uses or
pruning removes. What cannot be read is named, and everything else is in it.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import IO, TYPE_CHECKING, Final

from asbuilt.engines.backup.settings import IDENTITY
from asbuilt.operations.backup.archive import read_copies
from asbuilt.operations.backup.blobs import Blobs
from asbuilt.operations.backup.context import Backups, fail, hold
from asbuilt.operations.backup.manifests import open_manifest
from asbuilt.operations.backup.notes import choose_own_id, note_stored, running, sweeping_later, write_down
from asbuilt.operations.backup.parts import Source, open_source, run_ahead
from asbuilt.operations.progress import Event, ticking
from asbuilt.plan.copies import Copy, Part, to_json
from asbuilt.plan.manifest import (
    Entry,
    Header,
    derive_key,
    is_unchanged,
    pair_up,
    render_entry,
    render_header,
)
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAMED: Final = 100
"""Problems that are told one by one."""


@dataclass
class _Tally:
    """What was found so far."""

    count: int = 0
    size: int = 0
    problems: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """One more."""
        self.count += entry.kind in {"file", "object", "link"}
        self.size += entry.size
        if entry.problem:
            self.problems += 1
        if (entry.problem or entry.kind == "special") and len(self.named) < _NAMED:
            self.named.append(f"{entry.path}: {entry.problem or 'no file: left out'}")


def take_snapshot(backups: Backups, part: Part, label: str = "", one: str = "") -> Copy:
    """Take one. Raises AsbuiltError BACKUP-011, OBJECTS-002, or what the store says.

    Args:
        backups: of the environment.
        part: `files` or `objects`.
        label: what its owner calls it.
        one: its id, by default of this moment.
    """
    with hold(backups, f"taking a backup of the {part}"), running(backups, part) as said:
        chosen = one or choose_own_id(backups)
        backups.tell(Event("started", part, f"take the backup {chosen} of the {part}"))
        with sweeping_later(backups), tempfile.TemporaryFile(dir=backups.stage.root) as spool:
            try:
                copy, tally = _take(backups, Header(part, chosen, datetime.now(UTC), ""), label, spool)
            except OSError as error:
                raise fail(
                    "BACKUP-011",
                    f"the {part} cannot be backed up: {error.strerror or error}",
                    evidence=(str(error.filename or backups.stage.root),),
                    hint="see that it is there, that it can be read, and that the disk has room",
                ) from None
        said.update(id=copy.id, size=copy.size, count=copy.count, problems=tally.named)
        for problem in tally.named:
            backups.tell(Event("note", "", f"{part}: {problem}"))
        return copy


def _take(backups: Backups, header: Header, label: str, spool: IO[bytes]) -> tuple[Copy, _Tally]:
    recipients = backups.sealer.recipients
    key = derive_key(backups.secret(IDENTITY).reveal().encode(), recipients)
    header = replace(header, key=key.hex())
    blobs = Blobs(backups.store, backups.catalogue, backups.sealer, key)
    tally = _Tally()

    def words() -> str:
        read, added = blobs.read / 1e6, blobs.added / 1e6
        return f"{tally.count:,} {header.part}, {read:,.1f} MB read, {added:,.1f} MB stored"

    spool.write(render_header(header).encode())
    with ExitStack() as stack, ticking(backups.tell, header.part, words):
        before = _find_previous(backups, header, stack)
        for entry in run_ahead(_find_tasks(open_source(backups, header.part), before, blobs)):
            if entry is not None:
                tally.add(entry)
                spool.write(render_entry(entry).encode())
    blobs.flush()
    spool.seek(0)
    copy = Copy(
        header.part,
        header.id,
        label,
        header.began,
        datetime.now(UTC),
        size=0,
        clear_size=tally.size,
        count=tally.count,
        sha256="",
        problems=tally.problems,
    )
    with backups.sealer.seal(spool) as sealed:
        put = backups.store.put(copy.key, sealed)
    note_stored(backups, copy.key, put)
    copy = replace(copy, size=blobs.added + put.size, sha256=put.sha256)
    remember_copy(backups, copy)
    return copy, tally


def remember_copy(backups: Backups, copy: Copy) -> None:
    """Write down what is known of a copy."""
    write_down(backups, copy.part, copy.id, to_json(copy))


def _find_previous(
    backups: Backups, header: Header, stack: ExitStack
) -> tuple[datetime, Iterator[Entry]] | None:
    """When the newest copy began and what is in it, if its pieces have names of the same key."""
    for copy in reversed([one for one in read_copies(backups) if one.part == header.part and not one.bad]):
        with suppress(AsbuiltError):
            found, entries = stack.enter_context(open_manifest(backups, copy))
            if found.key == header.key:
                return found.began, _as_far_as_it_goes(backups, copy, entries)
    return None


def _as_far_as_it_goes(backups: Backups, copy: Copy, entries: Iterator[Entry]) -> Iterator[Entry]:
    """What comes after the place where it is damaged is read again, as if it were new."""
    try:
        yield from entries
    except AsbuiltError as error:
        backups.tell(
            Event("note", "", f"the manifest of {copy.id} ends early, and more is read: {error.what}")
        )


def _find_tasks(
    source: Source, before: tuple[datetime, Iterator[Entry]] | None, blobs: Blobs
) -> Iterator[Callable[[], Entry | None]]:
    """What is to be done for each that is there: mostly nothing."""
    began, entries = before or (datetime.now(UTC), iter(()))
    for pair in pair_up(entries, source.walk()):
        old, now = pair
        if now is None:
            continue
        if not now.has_content:
            yield partial(_as_it_is, now)
        elif old is not None and is_unchanged(pair, began) and blobs.has(old.blobs):
            yield partial(_as_it_is, replace(now, size=old.size, blobs=old.blobs, headers=old.headers))
        else:
            yield partial(source.read, now, blobs.keep)


def _as_it_is(entry: Entry) -> Entry:
    return entry
