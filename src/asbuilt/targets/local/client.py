"""Speaks to the agent of an environment, and starts it where there is none.

Blocking and thread-safe: each call has its own connection. Invariant: every operation may be sent twice, so
a call during which the agent died is simply made again to the next one.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asbuilt.observe.snapshot import Health, Seen, Snapshot
from asbuilt.plan.workload import Workload, to_json
from asbuilt.targets.local.logs import read_tail
from asbuilt.targets.local.names import MARKER, Paths
from asbuilt.targets.local.wire import CALL_TIMEOUT, AgentGoneError, ask_status, call, raise_error
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Callable

_START_TIMEOUT = 15.0
_CHANGE_TIMEOUT = 900.0
"""Stopping may take a long grace, and waits for the operation before it."""
_NEWS_TIMEOUT = 1.0
_ANOTHER_AGENT = 3
"""Exit status of an agent that found another one in charge."""
_FATAL = frozenset({"LOCAL-024", "LOCAL-032"})
_SEEN_FIELDS = tuple(Seen.__dataclass_fields__)


def _seen(raw: dict[str, Any]) -> Seen:
    fields = {name: raw[name] for name in _SEEN_FIELDS}
    return Seen(**{**fields, "health": Health(raw["health"]), "needs": tuple(raw["needs"])})


class AgentClient:
    """The agent of one environment. `revive`: start it again when it died."""

    def __init__(self, root: Path, *, revive: bool = True) -> None:
        self._paths = Paths(root)
        self._revive = revive

    # -- calls --------------------------------------------------------------------------------------------

    def _call(self, request: dict[str, Any], *, timeout: float = CALL_TIMEOUT) -> dict[str, Any]:
        if "epoch" in request:
            timeout = _CHANGE_TIMEOUT
        try:
            return call(self._paths, request, timeout)
        except AgentGoneError:
            if not self._revive:
                raise
        ensure_agent(self._paths.root)
        return call(self._paths, request, timeout)

    def raw_status(self, *, measure: bool = False) -> dict[str, Any]:
        """All that the agent tells.

        By workload: the fields of `Seen`, `limits`, `log`, `main_pid`, `held`, and with `measure` also `rss`
        (bytes) and `processes`.
        """
        return self._call({"op": "status", "measure": measure})

    def snapshot(self) -> Snapshot:
        """What runs. `setups` and `release` are the journal's to fill in."""
        answer = self.raw_status()
        workloads = {name: _seen(raw) for name, raw in answer["workloads"].items()}
        return Snapshot(workloads=workloads, agent=answer["agent"], epoch=answer["epoch"])

    # -- changes ------------------------------------------------------------------------------------------

    def start(self, workload: Workload, epoch: int) -> str:
        """Run this workload. Returns at once: `unchanged`, `started` or `replaced`; see `wait_ready`."""
        answer = self._call({"op": "start", "epoch": epoch, "workload": to_json(workload)})
        return str(answer["done"])

    def stop(self, workload: str, epoch: int, *, forget: bool = False) -> None:
        """End it: signal, grace, then its whole tree. `forget`: the agent no longer knows of it."""
        self._call({"op": "stop", "epoch": epoch, "id": workload, "forget": forget})

    def reload(self, workload: Workload, epoch: int) -> None:
        """Give new files to a running workload. Raises AsbuiltError LOCAL-035 or LOCAL-036."""
        self._call({"op": "reload", "epoch": epoch, "workload": to_json(workload)})

    def hold(self, workload: str, epoch: int) -> None:
        """End it and don't start it again until `release`, for drills."""
        self._call({"op": "hold", "epoch": epoch, "id": workload})

    def release(self, workload: str, epoch: int) -> None:
        """Undo `hold`."""
        self._call({"op": "release", "epoch": epoch, "id": workload})

    def probe(self, workload: str) -> dict[str, str]:
        """Ask its readiness question now: `outcome` (good, bad, silent), `asked`, `got`."""
        return dict(self._call({"op": "probe", "id": workload})["probe"])

    def claim(self) -> None:
        """Have it hold the place that was settled. Raises AsbuiltError LOCAL-013 when somebody else does."""
        self._call({"op": "claim"})

    def shutdown(self, epoch: int, *, leave_running: bool = False) -> None:
        """End the agent and wait until it is gone.

        Refused (LOCAL-026) while workloads run, unless they are to be left running.
        """
        try:
            pid = int(call(self._paths, {"op": "status"}, CALL_TIMEOUT)["agent"])
            call(self._paths, {"op": "shutdown", "epoch": epoch, "leave": leave_running}, CALL_TIMEOUT)
        except AgentGoneError:
            return
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline and _agent_lives(pid):
            time.sleep(0.01)

    # -- waiting ------------------------------------------------------------------------------------------

    def wait_ready(
        self, workload: str, timeout: float, progress: Callable[[str], None] = lambda _: None
    ) -> Seen:
        """Wait until it is ready; `progress` hears in words what is waited for.

        Raises AsbuiltError LOCAL-030 (not in time), LOCAL-031 (crash loop), LOCAL-024 and LOCAL-032 (no
        space, port held by somebody else) with the question, the answer and the last lines of the log.
        """
        deadline = time.monotonic() + timeout
        version, told = -1, ""
        while True:
            left = deadline - time.monotonic()
            request = {"op": "wait", "id": workload, "version": version, "timeout": min(_NEWS_TIMEOUT, left)}
            raw = self._call(request)["workload"]
            version = raw["version"]
            if raw["health"] == Health.READY:
                return _seen(raw)
            if raw["problem"] and raw["problem"] != told:
                told = raw["problem"]
                progress(f"{workload}: {told}")
            error = raw["error"]
            if error is not None and error["code"] in _FATAL:
                raise_error(error)
            if raw["looping"]:
                raise _not_ready("LOCAL-031", f"{workload} keeps failing", raw)
            if raw["health"] == Health.STOPPED:
                raise _not_ready("LOCAL-030", f"{workload} was stopped meanwhile", raw)
            if left <= 0:
                raise _not_ready("LOCAL-030", f"{workload} was not ready within {timeout:g} s", raw)


