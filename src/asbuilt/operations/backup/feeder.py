"""Fetches the log that a restore needs, ahead of PostgreSQL, which takes it from a folder.

A command that fetched each segment when it is asked for would let the replay wait for the store every time.
Invariants: PostgreSQL gets exactly the parts that were chosen, each whole; what it does not get yet it waits
for, what is not on the way is refused at once, and when fetching failed the replay stops too.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from asbuilt.exec.sealing import open_sealed
from asbuilt.exec.streams import CHUNK
from asbuilt.plan.stored import SegmentName, Stored, parse_key
from asbuilt.plan.timelines import render_history
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.operations.backup.context import Backups
    from asbuilt.plan.archive import Archive
    from asbuilt.plan.replay import Part

_AT_ONCE: Final = 4
_AHEAD: Final = 32
"""Segments that lie ready at most."""
_BEHIND: Final = 4
"""Segments that stay after they were asked for: after a change of timeline PostgreSQL asks again."""
_LOOK: Final = 0.02
_SCRIPT: Final = """\
#!/bin/sh
# restore_command: FOLDER NAME TARGET
folder=$1 name=$2 target=$3
case $name in
*.history) [ -e "$folder/$name" ] || exit 1 ;;
*) grep -qxF "$name" "$folder/list" || exit 1
   echo "$name" >"$folder/asked" ;;
esac
while [ ! -e "$folder/$name" ]; do
  [ ! -e "$folder/failed" ] || exit 255
  sleep 0.02
done
exec cp "$folder/$name" "$target"
"""


class Feeder(threading.Thread):
    """Fills a folder with the parts, in order.

    Args:
        backups: where from.
        archive: what is stored.
        parts: what is wanted, in the order of the replay.
        folder: where to; made here.
    """

    def __init__(self, backups: Backups, archive: Archive, parts: tuple[Part, ...], folder: Path) -> None:
        super().__init__(daemon=True, name="feeder")
        self._backups, self._archive, self._parts, self._folder = backups, archive, parts, folder
        self._over = threading.Event()
        self._index = {str(part.segment): at for at, part in enumerate(parts)}
        self.error: AsbuiltError | None = None

    @property
    def command(self) -> str:
        """The words for `restore_command`."""
        words = shlex.join(("sh", str(self._folder / "fetch.sh"), str(self._folder)))
        return f'{words.replace("%", "%%")} "%f" "%p"'

    @property
    def asked(self) -> int:
        """How many of the parts PostgreSQL has asked for."""
        with suppress(OSError):
            name = (self._folder / "asked").read_text().strip()
            return self._index.get(name, -1) + 1
        return 0

    def prepare(self) -> None:
        """Make the folder, with the script and what is small: the histories and the list of names."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / "fetch.sh").write_text(_SCRIPT)
        (self._folder / "list").write_text("".join(f"{part.segment}\n" for part in self._parts))
        for timeline in self._archive.timelines.known:
            forks = self._archive.timelines.find_history(timeline)
            if forks:
                (self._folder / f"{timeline:08X}.history").write_text(render_history(forks))

    def run(self) -> None:
        """Fetch all."""
        pending: deque[Future[None]] = deque()
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
            try:
                for number, part in enumerate(self._parts):
                    self._wait_for_room(number)
                    if self._over.is_set():
                        return
                    pending.append(pool.submit(self._fetch, part))
                    while len(pending) > _AT_ONCE:
                        pending.popleft().result()
                for future in pending:
                    future.result()
            except Exception as error:  # noqa: BLE001 - whatever it is, PostgreSQL must not wait for it
                said = f"fetching the log failed: {type(error).__name__}: {error}"
                self.error = error if isinstance(error, AsbuiltError) else AsbuiltError("RESTORE-023", said)
                (self._folder / "failed").touch()

    def stop(self) -> None:
        """End it."""
        self._over.set()
        (self._folder / "failed").touch()
        self.join(30.0)

    def _wait_for_room(self, number: int) -> None:
        asked = self.asked
        while number - asked >= _AHEAD and not self._over.is_set():
            time.sleep(_LOOK)
            asked = self.asked
        for part in self._parts[max(0, asked - _BEHIND - _AHEAD) : max(0, asked - _BEHIND)]:
            (self._folder / str(part.segment)).unlink(missing_ok=True)

    def _fetch(self, part: Part) -> None:
        name = str(part.segment)
        partial = self._folder / f"{name}.new"
        with partial.open("wb") as file:
            for one in part.objects:
                file.seek(_offset_of(one))
                with (
                    self._backups.store.get(one.key) as sealed,
                    open_sealed(sealed, self._backups.identities, name=one.key) as clear,
                ):
                    while chunk := clear.read(CHUNK):
                        file.write(chunk)
            file.truncate(part.length)
            file.truncate(self._archive.size)  # the rest is zeros
        partial.rename(self._folder / name)


def _offset_of(one: Stored) -> int:
    name = parse_key(one.key)
    return name.offset if isinstance(name, SegmentName) else 0
