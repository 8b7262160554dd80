"""A folder that somebody else writes to meanwhile: walked, read and written.

Invariants: nothing outside of it is read or written, whatever links somebody puts into it and when: every
step goes from an open folder to what is directly in it, and follows no link. A file has its name only when
it is whole.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Final

from asbuilt.plan.manifest import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from asbuilt.exec.streams import Readable

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_MODES: Final = 0o1777
"""Permissions that are kept: who runs a file as whom is not for a backup to say."""
_TRIES: Final = 3
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
CHANGED: Final = "it changed each time that it was read"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose what is written is."""

    uid: int
    gid: int

    def take(self, descriptor: int) -> None:
        """Give an open file or folder to it, where that is another user than ours."""
        if self.uid != os.geteuid():
            os.fchown(descriptor, self.uid, self.gid)


class Tree:
    """The folder `root`. Raises OSError where it is not there; problems of what is in it are entries."""

    def __init__(self, root: Path, owner: Owner) -> None:
        self._root, self._owner = root, owner
        self._room = Lock()
        """What is in the way is removed by one at a time, of those that write side by side."""

    def walk(self) -> Iterator[Entry]:
        """What is in it, in the order of paths, as it is asked for; kept are the names of a folder."""
        folder = os.open(self._root, _FOLDER)
        yield from self._walk(folder, _list(folder), "")

    def _walk(self, folder: int, names: list[str], prefix: str) -> Iterator[Entry]:
        try:
            for name in names:
                entry = _look(folder, name, prefix + name)
                if entry is None:
                    continue
                if entry.kind != "folder":
                    yield entry
                    continue
                try:
                    inner = os.open(name, _FOLDER, dir_fd=folder)
                    below = _list(inner)
                except OSError as error:
                    if error.errno not in _GONE:
                        yield replace(entry, problem=_words(error))
                    continue
                yield entry
                yield from self._walk(inner, below, f"{prefix}{name}/")
        finally:
            os.close(folder)

    def read(self, entry: Entry, keep: Callable[[Readable], tuple[tuple[str, ...], int]]) -> Entry | None:
        """Have the content of a file kept; the entry of what was read, None when it is gone.

        One that changes meanwhile is read again; after some tries what was read last is kept, with a problem.
        `keep` gives the names of the pieces and how many bytes they have; its errors are raised.
        """
        for _ in range(_TRIES):
            try:
                with self._in(entry.path) as (folder, name):
                    descriptor = os.open(name, _FILE, dir_fd=folder)
            except OSError as error:
                return None if error.errno in _GONE else replace(entry, problem=_words(error))
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                began = os.fstat(descriptor)
                if not stat.S_ISREG(began.st_mode):
                    return replace(entry, kind="special", problem="it became something else meanwhile")
                reader = _Source(file.read, began.st_size)
                blobs, size = keep(reader)
                if reader.problem:
                    return replace(entry, problem=reader.problem)
                entry = replace(_describe(entry.path, began), blobs=blobs, size=size)
                if _stamp(os.fstat(descriptor)) == entry.stamp and size == began.st_size:
                    return entry
        return replace(entry, stamp="", problem=CHANGED)

    def write(self, entry: Entry, content: Iterable[bytes]) -> None:
        """Put a file, in the place of what has its name. Folders above it that are not there are made."""
        with self._in(entry.path, make=True) as (folder, name):
            with self._room:
                _make_room(folder, name, keep=stat.S_ISREG)
            temporary = f".restored-{secrets.token_hex(6)}"
            descriptor = os.open(temporary, _NEW, 0o600, dir_fd=folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    for chunk in content:
                        file.write(chunk)
                    file.flush()
                    self._owner.take(descriptor)
                    os.fchmod(descriptor, entry.mode or 0o600)
                    os.utime(descriptor, ns=(entry.mtime, entry.mtime))
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise

    def make_link(self, entry: Entry) -> None:
        """Put a link."""
        with self._in(entry.path, make=True) as (folder, name):
            with self._room:
                _make_room(folder, name, keep=lambda _: False)
            os.symlink(entry.target, name, dir_fd=folder)
            os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=folder, follow_symlinks=False)
            if self._owner.uid != os.geteuid():
                os.chown(name, self._owner.uid, self._owner.gid, dir_fd=folder, follow_symlinks=False)

    def make_folder(self, path: str) -> None:
        """Make a folder, that may be there. What it is allowed is said later, by `settle_folder`."""
        with self._in(path, make=True, inside=True):
            pass

    def settle_folder(self, entry: Entry) -> None:
        """Give a folder its mode and time, once all is in it that belongs there."""
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            self._in(entry.path, inside=True) as (folder, _),
        ):
            os.fchmod(folder, entry.mode)
            os.utime(folder, ns=(entry.mtime, entry.mtime))

    def remove(self, path: str) -> None:
        """Remove a file, a link, or a folder with all that is in it; nothing where it is gone."""
        with suppress(FileNotFoundError, NotADirectoryError), self._in(path) as (folder, name), self._room:
            _make_room(folder, name, keep=lambda _: False)

    def remove_empty(self, path: str) -> None:
        """Remove a folder; it stays when there is something in it."""
        with suppress(OSError), self._in(path) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    @contextmanager
    def _in(self, path: str, *, make: bool = False, inside: bool = False) -> Iterator[tuple[int, str]]:
        """The open folder that holds a path, and its name there; `inside`: the folder that the path is.

        `make`: make folders that are not there. Raises OSError for what is no path below a folder.
        """
        *folders, name = path.split("/")
        if "\0" in path or any(one in {"", ".", ".."} for one in (*folders, name)):
            raise OSError(errno.EINVAL, f"no path below a folder: {path!r}")
        if inside:
            folders.append(name)
        folder = os.open(self._root, _FOLDER)
        try:
            for one in folders:
                if make:
                    with self._room:
                        _make_inner(folder, one, self._owner)
                inner = os.open(one, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder, name
        finally:
            os.close(folder)


class _Source:
    """Reads a file, and remembers what kept it from being read: that is no error of whoever stores it."""

    def __init__(self, read: Callable[[int], bytes | None], size: int) -> None:
        self._read = read
        self._left = size
        self.problem = ""

    def read(self, size: int = -1, /) -> bytes:
        """No more than the file had when it was opened: one that grows as fast as it is stored has no end."""
        try:
            chunk = self._read(self._left if size < 0 else min(size, self._left)) or b""
        except OSError as error:
            self.problem = _words(error)
            return b""
        self._left -= len(chunk)
        return chunk


def _list(folder: int) -> list[str]:
    """The names in an open folder, which is closed when they cannot be had.

    To be asked for at once: by the time that somebody wants them the folder may be removed.
    """
    try:
        return sorted(os.listdir(folder))
    except OSError:
        os.close(folder)
        raise


def _look(folder: int, name: str, path: str) -> Entry | None:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(found.st_mode) else ""
    except OSError as error:
        return None if error.errno in _GONE else Entry(path, "special", problem=_words(error))
    return replace(_describe(path, found), target=target)


def _describe(path: str, found: os.stat_result) -> Entry:
    mode = found.st_mode
    if stat.S_ISREG(mode):
        stamp = _stamp(found)
        return Entry(
            path, "file", found.st_size, found.st_mtime_ns, mode & _MODES, stamp, changed=found.st_ctime_ns
        )
    if stat.S_ISDIR(mode):
        return Entry(path, "folder", 0, found.st_mtime_ns, mode & _MODES)
    if stat.S_ISLNK(mode):
        return Entry(path, "link", 0, found.st_mtime_ns)
    return Entry(path, "special", 0, found.st_mtime_ns)


def _stamp(found: os.stat_result) -> str:
    return f"{found.st_ino}:{found.st_mtime_ns}:{found.st_ctime_ns}"


def _words(error: OSError) -> str:
    return error.strerror or str(error)


def _make_inner(folder: int, name: str, owner: Owner) -> None:
    """Make a folder unless there is one; what else has its name goes."""
    _make_room(folder, name, keep=stat.S_ISDIR)
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
        inner = os.open(name, _FOLDER, dir_fd=folder)
        try:
            owner.take(inner)
        finally:
            os.close(inner)


def _make_room(folder: int, name: str, keep: Callable[[int], bool]) -> None:
    """Remove what has a name, unless it is of a kind that may stay."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if keep(mode):
        return
    if stat.S_ISDIR(mode):
        shutil.rmtree(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)
