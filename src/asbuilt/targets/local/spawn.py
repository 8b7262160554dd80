"""Start one process so that no crash, ours or its own, can lose it.

The child first asks to die with the agent, then writes its own pid record, and only then lets go of the agent
and becomes the program. Invariant: at every moment a process either dies with the agent or is on record.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from asbuilt.targets.local.files import read_json
from asbuilt.targets.local.limits import limit_open_files
from asbuilt.targets.local.process import Ident, boot_id, read_process
from asbuilt.values.clock import now_text

_PR_SET_PDEATHSIG = 1
_RECORD_BYTES = 256
_FAILED_STATUS = 127
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything the child needs, made ready before the fork.

    Args:
        argv: program and arguments.
        env: its whole environment.
        cwd: working directory.
        log: file for stdout and stderr.
        record: pid record to write; None for a command that dies with the agent.
        digest: what it is started from, for the record.
        groups: cgroup folders to enter.
        open_files: RLIMIT_NOFILE.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    log: Path
    record: Path | None
    digest: str = ""
    groups: tuple[str, ...] = ()
    open_files: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A process on record."""

    ident: Ident
    since: str
    digest: str


def prepare_record(path: Path) -> None:
    """Make room for a pid record, so that writing it later needs no space on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, b" " * _RECORD_BYTES, 0)
    finally:
        os.close(descriptor)


def read_record(path: Path) -> Record | None:
    """The process on record; None when there is none or it is of an earlier boot."""
    raw = read_json(path)
    try:
        if raw is None or raw["boot"] != boot_id():
            return None
        return Record(Ident(int(raw["pid"]), int(raw["start"])), str(raw["since"]), str(raw["digest"]))
    except (KeyError, TypeError, ValueError):
        return None


def _write_record(path: Path, pid: int, digest: str) -> None:
    process = read_process(pid)
    if process is None:
        raise OSError("no /proc")
    record = {"pid": pid, "start": process.start, "boot": boot_id(), "since": now_text(), "digest": digest}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.pwrite(descriptor, json.dumps(record).encode().ljust(_RECORD_BYTES), 0)
    os.close(descriptor)


def _become(launch: Launch, agent: int) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != agent:
        os._exit(_FAILED_STATUS)
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python, and ignoring would be inherited
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o077)
    null = os.open("/dev/null", os.O_RDONLY)
    log = os.open(launch.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for group in launch.groups:
        with suppress(OSError):
            (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    if launch.open_files is not None:
        with suppress(ValueError, OSError):
            limit_open_files(launch.open_files)
    os.chdir(launch.cwd)
    if launch.record is not None:
        _write_record(launch.record, os.getpid(), launch.digest)
        _libc.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)
    os.execvpe(launch.argv[0], launch.argv, dict(launch.env))  # noqa: S606 - that is the point: no shell


def spawn(launch: Launch) -> tuple[int, int]:
    """Fork and exec: the pid, and a descriptor to read until its end.

    It is empty when the program runs, else a sentence on why it does not. Raises OSError when there can be
    no more processes.
    """
    agent = os.getpid()
    reader, writer = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    if pid:
        os.close(writer)
        return pid, reader
    try:
        _become(launch, agent)
    except BaseException as error:  # noqa: BLE001 - a child must never run the agent's code
        with suppress(OSError):
            os.write(writer, f"{getattr(error, 'strerror', None) or error}".encode())
    finally:
        os._exit(_FAILED_STATUS)
