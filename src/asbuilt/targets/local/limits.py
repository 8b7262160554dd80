"""Limits of a workload: a cgroup where we may make one, else rlimits, and honest words on which it is.

cgroup v2 where a subtree is ours to write, cgroup v1 by plain writes as root. Without either only the number
of open files is limited: RLIMIT_AS counts address space that is never used and breaks databases and
garbage collectors, and RLIMIT_NPROC counts all processes of the user in all environments, so neither is a
limit of one node.
Invariant: a limit that cannot be set never keeps a workload from starting; it is reported instead.
"""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.plan.workload import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

_PERIOD = 100_000
_SMALLEST_QUOTA = 1_000
_SHARES = 1024
"""What a process without a group weighs when cores are scarce."""
_LEAST_SHARES, _MOST_SHARES = 2, 262_144
_CONTROLLERS_V1 = ("memory", "cpu", "pids")
CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to give: cores, and bytes of memory."""

    cpus: int
    memory: int


def read_machine() -> Machine:
    """This machine."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Machine(len(os.sched_getaffinity(0)), pages * size)


def clamp(limits: Limits, machine: Machine) -> Limits:
    """The limits, none larger than the machine."""
    return replace(
        limits,
        cpu=None if limits.cpu is None else min(limits.cpu, float(machine.cpus)),
        memory=None if limits.memory is None else min(limits.memory, machine.memory),
    )


@dataclass(frozen=True, slots=True)
class Applied:
    """How the limits of one workload are enforced.

    Args:
        by: `cgroup`, `rlimit` or `none`.
        groups: cgroup folders that the process enters.
        open_files: RLIMIT_NOFILE, None to leave it.
        limits: what is in force.
    """

    by: str
    groups: tuple[str, ...] = ()
    open_files: int | None = None
    limits: Limits = field(default_factory=Limits)


def render_v1(limits: Limits) -> dict[str, dict[str, str]]:
    """File contents by controller, for the limits that are set."""
    files: dict[str, dict[str, str]] = {}
    if limits.memory is not None:
        files["memory"] = {"memory.limit_in_bytes": str(limits.memory)}
    if limits.cpu is not None:
        quota = max(_SMALLEST_QUOTA, round(limits.cpu * _PERIOD))
        files["cpu"] = {
            "cpu.cfs_period_us": str(_PERIOD),
            "cpu.cfs_quota_us": str(quota),
            "cpu.shares": _render_shares(round(limits.cpu * _SHARES)),
        }
    if limits.processes is not None:
        files["pids"] = {"pids.max": str(limits.processes)}
    return files


def _render_shares(shares: int) -> str:
    return str(min(max(shares, _LEAST_SHARES), _MOST_SHARES))


def render_v2(limits: Limits) -> dict[str, str]:
    """File contents of one v2 group, for the limits that are set."""
    files: dict[str, str] = {}
    if limits.memory is not None:
        files["memory.max"] = str(limits.memory)
    if limits.cpu is not None:
        files["cpu.max"] = f"{max(_SMALLEST_QUOTA, round(limits.cpu * _PERIOD))} {_PERIOD}"
    if limits.processes is not None:
        files["pids.max"] = str(limits.processes)
    return files


