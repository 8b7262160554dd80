"""A folder as a store of backups: a disk of its own, or a network file system that is mounted.

Invariant: a file has its name only when it is whole and on the disk. Until then it lies in `.incoming`; what
a killed process left there is removed a day later.
"""

from __future__ import annotations

import datetime as dt
import errno
import os
import stat
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from asbuilt.exec.objects import REFUSED, UNREACHABLE, Entry, Store, check_key, cut_short
from asbuilt.exec.streams import CHUNK, Readable, Stream
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_INCOMING: Final = ".incoming"
_FORGOTTEN: Final = 86_400.0
"""Seconds after which an incoming file that nobody writes to belongs to nobody."""
_REFUSALS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_UNSYNCED: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES})
"""What file systems say on which a folder cannot be synced, as over SMB."""


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """A folder, which is there: on another disk, or a network file system that is mounted.

    Args:
        folder: its path.
        prefix: folder below it that all keys are below, like `shop/production/`.
    """

    folder: Path
    prefix: str = ""


class FolderStore(Store):
    """Objects as files below `folder`. It must be there: a missing mount must not fill the disk below it."""

    def __init__(self, settings: FolderSettings) -> None:
        super().__init__(str(settings.folder), settings.prefix)
        self._folder = settings.folder
        self._swept = False
        self._naming = threading.Lock()
        """Held while folders are made or removed: one that is empty may be about to get a file."""

    def _path(self, key: str) -> Path:
        return self._folder / (self._prefix + key)

    def get(self, key: str) -> Stream:
        """Open the file."""
        size = self.head(key).size
        with self._told(key):
            return _File(self, key, size, self._path(key).open("rb", buffering=0))

    def head(self, key: str) -> Entry:
        """Look at the file."""
        check_key(key)
        with self._told(key):
            found = self._path(key).stat()
        if not stat.S_ISREG(found.st_mode):
            raise self._missing(key)
        return _entry(key, found)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the files, and the folders that are empty then."""
        touched: set[Path] = set()
        for key in keys:
            check_key(key)
            path = self._path(key)
            with self._told(key), suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                path.unlink()
                touched.add(path.parent)
        with self._naming:
            for folder in sorted(touched):
                self._settle(folder)

    def _settle(self, folder: Path) -> None:
        """Write down what was removed, and remove the folder and those above it while they are empty."""
        while True:
            with suppress(OSError):
                _sync(folder)
            if folder == self._folder:
                return
            with suppress(OSError):  # not empty, mostly
                folder.rmdir()
            if folder.exists():
                return
            folder = folder.parent

    def _put(self, key: str, reader: Readable, expected: int, storage_class: str) -> None:
        del expected, storage_class  # a folder knows nothing of them
        with self._told(key, putting=True):
            handle, name = tempfile.mkstemp(dir=self._incoming())
        try:
            with os.fdopen(handle, "wb", buffering=0) as file:
                while chunk := reader.read(CHUNK):
                    with self._told(key, putting=True):
                        _write(file, chunk)
                with self._told(key, putting=True):
                    os.fsync(file.fileno())
            with self._told(key, putting=True):
                self._name(Path(name), self._path(key))
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise

    def _name(self, incoming: Path, path: Path) -> None:
        """Give a whole file its name, for good."""
        with self._naming:
            made = self._make(path.parent)
            incoming.replace(path)
            for folder in (path.parent, *(one.parent for one in made)):
                _sync(folder)

    def _make(self, folder: Path) -> list[Path]:
        """Make a folder and those above it, up to the store's. The answer is which."""
        made = [one for one in (folder, *folder.parents) if self._folder in one.parents and not one.exists()]
        for one in reversed(made):
            one.mkdir(mode=0o700, exist_ok=True)
        return made

    def _incoming(self) -> Path:
        """The folder of files that are not whole yet. What is left over there goes, by the store's clock."""
        folder = self._folder / _INCOMING
        folder.mkdir(exist_ok=True, mode=0o700)
        if not self._swept:
            self._swept = True
            with tempfile.NamedTemporaryFile(dir=folder) as now:
                limit = os.fstat(now.fileno()).st_mtime - _FORGOTTEN
            for path in folder.iterdir():
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < limit:
                        path.unlink()
        return folder

    def _list(self, prefix: str) -> Iterator[Entry]:
        with self._told(prefix):
            self._folder.stat()  # no answer must not look like an empty one
        yield from self._walk(self._path(prefix), prefix)

    def _walk(self, folder: Path, prefix: str) -> Iterator[Entry]:
        names: list[str] = []  # of one folder: half a million take 50 MB while it is read
        with self._told(prefix), suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
            for one in found:
                if one.is_dir(follow_symlinks=False) and not one.name.startswith("."):
                    names.append(f"{one.name}/")
                elif one.is_file(follow_symlinks=False):
                    names.append(one.name)
        names.sort()
        for name in names:
            if name.endswith("/"):
                yield from self._walk(folder / name, prefix + name)
                continue
            entry = None
            with self._told(prefix), suppress(FileNotFoundError):
                entry = _entry(prefix + name, (folder / name).stat())
            if entry is not None:
                yield entry

    @contextmanager
    def _told(self, key: str, *, putting: bool = False) -> Iterator[None]:
        """Errors of the file system as errors of a store."""
        try:
            yield
        except OSError as error:
            raise self.translate(error, key, putting=putting) from None

    def translate(self, error: OSError, key: str, *, putting: bool = False) -> AsbuiltError:
        """An error of the file system as one of a store."""
        said = error.strerror or str(error)
        if not self._folder.is_dir():
            return AsbuiltError(
                UNREACHABLE,
                "the folder of backups is not there",
                where=self.where,
                hint="mount it, or make it: it is not made here, so that a missing mount is noticed",
            )
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not putting:
            return self._missing(key)
        if error.errno in _FULL:
            return AsbuiltError(
                UNREACHABLE,
                f"no space left for backups: {key}: {said}",
                where=self.where,
                hint="free some space there, or keep backups for a shorter time",
            )
        if error.errno in _REFUSALS:
            return AsbuiltError(
                REFUSED,
                f"the folder of backups refuses {key}: {said}",
                where=self.where,
                hint="make the folder and all in it writable for the user that asbuilt runs as",
            )
        return AsbuiltError(
            UNREACHABLE,
            f"the folder of backups fails: {key}: {said}",
            where=self.where,
            hint="see whether its disk or its server is failing (mount, dmesg)",
        )


class _File(Stream):
    """A file that is read."""

    def __init__(self, store: FolderStore, key: str, size: int, file: IO[bytes]) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._open = file
        self._size = size
        self._at = 0

    def _next(self) -> bytes:
        try:
            chunk = self._open.read(CHUNK)
        except OSError as error:
            raise self._store.translate(error, self._key) from None
        self._at += len(chunk)
        if not chunk and self._at != self._size:
            raise cut_short(self._store.where, self._key, self._at, self._size)
        return chunk

    def close(self) -> None:
        """Close the file."""
        self._open.close()
        super().close()


def _entry(key: str, found: os.stat_result) -> Entry:
    return Entry(key, found.st_size, dt.datetime.fromtimestamp(found.st_mtime, dt.UTC))


def _write(file: IO[bytes], chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _sync(folder: Path) -> None:
    """The names in a folder on the disk, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCED:
            raise
    finally:
        os.close(descriptor)
