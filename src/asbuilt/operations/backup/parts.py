"""What an environment has beside its database that is backed up, and how it is read and written."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from asbuilt.engines.files.engine import files_dir
from asbuilt.engines.seaweedfs.config import bucket_name
from asbuilt.engines.seaweedfs.contents import Contents
from asbuilt.engines.seaweedfs.engine import build_gateway
from asbuilt.exec.tree import Owner, Tree
from asbuilt.graph.model import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from asbuilt.exec.streams import Readable
    from asbuilt.operations.backup.context import Backups
    from asbuilt.plan.copies import Part
    from asbuilt.plan.manifest import Entry

T = TypeVar("T")
_AT_ONCE: Final = 4
"""Files or objects that are read or written at a time; a piece of each is in memory, clear and sealed."""


class Source(Protocol):
    """Where files or objects are."""

    def walk(self) -> Iterator[Entry]:
        """All of them, in the order of paths."""

    def read(self, entry: Entry, keep: Callable[[Readable], tuple[tuple[str, ...], int]]) -> Entry | None:
        """Have the content of one kept; the entry of what was read, None when it is gone."""


def open_files(backups: Backups) -> Tree:
    """The folder of the environment's files."""
    identity = backups.prepared.runner.identity
    return Tree(files_dir(backups.prepared.site), Owner(identity.uid, identity.gid))


def open_objects(backups: Backups) -> Contents:
    """The app's bucket, and no other: never that of the backups."""
    prepared = backups.prepared
    node = prepared.architecture.of(Kind.OBJECTS)[0].id
    return Contents(build_gateway(prepared.site, node), bucket_name(prepared.architecture) or "")


def open_source(backups: Backups, part: Part) -> Tree | Contents:
    """Where the files or the objects are."""
    return open_files(backups) if part == "files" else open_objects(backups)


def run_ahead(tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
    """What tasks give, in their order; a few run at a time, and a few wait. The first error is raised."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="backup") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(task))
                if len(waiting) > 2 * _AT_ONCE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()