def parse_own_groups(text: str) -> dict[str, str]:
    """/proc/self/cgroup: path by v1 controller; the v2 path under the empty name."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path.strip("/")
    return found


def _own_groups() -> dict[str, str]:
    try:
        return parse_own_groups(Path("/proc/self/cgroup").read_text())
    except OSError:
        return {}


def _write_all(folder: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        (folder / name).write_text(content)


def _apply_v2(root: Path, own: str, name: str, limits: Limits) -> tuple[str, ...]:
    """Make the group; raises OSError where this subtree is not ours to write."""
    files = render_v2(limits)
    wanted = sorted({file.partition(".")[0] for file in files})
    # the group we are in holds processes, so controllers can only be handed on from its parent (or the root)
    start = root / own
    parent = start if start == root else start.parent
    folder = parent / "asbuilt" / name
    folder.mkdir(parents=True, exist_ok=True)
    for step in (parent, parent / "asbuilt", folder.parent):
        (step / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in wanted))
    _write_all(folder, files)
    return (str(folder),)


def _apply_v1(root: Path, own: Mapping[str, str], name: str, limits: Limits) -> tuple[str, ...]:
    folders = []
    for controller, files in render_v1(limits).items():
        base = root / controller / own.get(controller, "")
        if not base.is_dir():  # a container shows its host's path
            base = root / controller
        folder = base / "asbuilt" / name
        folder.mkdir(parents=True, exist_ok=True)
        _write_all(folder, files)
        folders.append(str(folder))
        _weigh_above(folder)
    return tuple(folders)


def _weigh_above(folder: Path) -> None:
    """The v1 groups above one weigh what those in them weigh together.

    Else all limited workloads of all environments would get the time of one process without a group.
    """
    for step in (folder.parent, folder.parent.parent):
        with suppress(OSError, ValueError):  # there may be none any more, or another agent makes one just now
            files = [one / "cpu.shares" for one in step.iterdir() if one.is_dir()]
            shares = sum(int(file.read_text()) for file in files)
            if shares:
                (step / "cpu.shares").write_text(_render_shares(shares))


def apply(limits: Limits, name: str, machine: Machine, *, root: Path = CGROUP_ROOT) -> Applied:
    """Make the cgroup `asbuilt/NAME` with these limits, or fall back to rlimits."""
    clamped = clamp(limits, machine)
    files_limit = clamped.open_files
    grouped = replace(clamped, open_files=None)
    if grouped != Limits():
        own = _own_groups()
        with suppress(OSError):
            if (root / "cgroup.controllers").exists():
                groups = _apply_v2(root, own.get("", ""), name, grouped)
            else:
                groups = _apply_v1(root, own, name, grouped)
            return Applied("cgroup", groups, files_limit, clamped)
    if files_limit is not None:
        return Applied("rlimit", (), files_limit, Limits(open_files=files_limit))
    return Applied("none")


def is_ours(group: str) -> bool:
    """Whether this cgroup exists and we may look into it: another user's groups are none of our business."""
    return os.path.isdir(group) and os.access(group, os.R_OK | os.X_OK)  # noqa: PTH112 - Path.is_dir raises


def list_bases(*, root: Path = CGROUP_ROOT) -> tuple[Path, ...]:
    """Folders in which `apply` may have made its groups."""
    own = _own_groups()
    v2 = root / own.get("", "")
    found = [v2, v2.parent] if (root / "cgroup.controllers").exists() else []
    for controller in _CONTROLLERS_V1:
        found += [root / controller / own.get(controller, ""), root / controller]
    return tuple(dict.fromkeys(folder for folder in found if folder.is_dir()))


def describe_limits(*, root: Path = CGROUP_ROOT) -> str:
    """Words for `doctor`: how limits would be kept here. Looks only; a group is made at the first start."""
    if (root / "cgroup.controllers").exists():
        own = root / _own_groups().get("", "")
        parent = own if own == root else own.parent
        if os.access(parent / "cgroup.subtree_control", os.W_OK):
            return "cgroup v2: memory, cpu and processes"
    elif all(os.access(root / controller, os.W_OK) for controller in _CONTROLLERS_V1):
        return "cgroup v1: memory, cpu and processes"
    return "rlimits: open files only; no cgroup may be made here"


def limit_open_files(wanted: int) -> None:
    """Set RLIMIT_NOFILE of this process, as high as we may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and wanted > hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return
        wanted = hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted if hard == resource.RLIM_INFINITY else hard))


def read_members(groups: tuple[str, ...]) -> set[int]:
    """Pids in these groups."""
    found: set[int] = set()
    for group in groups:
        with suppress(OSError, ValueError):
            found |= {int(line) for line in (Path(group) / "cgroup.procs").read_text().split()}
    return found


def remove(groups: tuple[str, ...]) -> None:
    """Remove empty groups, and the folders above them that became empty."""
    for group in groups:
        folder = Path(group)
        for step in (folder, folder.parent, folder.parent.parent):
            try:
                step.rmdir()
            except OSError:
                break
        _weigh_above(folder)
