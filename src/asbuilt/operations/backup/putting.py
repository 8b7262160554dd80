"""Puts single files and objects back, and counts what came of it.

Invariant: what is wrong with one of them is its problem alone; what concerns all of them (the store is away,
the disk is full) is an error.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from asbuilt.exec.store import DIFFERENT, MISSING, Store
from asbuilt.operations.backup.blobs import open_blobs
from asbuilt.plan.copies import Copy
from asbuilt.plan.manifest import Entry
from asbuilt.values.errors import AsbuiltError, RefusedError
from asbuilt.values.secret import Secret

if TYPE_CHECKING:
    from asbuilt.exec.tree import Tree

_DAMAGED: Final = frozenset({DIFFERENT, MISSING, "SEAL-002"})
"""Errors that are about one file alone."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NAMED: Final = 20
WRITTEN, SAME, REMOVED = "written", "same", "removed"


class Done(NamedTuple):
    """What was done about one entry (nothing, when empty), and what is wrong with it."""

    entry: Entry
    what: str = ""
    problem: str = ""


Write = Callable[[Entry, Iterable[bytes]], None]


@dataclass
class Brought:
    """What came of a restore.

    Args:
        copy: where from.
        where: the folder, or what was replaced.
        count: files, links and objects that were written; of a cache its keys.
        size: bytes of them.
        same: those that needed nothing.
        removed: those that were removed, because they were not there then.
        problems: what is not restored, or not whole, and why.
        point: in place: id of the backup of what was there.
        seconds: how long it took.
    """

    copy: Copy
    where: str
    count: int = 0
    size: int = 0
    same: int = 0
    removed: int = 0
    problems: list[str] = field(default_factory=list)
    point: str = ""
    seconds: float = 0.0

    def add(self, done: Done) -> None:
        """One more."""
        if done.problem:
            self.problems.append(f"{done.entry.path}: {done.problem}")
        if done.entry.kind == "folder":
            return
        self.removed += done.what == REMOVED
        self.same += done.what == SAME
        if done.what == WRITTEN:
            self.count += 1
            self.size += done.entry.size

    def check(self) -> None:
        """Raise AsbuiltError RESTORE-040 when something is not restored."""
        if self.problems:
            raise AsbuiltError(
                "RESTORE-040",
                f"{len(self.problems)} of the {self.copy.part} are not restored as they were; the others are",
                where=self.where,
                evidence=tuple(self.problems[:_NAMED]),
                hint="another backup may have them: asbuilt backup list, then --to ID with --path",
            )


@dataclass(frozen=True, slots=True)
class Putter:
    """Puts entries of one manifest.

    Args:
        store: where the pieces are.
        identities: keys that open them.
        key: of their names.
    """

    store: Store
    identities: tuple[Secret, ...]
    key: bytes

    def put(self, write: Write, entry: Entry) -> Done:
        """The content of a file or an object."""
        if entry.problem and not entry.blobs:
            return Done(entry, problem=entry.problem)
        try:
            write(entry, open_blobs(self.store, entry.blobs, self.key, self.identities))
        except AsbuiltError as error:
            if error.code not in _DAMAGED:
                raise
            return Done(entry, problem=f"{error.code} {error.what}")
        except OSError as error:
            return Done(entry, problem=_tell(error))
        return Done(entry, WRITTEN, entry.problem)

    def put_as(self, tree: Tree, path: str, entry: Entry) -> Done:
        """An object as the file with this path."""
        return self.put(lambda one, content: tree.write(replace(one, path=path), content), entry)

    def put_file(self, tree: Tree, entry: Entry) -> Done:
        """A file, a folder or a link."""
        if entry.kind == "special":
            return Done(entry, SAME)
        if entry.kind == "file":
            return self.put(tree.write, entry)
        try:
            if entry.kind == "folder":
                tree.make_folder(entry.path)
            else:
                tree.make_link(entry)
        except OSError as error:
            return Done(entry, problem=_tell(error))
        return Done(entry, WRITTEN, entry.problem)


def remove(take_away: Callable[[str], None], entry: Entry) -> Done:
    """What was not there then."""
    try:
        take_away(entry.path)
    except OSError as error:
        return Done(entry, problem=f"is not removed: {_tell(error)}")
    return Done(entry, REMOVED)


def settle(brought: Brought, tree: Tree, dones: Iterable[Done]) -> None:
    """Count; and give each folder its mode and time when all that is in it is there."""
    begun: list[Entry] = []
    for done in dones:
        brought.add(done)
        while begun and not done.entry.path.startswith(f"{begun[-1].path}/"):
            tree.settle_folder(begun.pop())
        if done.entry.kind == "folder" and done.what in {WRITTEN, SAME}:
            begun.append(done.entry)
    for folder in reversed(begun):
        tree.settle_folder(folder)


def _tell(error: OSError) -> str:
    """What kept one from being written. Raises RefusedError RESTORE-032 where that is the end."""
    if error.errno in _FULL:
        raise RefusedError(
            "RESTORE-032",
            "there is no room for what is restored",
            hint="free some space, then run it again: what is there already is not written again",
        )
    return error.strerror or str(error)
