"""What a test must not leave behind, found and removed: processes, mounts, cgroups, network namespaces.

A thing belongs to a folder when a process works in it, was started with it in its words or environment, or
carries the marker of an environment below it. So parallel workers and other people never see each other's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from support import until

MARKER = b"ASBUILT_WORKLOAD="
CGROUPS = Path("/sys/fs/cgroup")
NAMESPACES = Path("/run/netns")
_ROOT_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Found:
    """One process: known by pid and start time."""

    pid: int
    start: str
    words: str
    why: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.why}): {self.words[:150]}"


def folders(root: Path, depth: int = _ROOT_DEPTH) -> list[Path]:
    """`root` and the folders below it, so far down as an environment's root can be."""
    found, level = [root], [root]
    for _ in range(depth):
        below: list[Path] = []
        for folder in level:
            with suppress(OSError):
                below += [Path(e.path) for e in os.scandir(folder) if e.is_dir(follow_symlinks=False)]
        found += below
        level = below
    return found


def root_hashes(root: Path) -> set[str]:
    """The names under which an environment in `root` or below it would mark what it made."""
    return {hashlib.sha256(os.fsencode(os.path.realpath(f))).hexdigest()[:12] for f in folders(root)}


def _start(pid: int) -> str:
    """Start time in clock ticks; raises OSError when there is no such process, or only its zombie."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise ProcessLookupError(pid)
    return fields[19]


def _why(pid: int, root: str, hashes: set[str]) -> str | None:
    """Why this process belongs to `root`, or None."""
    place = f"{root}/".encode()
    with suppress(OSError):
        if f"{Path(f'/proc/{pid}/cwd').readlink()}/".startswith(f"{root}/"):
            return "works in the folder"
    with suppress(OSError):
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        for variable in environ:
            if variable.startswith(MARKER):
                owner, _, workload = variable.removeprefix(MARKER).decode(errors="replace").partition("/")
                if owner in hashes:
                    return f"workload {workload}"
        if any(v.startswith(b"ASBUILT_HOME=") and place in v + b"/" for v in environ):
            return "has its ASBUILT_HOME"
    with suppress(OSError):
        if place in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b"/\0"):
            return "names the folder"
    return None


def _family() -> set[int]:
    """This process and those above it: the test runner itself."""
    pids, pid = set(), os.getpid()
    while pid > 1:
        pids.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pids


def find_processes(root: Path) -> list[Found]:
    """Processes that belong to `root`, the runner and those above it excepted."""
    place, hashes, family = str(root.resolve()), root_hashes(root), _family()
    found = []
    for entry in sorted(int(e) for e in os.listdir("/proc") if e.isdigit()):  # noqa: PTH208 - no Path needed
        if entry in family:
            continue
        with suppress(OSError):
            start = _start(entry)
            why = _why(entry, place, hashes)
            if why:
                words = (
                    Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                found.append(Found(entry, start, words.strip(), why))
    return found


def find_mounts(root: Path) -> list[str]:
    """Mount points below `root`, the deepest first."""
    place = f"{root.resolve()}/"
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return sorted((p for p in points if p.startswith(place)), reverse=True)


def find_cgroups(root: Path) -> list[Path]:
    """cgroup folders `asbuilt/HASH...` of environments below `root`, the deepest first."""
    hashes, found = root_hashes(root), []
    # groups of other tests vanish during the walk, and that is no error of `os.walk`
    for folder, _, _ in os.walk(CGROUPS):
        parts = Path(folder).relative_to(CGROUPS).parts
        if any(one == "asbuilt" and any(h in two for h in hashes) for one, two in pairwise(parts)):
            found.append(Path(folder))
    return sorted(found, key=lambda f: -len(f.parts))


def find_namespaces(root: Path) -> list[str]:
    """Named network namespaces of environments below `root`."""
    hashes = root_hashes(root)
    names = [n.name for n in NAMESPACES.iterdir()] if NAMESPACES.is_dir() else []
    return sorted(n for n in names if n.startswith("asbuilt") and any(h in n for h in hashes))


def find(root: Path) -> list[str]:
    """Everything that belongs to `root`, in words; empty is what a test must reach."""
    return [
        *(str(p) for p in find_processes(root)),
        *(f"mount {m}" for m in find_mounts(root)),
        *(f"network namespace {n}" for n in find_namespaces(root)),
        *(f"cgroup {c}" for c in find_cgroups(root)),
    ]


def _kill(one: Found) -> None:
    with suppress(OSError):
        descriptor = os.pidfd_open(one.pid)
        try:
            if _start(one.pid) == one.start:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _kill_all(root: Path) -> bool:
    """Kill what belongs to `root`; True when there was nothing to kill any more."""
    # supervisors first would only help those who come back: everything, until a look finds nothing
    processes = find_processes(root)
    for one in processes:
        _kill(one)
    return not processes


def clean(root: Path) -> None:
    """Remove everything that belongs to `root`, and at last `root` itself."""
    until(lambda: _kill_all(root), what=f"the processes of {root} to die", within=20)
    for mount in find_mounts(root):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
    for name in find_namespaces(root):
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
    for group in find_cgroups(root):
        with suppress(OSError):
            group.rmdir()
    # a read-only folder is something that tests make on purpose
    for folder in folders(root, depth=32) if root.is_dir() else []:
        with suppress(OSError):
            folder.chmod(0o700)
    shutil.rmtree(root, ignore_errors=True)


def read_log_ends(root: Path, lines: int = 30) -> list[tuple[str, str]]:
    """The last lines of each workload's log and of each agent's below `root`: (name, text)."""
    ends = []
    for folder in folders(root):
        if folder.name not in {"logs", "agent"}:
            continue
        for log in sorted(folder.glob("*.log")):
            with suppress(OSError):
                text = log.read_text(errors="replace").splitlines()[-lines:]
                if text:
                    ends.append((f"{log.relative_to(root)} (last {lines} lines)", "\n".join(text)))
    return ends
