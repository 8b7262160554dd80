"""Restores files and objects: into a folder, or in their place.

Invariants: into a folder, nothing of the environment is touched. In place, a backup of the present is taken
first, and what could not be kept in it stays as it is; what is the same already is not written, so that one
that was interrupted is simply done again. What cannot be restored is named, and everything else is.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from asbuilt.exec.tree import Owner, Tree
from asbuilt.operations.backup.context import Backups, hold
from asbuilt.operations.backup.manifests import open_manifest
from asbuilt.operations.backup.notes import running
from asbuilt.operations.backup.parts import open_files, open_objects, run_ahead
from asbuilt.operations.backup.putting import SAME, Brought, Done, Putter, remove, settle
from asbuilt.operations.backup.restore import check_room
from asbuilt.operations.backup.snapshot import take_snapshot
from asbuilt.operations.progress import Event, ticking
from asbuilt.plan.manifest import Entry, Pair, pair_up, render_entry, render_file
from asbuilt.values.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from asbuilt.plan.copies import Copy
    from asbuilt.plan.manifest import Header

    Task = Callable[[], Done]

_SHUT: Final = "its folder could not be read"


class _Place(Protocol):
    """Where files or objects are put back."""

    def write(self, entry: Entry, content: Iterable[bytes]) -> None:
        """Put one, in the place of what has its path."""

    def remove(self, path: str) -> None:
        """Remove one; nothing where it is gone."""


def claim_target(folder: Path, name: str) -> Path:
    """Where something is restored to in a folder, which is made. Raises RefusedError RESTORE-038."""
    target = folder / name
    if target.exists():
        raise RefusedError(
            "RESTORE-038", "there is something already", where=str(target), hint="name another folder: --into"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return target


def bring_beside(backups: Backups, copy: Copy, folder: Path, pattern: str = "") -> Brought:
    """Restore files or objects into a folder, below `files` or `objects`.

    Beside the objects is `objects.jsonl`, with their content types and metadata.

    Args:
        backups: of the environment.
        copy: which.
        folder: where; made unless it is there.
        pattern: only what has such a path, like `avatars/*`; empty for all.

    Raises RefusedError RESTORE-032 without room, RESTORE-038 when there is something already.
    """
    target = claim_target(folder, copy.part)
    if not pattern:
        check_room(backups, copy.clear_size, folder)
    target.mkdir(mode=0o700)
    tree = Tree(target, Owner(os.geteuid(), os.getegid()))
    brought = Brought(copy, str(target))
    with _restoring(backups, brought), open_manifest(backups, copy) as (header, entries):
        putter = _build_putter(backups, header)
        chosen = (one for one in entries if matches(one.path, pattern))
        if copy.part == "files":
            settle(brought, tree, run_ahead(partial(putter.put_file, tree, one) for one in chosen))
            return brought
        tasks = (partial(putter.put_as, tree, path, one) for one, path in _name_files(chosen))
        with (folder / "objects.jsonl").open("w") as lines:
            for done in run_ahead(tasks):
                brought.add(done)
                lines.write(render_entry(done.entry))
    return brought


def bring_in_place(backups: Backups, copy: Copy, pattern: str = "") -> Brought:
    """Make the files or objects as they were: what is other is replaced, what was not there is removed."""
    point = take_snapshot(backups, copy.part, "before-restore")
    brought = Brought(copy, "in place", point=point.id)
    with ExitStack() as stack:
        stack.enter_context(_restoring(backups, brought))
        header, wanted = stack.enter_context(open_manifest(backups, copy))
        _, present = stack.enter_context(open_manifest(backups, point))
        putter = _build_putter(backups, header)
        known = _leave_unknown(pair_up(wanted, present))
        pairs = (one for one in known if matches(_path_of(one), pattern))
        if copy.part == "files":
            _put_files(brought, putter, open_files(backups), pairs)
        else:
            objects = open_objects(backups)
            for done in run_ahead(_decide(one, partial(putter.put, objects.write), objects) for one in pairs):
                brought.add(done)
    return brought


def matches(path: str, pattern: str) -> bool:
    """Whether a path is meant: `*` is any characters, also slashes."""
    return not pattern or fnmatchcase(path, pattern)


def _put_files(brought: Brought, putter: Putter, tree: Tree, pairs: Iterable[Pair]) -> None:
    """Folders that were not there go last, those that are empty by then."""
    extra: list[str] = []

    def plan() -> Iterator[Task]:
        for pair in pairs:
            if pair.before is None and pair.now is not None and pair.now.kind == "folder":
                extra.append(pair.now.path)
            else:
                yield _decide(pair, partial(putter.put_file, tree), tree)

    settle(brought, tree, run_ahead(plan()))
    for path in reversed(extra):
        tree.remove_empty(path)


def _leave_unknown(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """What is below a folder that could not be listed, then or now, stays: who knows what was there."""
    shut = ""
    for pair in pairs:
        before, now = pair
        if shut and _path_of(pair).startswith(shut):
            one = before or now
            unknown = replace(one, problem=_SHUT) if one is not None else None
            yield Pair(before, unknown) if now is None else Pair(unknown, now)
            continue
        if any(one is not None and one.kind == "folder" and one.problem for one in pair):
            shut = f"{_path_of(pair)}/"
        yield pair


def _decide(pair: Pair, put: Callable[[Entry], Done], place: _Place) -> Task:
    """What is done about a path."""
    wanted, now = pair
    if now is not None and now.problem:
        return partial(Done, now, problem=f"stays as it is, because it could not be kept: {now.problem}")
    if wanted is None:
        if now is None or now.kind == "special":
            return partial(Done, now or Entry("", "special"), SAME)
        return partial(remove, place.remove, now)
    if wanted.problem:
        return partial(Done, wanted, problem=f"stays as it is, for the backup has it not: {wanted.problem}")
    if now is not None and _compare(wanted) == _compare(now):
        return partial(Done, wanted, SAME)
    return partial(put, wanted)


def _compare(entry: Entry) -> Entry:
    """What has to be the same so that nothing is to be done. The time of an object cannot be put back."""
    return replace(entry, stamp="", changed=0, mtime=entry.mtime if entry.kind == "file" else 0)


def _path_of(pair: Pair) -> str:
    entry = pair.before or pair.now
    return entry.path if entry is not None else ""


def _name_files(objects: Iterable[Entry]) -> Iterator[tuple[Entry, str]]:
    """Each object and the path of its file.

    Where a key is also the folder of others, its file has a `%` behind its name.
    """
    held: Entry | None = None
    for one in objects:
        if held is not None:
            yield held, render_file(held.path) + ("%" if one.path.startswith(f"{held.path}/") else "")
        held = one
    if held is not None:
        yield held, render_file(held.path)


def _build_putter(backups: Backups, header: Header) -> Putter:
    return Putter(backups.store, backups.identities, bytes.fromhex(header.key))


@contextmanager
def _restoring(backups: Backups, brought: Brought) -> Iterator[None]:
    """Hold the backups, tell how far it is, and write down what came of it."""
    began = time.monotonic()
    copy = brought.copy

    def words() -> str:
        of = f"{brought.size / 1e6:,.1f} of {copy.clear_size / 1e6:,.1f} MB"
        return f"{brought.count:,} {copy.part} restored, {of}, {brought.same:,} were the same"

    with hold(backups, f"restoring {copy.part}"), running(backups, "restore") as said:
        backups.tell(Event("started", "restore", f"restore the {copy.part} of backup {copy.id}"))
        with ticking(backups.tell, "restore", words):
            yield
        brought.seconds = time.monotonic() - began
        said.update(part=copy.part, id=copy.id, count=brought.count, problems=len(brought.problems))
