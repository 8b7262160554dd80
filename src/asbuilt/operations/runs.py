"""The record of each release, rollback and scaling: what happened, line by line, in one file a run.

The controller writes, everybody reads: who follows a run, `releases`, a person with `jq`. Invariant: a file's
last line has kind `end` when the run came to an end; a file without it is under way, or its controller died.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asbuilt.targets.local.files import read_json, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.operations.progress import Event

FOLDER: Final = "rollouts"
KEPT: Final = 50
"""Runs on record, the newest of each verb."""
_OFTEN: Final = frozenset({("waiting", "gate"), ("traffic", "")})
_PAUSE: Final = 0.4
_LONG: Final = 300.0
"""Seconds after which a run is a long one, whose record must not grow too fast."""
_LONG_PAUSE: Final = 10.0
END: Final = "end"


def new_run(verb: str) -> str:
    """A name for a run; names sort by time."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z-{os.getpid()}-{verb}"


class Writer:
    """Writes one run; whole lines only, each at once."""

    def __init__(self, root: Path, run: str) -> None:
        folder = root / FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        self.path = folder / f"{run}.jsonl"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._began = time.monotonic()
        self._due: dict[str, float] = {}

    def tell(self, event: Event) -> None:
        """Write an event; what is told all the time, now and then."""
        now = time.monotonic()
        if (event.kind, event.subject) in _OFTEN:
            pause = _PAUSE if now - self._began < _LONG else _LONG_PAUSE
            if now < self._due.get(event.kind, 0.0):
                return
            self._due[event.kind] = now + pause
        self.write(
            event.kind, subject=event.subject, text=event.text, seconds=round(event.seconds, 3), **event.data
        )

    def write(self, kind: str, **values: object) -> None:
        """Write one line."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        since = round(time.monotonic() - self._began, 3)
        line = json.dumps({"at": now, "since": since, "kind": kind, **values})
        with suppress(OSError):  # a full disk must not stop a release half-way
            os.write(self._file, line.encode() + b"\n")


@dataclass(slots=True)
class Reader:
    """Reads one run while it is written."""

    path: Path
    _at: int = 0

    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines that are new since the last time."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    self._at += len(line)
                    with suppress(ValueError):
                        yield json.loads(line)
        except FileNotFoundError:
            return


def path_of(root: Path, run: str) -> Path:
    """The file of a run."""
    return root / FOLDER / f"{run}.jsonl"


def set_current(root: Path, run: str) -> None:
    """Name the run that has begun; older ones beyond `KEPT` go."""
    write_atomically(root / FOLDER / "current", json.dumps({"run": run}))
    verb = run.rpartition("-")[2]
    for old in sorted((root / FOLDER).glob(f"*-{verb}.jsonl"))[:-KEPT]:
        if old.stem != run:
            old.unlink(missing_ok=True)
            old.with_suffix(".log").unlink(missing_ok=True)


def find_current(root: Path) -> str | None:
    """The run that began last."""
    found = read_json(root / FOLDER / "current")
    return str(found["run"]) if found else None


ASKED: Final = ("abort", "promote")
"""What can be asked of a run that is under way."""


def ask_for(root: Path, what: str) -> None:
    """Ask the run that is under way to `abort` or to `promote`."""
    (root / FOLDER / f"asked.{what}").touch()


def take_asked(root: Path, what: str) -> bool:
    """Whether it was asked for; it is answered by that."""
    try:
        (root / FOLDER / f"asked.{what}").unlink()
    except FileNotFoundError:
        return False
    return True


def forget_asked(root: Path) -> None:
    """What was asked of an earlier run does not count."""
    for what in ASKED:
        take_asked(root, what)


def list_paths(root: Path) -> list[Path]:
    """The files of all runs, newest first."""
    return sorted((root / FOLDER).glob("*.jsonl"), reverse=True)


def has_ended(root: Path, run: str) -> bool:
    """Whether a run came to its end."""
    last = _last_line(path_of(root, run))
    return last is not None and last.get("kind") == END


def _last_line(path: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 65536))
        lines = file.read().splitlines()
        found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return found
    return None
