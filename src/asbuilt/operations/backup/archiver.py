"""The process that archives the log of one environment's database and takes its backups when they are due.

`python -m asbuilt.operations.backup.archiver SETTINGS FILE NAME ENVIRONMENT HOME`. Invariants:
traffic does not need it; killed at any moment it goes on where it was; what it does and what
keeps it from it is in its log and in STATE.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asbuilt.engines.backup.settings import BackupSettings, from_json
from asbuilt.engines.postgresql.position import Position, Positions
from asbuilt.operations.backup.lineage import find_system, note_system
from asbuilt.operations.backup.place import make_own_bucket, open_place, open_sealer
from asbuilt.operations.backup.readme import KEY as README
from asbuilt.operations.backup.readme import TEXT
from asbuilt.operations.backup.receiver import APPLICATION, Receiver, set_aside
from asbuilt.operations.backup.shipper import Received, Shipper, read_spool
from asbuilt.operations.backup.state import STATE, WITHIN, ArchiveState, catalogue_path, to_json
from asbuilt.operations.backup.taking_in import take_in
from asbuilt.operations.progress import log_line
from asbuilt.plan.copies import DATABASE
from asbuilt.plan.schedule import Tried, which_due
from asbuilt.plan.wal import Lsn
from asbuilt.record.catalogue import Catalogue, Kind, StoredObject, Watermark
from asbuilt.record.vault import Vault
from asbuilt.targets.local.files import write_atomically
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.python import own_python

MONITOR: Final = "monitor"
_TURN: Final = 1.0
_SHIP_EVERY: Final = 2.0
"""Seconds of log that the loss of everything here may cost, and the time that sending it takes."""
_DUE_EVERY: Final = 30.0
_FIRST_AFTER: Final = 60.0
"""A new environment gets its first backup so late that it does not compete with its start."""
_RETRY: Final = (2.0, 5.0, 10.0, 30.0)
_SCRUB_EVERY: Final = 3600.0
_NOTE_EVERY: Final = 30.0
"""Seconds after which the catalogue is told again that there was nothing new; STATE says it at once."""
_KINDS: Final[dict[str, Kind]] = {
    DATABASE: "base",
    "cache": "cache",
    "objects": "objects",
    "files": "files",
}
"""What taking a backup of a part is called in the catalogue."""
_TRIES: Final = 20
"""Runs that are looked at for the last good one."""


@dataclass
class _Pace:
    """When something is done next, in seconds of a monotonic clock."""

    ship: float = 0.0
    due: float = 0.0
    failures: int = 0


class Archiver:
    """Receives, sends, and starts the jobs that are due."""

    def __init__(self, root: Path, settings: BackupSettings, stage_words: tuple[str, ...]) -> None:
        self._root, self._settings, self._stage_words = root, settings, stage_words
        vault = Vault(root / "secrets.json", keep=False)
        self._secret = vault.secret
        self._system = find_system(settings)
        if not self._system:
            raise AsbuiltError("BACKUP-009", "there is no database yet")
        self._catalogue = Catalogue.open(catalogue_path(root, self._system), clock=time.time)
        self._catalogue.interrupt_runs()
        self._store = open_place(settings, self._secret, self._system)
        self._receiver = Receiver(settings, self._secret("database.replicator"))
        self._shipper = Shipper(
            settings.spool, self._store, open_sealer(settings, self._secret), self._catalogue, time.time
        )
        self._pace = _Pace(due=time.monotonic() + _FIRST_AFTER)
        self._job: subprocess.Popen[bytes] | None = None
        self._begun = 0.0
        self._bucket_made = False
        self._said = self._written = ""
        self._positions = Positions(
            settings.hosts, settings.port, MONITOR, self._secret("database.monitor"), APPLICATION
        )
        self._position: Position | None = None
        self._idle: Watermark | None = None
        """The catalogue's watermark with a later time: nothing was written in between."""
        self._problem = self._lost = ""

    def run(self, over: threading.Event) -> None:
        """Until `over`; then what was received is sent once more."""
        try:
            while not over.wait(_TURN):
                self._turn()
            self._ship()
        finally:
            self._receiver.stop()
            self._positions.close()
            if self._job is not None:
                self._job.terminate()
            self._catalogue.close()

    def _turn(self) -> None:
        now = time.monotonic()
        spool = read_spool(self._settings.spool).size
        self._receive(spool)
        if now >= self._pace.ship:
            self._ship()
        self._end_job()
        if now >= self._pace.due:
            self._pace.due = now + _DUE_EVERY
            self._start_due()
        self._tell(spool)

    def _receive(self, spool: int) -> None:
        if spool > self._settings.spool_limit:
            # the database keeps the rest for us, as much as its slot may hold
            self._receiver.stop()
            return
        said = self._receiver.look()
        if said:
            self._say(f"receiving ended: {said}")
        if said and self._receiver.has_lost(said):
            self._begin_anew(said)

    def _begin_anew(self, said: str) -> None:
        """The database no longer has what would come next: a gap in the archive, closed by a new backup."""
        if not self._lost:
            self._lost = f"log was lost before it was archived: {said}"
            self._say(self._lost)
        set_aside(self._settings.spool)

    def _ship(self) -> None:
        now = time.monotonic()
        try:
            if not self._bucket_made:
                self._prepare_store()
            # asked before the spool is read: what was received by then is in what is sent now
            asked, position = time.time(), self._positions.ask()
            self._position = position or self._position
            sent = self._shipper.ship(_received(position))
            self._note_position(position, asked)
        except AsbuiltError as error:
            wait = _RETRY[min(self._pace.failures, len(_RETRY) - 1)]
            self._pace.failures += 1
            self._pace.ship = now + wait
            self._problem = f"{error.code} {error.what}"
            self._say(f"cannot store: {self._problem}")
        else:
            self._pace.failures, self._problem = 0, ""
            # while there is something to send, whoever waits for it waits less
            self._pace.ship = now + (_TURN if sent else _SHIP_EVERY)

    def _prepare_store(self) -> None:
        make_own_bucket(self._settings, self._secret)
        note_system(self._settings, self._secret, self._system)
        if self._catalogue.incomplete:
            take_in(self._catalogue, self._store)
        readme, text = self._catalogue.find(README), TEXT.encode()
        if readme is None or readme.sha256 != hashlib.sha256(text).hexdigest():
            put = self._store.put(README, io.BytesIO(text))
            self._catalogue.remember([StoredObject(README, put.size, put.sha256, time.time())])
        self._bucket_made = True

    def _note_position(self, found: Position | None, asked: float) -> None:
        """All that was received when it was asked is stored now: zeros at the end of a log are not sent.

        Where that is all there was, everything that was committed by then is stored.
        """
        if found is None or found.received is None:
            return
        noted = self._catalogue.watermark() or Watermark(0, "0/0", 0.0)
        mark = self._find_mark() or noted
        reached = min(found.received, found.end)
        if (mark.timeline, Lsn.parse(mark.lsn)) > (found.timeline, reached):
            return
        at = asked if found.received >= found.end else mark.at
        now = Watermark(found.timeline, str(reached), max(mark.at, at))
        self._idle = now
        if now[:2] != noted[:2] or now.at - noted.at >= _NOTE_EVERY:
            self._catalogue.remember_watermark(now)

    def _end_job(self) -> None:
        if self._job is None or self._job.poll() is None:
            return
        last = self._catalogue.runs(1, kind="base")
        if last and last[0].result == "done" and last[0].began >= self._begun:
            self._lost = ""
        self._job = None

    def _start_due(self) -> None:
        if self._job is not None or self._problem:
            return
        due = self._find_due()
        if due:
            self._start_job("backup", *due)
        elif self._catalogue.due(time.time() - WITHIN, limit=1) and self._is_time_to_scrub():
            self._start_job("scrub")

    def _start_job(self, action: str, *parts: str) -> None:
        self._begun = time.time()
        module = ("-P", "-m", "asbuilt.operations.backup.job")
        words = (own_python(), *module, action, *self._stage_words, *parts)
        self._job = subprocess.Popen(words, stdin=subprocess.DEVNULL)

    def _is_time_to_scrub(self) -> bool:
        last = self._catalogue.runs(limit=1, kind="scrub")
        return not last or time.time() - last[0].began >= _SCRUB_EVERY

    def _find_due(self) -> tuple[str, ...]:
        """The parts that a backup is due of: the database also where its log was lost."""
        tried = {
            part: [
                Tried(run.began, run.result == "done")
                for run in self._catalogue.runs(limit=_TRIES, kind=_KINDS[part])
            ]
            for part in self._settings.parts
        }
        due = which_due(self._settings.parts, tried, self._settings.schedule, time.time())
        return (DATABASE, *(one for one in due if one != DATABASE)) if self._lost else due

    def _find_mark(self) -> Watermark | None:
        mark = self._catalogue.watermark()
        idle = self._idle
        return idle if mark is not None and idle is not None and idle[:2] == mark[:2] else mark

    def _tell(self, spool: int) -> None:
        mark = self._find_mark()
        lag = None
        if self._position is not None and mark is not None:
            lag = max(0, self._position.end - Lsn.parse(mark.lsn))
        state = ArchiveState(
            stored_to=mark.lsn if mark else "",
            timeline=mark.timeline if mark else 0,
            stored_at=mark.at if mark else 0.0,
            lag=lag,
            spool=spool,
            receiving=self._receiver.receiving,
            problem=self._problem or self._lost,
        )
        text = to_json(state)
        if text != self._written:
            write_atomically(self._root / STATE, text)
            self._written = text

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log_line(text)


def _received(position: Position | None) -> Received | None:
    if position is None or position.received is None:
        return None
    return Received(position.timeline, min(position.received, position.end))


def main(words: list[str]) -> int:
    """Entry point."""
    settings, *stage_words = words
    file, name, environment, home = stage_words
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    root = Path(home) / name / environment
    while not over.is_set():
        try:
            Archiver(root, from_json(json.loads(settings)), (file, name, environment, home)).run(over)
        except (AsbuiltError, OSError) as error:
            log_line(f"{type(error).__name__}: {error}")
            over.wait(_TURN)
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
