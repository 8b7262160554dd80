"""One operation at a time in an environment: a lock with an owner, a lease and an epoch.

The lease says who may act now; the epoch makes it safe that a lease is only a guess. Each acquisition has a
higher epoch than all before, the target refuses a lower one than it has seen, and so a client that slept
through the end of its lease can do no harm when it wakes.

Invariant: taking the lock is one transaction, so of any number of threads and processes exactly one gets it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from asbuilt.record.client import Client
from asbuilt.values.errors import AsbuiltError, RefusedError, ResumableError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from asbuilt.record.journal import Journal

LEASE: Final = 30.0
"""Seconds a lock stays without being renewed: well above a pause of a busy machine, well below a person's
patience when another machine's client died."""

_SELECT: Final = "SELECT epoch, held, owner, host, boot, pid, pid_start, verb, since, expires FROM lock"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock, or held it last.

    Args:
        client: the process.
        verb: what it does, like `up`.
        epoch: under which epoch.
        since: seconds since 1970 UTC.
        expires: when the lease ends unless it is renewed.
        held: False when it was given back.
    """

    client: Client
    verb: str
    epoch: int
    since: float
    expires: float
    held: bool


class Held:
    """The lock, taken. `epoch` goes into every request to the target."""

    def __init__(self, journal: Journal, client: Client, epoch: int, lease: float, taken_over: str) -> None:
        self.epoch = epoch
        self.client = client
        self.taken_over = taken_over
        """One line for the person who waits, when the lock was taken from a dead or silent client."""
        self.lost = threading.Event()
        """Set once the lock is known to belong to somebody else."""
        self._journal = journal
        self._lease = lease

    def check(self) -> None:
        """Raise ResumableError LOCK-002 when another client took over. Ask before each step."""
        holder = look(self._journal)
        if holder is None or not holder.held or holder.epoch != self.epoch:
            raise self._outdated(holder)

    def renew(self) -> None:
        """Extend the lease; raises ResumableError LOCK-002 when another client took over."""
        with self._journal.write() as db:
            changed = db.execute(
                "UPDATE lock SET expires = ? WHERE epoch = ? AND held = 1",
                (self._journal.clock() + self._lease, self.epoch),
            ).rowcount
        if changed != 1:
            raise self._outdated(look(self._journal))

    def lift(self, seen: int) -> None:
        """Raise the epoch above `seen`, the highest the target has accepted; nothing when it is already."""
        if seen < self.epoch:
            return
        with self._journal.write() as db:
            changed = db.execute(
                "UPDATE lock SET epoch = ? WHERE epoch = ? AND held = 1", (seen + 1, self.epoch)
            ).rowcount
        if changed != 1:
            raise self._outdated(look(self._journal))
        self.epoch = seen + 1

    def release(self) -> None:
        """Give it back. Nothing happens when it is somebody else's by now."""
        with self._journal.write() as db:
            db.execute("UPDATE lock SET held = 0 WHERE epoch = ? AND held = 1", (self.epoch,))

    def _outdated(self, holder: Holder | None) -> ResumableError:
        self.lost.set()
        by = f"{holder.client.owner} ({holder.verb})" if holder is not None else "nobody that is known"
        return ResumableError(
            "LOCK-002",
            f"this command was paused for too long and lost its lock; now it is held by {by}",
            hint="see what the other command does, then run this one again; it goes on from what is there",
        )


def look(journal: Journal) -> Holder | None:
    """Who holds the lock or held it last; None when nobody ever did."""
    return _holder(journal.rows(_SELECT))


def acquire(
    journal: Journal,
    verb: str,
    *,
    client: Client | None = None,
    at_least: int = 0,
    lease: float = LEASE,
) -> Held:
    """Take the lock for `verb`; its epoch is above every one before and above `at_least`.

    `at_least` is the highest epoch the target has accepted: a journal that was rolled back or rebuilt must
    not hand out an old one again. Raises RefusedError LOCK-001 while a living client holds the lock.
    """
    me = client or Client.this()
    with journal.write() as db:
        now = journal.clock()
        before = _holder(db.execute(_SELECT).fetchall())
        taken_over = ""
        if before is not None and before.held:
            if before.client.dead():
                taken_over = f"took over from {before.client.owner} ({before.verb}), which is gone"
            elif before.expires <= now:
                taken_over = (
                    f"took over from {before.client.owner} ({before.verb}), which was silent too long"
                )
            else:
                raise _refused(before)
        epoch = max(before.epoch if before is not None else 0, at_least) + 1
        _store(db, Holder(me, verb, epoch, now, now + lease, held=True))
    return Held(journal, me, epoch, lease, taken_over)


@contextmanager
def renewing(held: Held, *, every: float | None = None) -> Iterator[Held]:
    """Renew the lease in a thread while the block runs, and give the lock back at its end.

    When the lock is lost, `held.lost` is set and `held.check()` raises; the block is not interrupted, because
    only it knows where stopping is safe.
    """
    over = threading.Event()
    pause = every if every is not None else held._lease / 3  # noqa: SLF001 - two halves of one thing

    def renew() -> None:
        while not over.wait(pause):
            try:
                held.renew()
            except ResumableError:
                return
            except AsbuiltError:
                # A full disk or a busy file: the next round may succeed, and `check` before each step tells.
                continue

    thread = threading.Thread(target=renew, name="lock-renewal", daemon=True)
    thread.start()
    try:
        yield held
    finally:
        over.set()
        thread.join()
        held.release()


def _holder(rows: list[tuple[object, ...]]) -> Holder | None:
    if not rows:
        return None
    epoch, held, owner, host, boot, pid, pid_start, verb, since, expires = rows[0]
    client = Client(str(owner), str(host), str(boot), int(str(pid)), int(str(pid_start)))
    return Holder(client, str(verb), int(str(epoch)), float(str(since)), float(str(expires)), bool(held))


def _store(db: sqlite3.Connection, holder: Holder) -> None:
    one = holder.client
    db.execute(
        "INSERT OR REPLACE INTO lock"
        "(one, epoch, held, owner, host, boot, pid, pid_start, verb, since, expires)"
        " VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            holder.epoch,
            holder.held,
            one.owner,
            one.host,
            one.boot,
            one.pid,
            one.pid_start,
            holder.verb,
            holder.since,
            holder.expires,
        ),
    )


def _refused(holder: Holder) -> RefusedError:
    since = datetime.fromtimestamp(holder.since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return RefusedError(
        "LOCK-001",
        f"{holder.client.owner} is at work here: {holder.verb}, since {since}",
        hint=f"wait until it ends, or stop it (process {holder.client.pid}) and run this again: "
        "what it did is recorded",
    )