def _not_ready(code: str, what: str, raw: dict[str, Any]) -> AsbuiltError:
    lines = []
    if raw["problem"]:
        lines.append(raw["problem"])
    if raw["asked"] and raw["got"] and raw["got"] not in (raw["problem"] or ""):
        lines.append(f"asked {raw['asked']}, got: {raw['got']}")
    if raw["error"]:
        lines += raw["error"]["evidence"]
    tail = read_tail(Path(raw["log"]))
    return AsbuiltError(
        code,
        what,
        where=raw["log"],
        evidence=(*lines, *(f"log: {line}" for line in tail)),
        hint="the whole log is in the file above",
    )


def _agent_lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def find_agent(root: Path) -> AgentClient | None:
    """The client of a running agent, or None. Starts nothing."""
    return None if ask_status(root) is None else AgentClient(root, revive=False)


def begin_agent(root: Path) -> subprocess.Popen[bytes] | None:
    """Start the agent where none answers, and do not wait for it: the caller has other things to do.

    None also where no addresses are settled yet: an agent holds them from its first moment. To be called
    under the environment's lock, and given to `ensure_agent`, or ended.
    """
    paths = Paths(root)
    return _spawn_agent(paths) if paths.place.exists() and find_agent(root) is None else None


def ensure_agent(root: Path, begun: subprocess.Popen[bytes] | None = None) -> AgentClient:
    """The client of the agent of this environment; starts one where none answers and none has `begun`.

    Raises AsbuiltError LOCAL-020 with the last words of an agent that did not start.
    """
    paths = Paths(root)
    deadline = time.monotonic() + _START_TIMEOUT
    child = begun if begun is not None and begun.poll() is None else None
    while True:
        if find_agent(root) is not None:
            return AgentClient(root)
        if child is None or child.poll() is not None:
            # a status 3 is an agent that another command started meanwhile, or one that is just dying
            if (child is not None and child.returncode != _ANOTHER_AGENT) or time.monotonic() > deadline:
                break
            child = _spawn_agent(paths)
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    if child is not None and child.poll() is None:
        child.kill()  # it must not come to life after we have told of its failure; what runs is not touched
        child.wait()
    if _is_locked(paths):
        pid = paths.pid.read_text().strip() if paths.pid.exists() else "unknown"
        raise AsbuiltError(
            "LOCAL-020",
            f"the agent of the environment (pid {pid}) is there, but does not answer",
            where=str(paths.log),
            hint="it may be stopped or starved: kill -CONT or kill -9 it; what it runs is not touched",
        )
    said = read_tail(paths.log, 12)
    code = "LOCAL-013" if any("error[LOCAL-013]" in line for line in said[-4:]) else "LOCAL-020"
    raise AsbuiltError(
        code,
        "the agent of the environment did not start",
        where=str(paths.log),
        evidence=said,
        hint="run the command again; the log above says more",
    )


def _is_locked(paths: Paths) -> bool:
    """Whether an agent has the folder, answering or not."""
    try:
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _spawn_agent(paths: Paths) -> subprocess.Popen[bytes]:
    try:
        paths.agent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = os.open(paths.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AsbuiltError(
            "LOCAL-024",
            f"cannot write the environment's folder: {error.strerror}",
            where=str(paths.agent),
            hint="free some space, or make the folder writable",
        ) from None
    env = {name: value for name, value in os.environ.items() if name != MARKER}
    try:
        # -P: the folder we are in must not be able to shadow a module
        return subprocess.Popen(
            (sys.executable, "-P", "-m", "asbuilt.targets.local.agent", str(paths.root)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=env,
            start_new_session=True,
        )
    finally:
        with suppress(OSError):
            os.close(log)
