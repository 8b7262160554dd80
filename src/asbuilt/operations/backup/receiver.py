"""Runs pg_receivewal: it streams the log of whichever node is the primary into the spool.

Invariant: it holds a replication slot, so the database keeps what was not received; a receiver that ends is
started again, and goes on where the files in the spool end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.engines.backup.settings import BackupSettings
    from asbuilt.values.secret import Secret

APPLICATION: Final = "asbuilt-archive"
_PAUSES: Final = (0.2, 0.5, 1.0, 2.0)
"""Seconds before it is started again, the more often it ended at once."""
_STEADY: Final = 10.0
_STOP_WITHIN: Final = 5.0
_LOST_SLOT: Final = "can no longer get changes from replication slot"
_GONE: Final = ("has already been removed", "is not in this server's history", _LOST_SLOT)
"""What PostgreSQL says when it no longer has what would come next."""


def render_connection(settings: BackupSettings) -> str:
    """The words that libpq finds the primary with, whichever node it is. Without the password."""
    return (
        f"host={','.join(settings.hosts)} port={settings.port} user={settings.user} "
        f"target_session_attrs=read-write connect_timeout=3 application_name={APPLICATION}"
    )


class Receiver:
    """One pg_receivewal at a time."""

    def __init__(self, settings: BackupSettings, password: Secret) -> None:
        self._settings = settings
        self._program = dict(settings.programs)["pg_receivewal"]
        self._env = {**os.environ, **dict(settings.env), "PGPASSWORD": password.reveal()}
        self._log = settings.spool.parent / "receive.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._began = self._again = 0.0
        self._failures = 0
        self._slot_made = settings.managed

    @property
    def receiving(self) -> bool:
        """Whether it runs now."""
        return self._child is not None and self._child.poll() is None

    def look(self) -> str:
        """Start it when it does not run. What it said when it ended, else nothing."""
        if self.receiving:
            return ""
        said = ""
        now = time.monotonic()
        if self._child is not None:
            steady = now - self._began >= _STEADY
            self._failures = 0 if steady else min(self._failures + 1, len(_PAUSES) - 1)
            self._again, self._child = now + _PAUSES[self._failures], None
            said = self._last_words()
        if now >= self._again:
            self._start(now)
        return said

    def has_lost(self, said: str) -> bool:
        """Whether these last words mean that the database no longer has what would come next."""
        return any(words in said for words in _GONE)

    def stop(self) -> None:
        """End it; what it received stays."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

    def _start(self, now: float) -> None:
        words = [self._program, "-d", render_connection(self._settings), "-w", "-S", self._settings.slot]
        if not self._slot_made:
            words += ["--create-slot", "--if-not-exists"]
        else:
            words += ["-D", str(self._settings.spool), "--synchronous", "--no-loop", "-s", "2"]
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                words, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._log.parent
            )
        self._began = now
        if not self._slot_made:
            # to make the slot takes a moment, and is the same to wait for as the stream itself
            self._slot_made = self._child.wait(30.0) == 0
            self._failures = 0

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return "; ".join(line.removeprefix("pg_receivewal: ").removeprefix("error: ") for line in lines[-3:])


def set_aside(spool: Path) -> None:
    """Empty the spool: what is received next begins where the slot says, not where these files end.

    They stay beside it, until the next time.
    """
    aside = spool.with_name("spool.before")
    shutil.rmtree(aside, ignore_errors=True)
    if spool.exists():
        spool.rename(aside)
    spool.mkdir(mode=0o700, parents=True)
