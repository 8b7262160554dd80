"""Where the local target keeps its things, and how it marks what is its own.

Light on imports: the agent loads it. Invariant: everything is found from the environment's root alone.
"""

from __future__ import annotations

import os
from pathlib import Path

CLAIM_PORT = 9401
"""Port on 127.E.255.254 that the agent of slot E holds as long as it lives."""

MARKER = "ASBUILT_WORKLOAD"
"""Environment variable of every process that the agent starts."""

_SOCKET_PATH_LIMIT = 107


def root_hash(root: Path) -> str:
    """Short stable name of an environment folder, for markers and cgroups."""
    import hashlib  # noqa: PLC0415 - `status` never asks for it, and it costs as much as the rest of this file

    return hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:12]


def render_marker(root: Path, workload: str) -> str:
    """The value of MARKER for one workload."""
    return f"{root_hash(root)}/{workload}"


def claim_address(slot: int) -> str:
    """The address whose port CLAIM_PORT says that slot `slot` is taken."""
    return f"127.{slot}.255.254"


def short_socket_path(path: str) -> tuple[str, int | None]:
    """A name for a unix socket that fits into 107 bytes, and the descriptor to close after its use.

    A long path goes through a descriptor of its folder: /proc/self/fd/N/NAME.
    """
    if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
        return path, None
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    return f"/proc/self/fd/{descriptor}/{name}", descriptor


def file_name(workload: str) -> str:
    """A file name for a workload id, which may be like `us-east/db-1`; it never leads out of its folder."""
    return "~".join(part.lstrip(".") for part in workload.split("/"))


class Paths:
    """The files of one environment that belong to the agent."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self.place = self.root / "place.json"
        self.agent = self.root / "agent"
        self.lock = self.agent / "lock"
        self.pid = self.agent / "pid"
        self.log = self.agent / "agent.log"
        self.epoch = self.agent / "epoch"
        self.socket = self.agent / "agent.sock"
        self.workloads = self.agent / "workloads"
        self.pids = self.agent / "pids"
        self.groups = self.agent / "groups"
        self.logs = self.root / "logs"

    def node(self, node: str) -> Path:
        """The folder of one node, as `Site.node_dir`."""
        return self.root / "nodes" / node

    def workload_log(self, workload: str) -> Path:
        """Where stdout and stderr of a workload go."""
        return self.logs / f"{file_name(workload)}.log"

    def state(self, workload: str) -> Path:
        """What is wanted of a workload."""
        return self.workloads / f"{file_name(workload)}.json"

    def record(self, workload: str) -> Path:
        """Pid record of a workload's main process."""
        return self.pids / file_name(workload)

    def group(self, workload: str) -> Path:
        """The cgroups of a workload."""
        return self.groups / f"{file_name(workload)}.json"
