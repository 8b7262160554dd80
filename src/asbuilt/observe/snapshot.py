"""What is really there, as data: the answer of a target to "what runs?"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Health(StrEnum):
    """How a node does. The words are those of `asbuilt status --json`."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILING = "failing"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Seen:
    """One workload as a target sees it.

    Args:
        id: workload id.
        node: its node.
        kind: the node's kind.
        engine: name and version.
        digest: `Workload.digest` of what was started.
        process_digest: `Workload.process_digest` of what was started.
        health: how it does.
        role: `primary`, `replica` or None.
        pid: the engine's own main process, None when it does not run.
        address: where it listens.
        zone: the node's zone.
        release: the app release it runs.
        since: UTC time of the last start, ISO 8601 with Z; empty when it never started.
        restarts: how often it was started again after a failure.
        problem: one line on why it is not ready; empty when it is.
        needs: what it was started with, for the order of stopping.
        limited_by: `cgroup`, `rlimit` or `none`.
    """

    id: str
    node: str
    kind: str
    engine: str
    digest: str
    process_digest: str
    health: Health
    role: str | None = None
    pid: int | None = None
    address: str = ""
    zone: str = ""
    release: str | None = None
    since: str = ""
    restarts: int = 0
    problem: str = ""
    needs: tuple[str, ...] = ()
    limited_by: str = "none"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole environment as seen at one moment.

    Args:
        workloads: what runs or should run, by id.
        setups: `Setup.key` of each setup that is done, by id.
        release: id of the release that takes traffic, or None.
        agent: pid of the target's agent, or None when it does not run.
        epoch: the highest operation epoch the target has accepted.
    """

    workloads: Mapping[str, Seen] = field(default_factory=dict)
    setups: Mapping[str, str] = field(default_factory=dict)
    release: str | None = None
    agent: int | None = None
    epoch: int = 0
