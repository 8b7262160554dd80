"""The vocabulary in which engines and targets meet: N engines and M targets cost N+M, not N*M.

An engine says *what* should run (`Workload`, `Setup`); a target makes it run. Everything here is plain
immutable data and can be written to JSON, so that an agent that died can read what it was doing.
Invariant: `digest` changes when, and only when, something that the running process was given changes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from asbuilt.values.secret import Secret


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file that exists before the process starts.

    Args:
        path: absolute.
        content: the whole text; it may hold secrets, so the default mode is 0600.
        mode: permission bits.
        once: written only where it does not exist yet, because the engine itself rewrites it (Sentinel).
    """

    path: str
    content: str
    mode: int = 0o600
    once: bool = False


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Paths of a client certificate for an `Exchange` over mutual TLS."""

    ca: str
    certificate: str
    key: str
    server_name: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question over TCP: connect, send, read until `expect` is found or the deadline passes.

    Args:
        host: address, or `unix:` and the absolute path of a stream socket (then `port` is 0).
        port: port.
        send: bytes to send after connecting; may be empty. Never logged: it may hold a password.
        expect: regular expression searched in what was read so far (bytes, DOTALL); empty means that a
            connection is answer enough.
        timeout: seconds for the whole exchange.
        tls: speak TLS with this client certificate.
        shown: what a person is told of the question, like `GET http://127.20.2.1:10001/health`.
    """

    host: str
    port: int
    send: bytes = b""
    expect: str = ""
    timeout: float = 2.0
    tls: ClientTls | None = None
    shown: str = ""


def render_http_get(
    host: str,
    port: int,
    path: str,
    *,
    expect_status: str = "[23]..",
    timeout: float = 2.0,
    headers: tuple[tuple[str, str], ...] = (),
    name: str = "",
) -> Exchange:
    """An exchange that GETs `path` and wants a status that matches `expect_status`.

    `name` is what it calls the server in the Host header; by default its address.
    """
    lines = [
        f"GET {path} HTTP/1.0",
        f"Host: {name or f'{host}:{port}'}",
        "User-Agent: asbuilt",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return Exchange(
        host,
        port,
        ("\r\n".join(lines) + "\r\n\r\n").encode(),
        rf"^HTTP/1\.[01] {expect_status}",
        timeout,
        shown=f"GET http://{host}:{port}{path}",
    )


@dataclass(frozen=True, slots=True)
class Probe:
    """How to know that a workload can serve.

    Args:
        exchange: the question. None: a living process is a ready one.
        hang_after: seconds without any answer (not: with a bad answer) after which a living process counts as
            hung; it is then fenced and started again. 0 turns that off.
        start_timeout: seconds it may take to become ready for the first time.
    """

    exchange: Exchange | None = None
    hang_after: float = 30.0
    start_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class RoleProbe:
    """How to know what a database or cache node is now: the primary answers `primary` as expected."""

    primary: Exchange


@dataclass(frozen=True, slots=True)
class Listen:
    """A port that must be this workload's own: proven free before the start, proven owned after it.

    `wildcard_ok`: the process may bind 0.0.0.0 or :: instead (apps that ignore $HOST).
    """

    host: str
    port: int
    purpose: str
    wildcard_ok: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What the node of this workload may use; None is no limit. `memory` in bytes, `cpu` in cores."""

    cpu: float | None = None
    memory: int | None = None
    processes: int | None = None
    open_files: int | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """How to end it: `signal` to the main process, and after `grace` seconds SIGKILL to its whole tree."""

    signal: str = "SIGTERM"
    grace: float = 10.0


@dataclass(frozen=True, slots=True)
class Workload:
    """One process (with its children) that must run.

    Args:
        id: the node's id for the node's main process (`db-1`), else `NODE.NAME` (`cache-1.sentinel`).
        node: the node it belongs to.
        kind: the node's kind, in the words of `status --json`.
        engine: name and version, like `postgresql 16.14`.
        argv: program and arguments, never with a secret. Started without a shell, in its own session.
        env: its whole environment but the secret part and what the target adds (PATH, HOME, TMPDIR).
        secret_env: secret variables.
        cwd: absolute working directory.
        directories: absolute directories to make first, mode 0700.
        files: configuration files to write first.
        listens: ports that must be its own.
        ready: readiness.
        role: primary or replica, where that makes sense.
        needs: ids of workloads that must be ready, and of setups that must be done, before it starts.
        before_start: a command run before each start, also a restart; a failure counts as a failed start.
        after_fence: sent once the whole tree of a failed process is proven dead (release a lease); a failure
            of it is logged and retried, it never blocks the restart.
        after_failure: a command run at that moment, however long the next start has to wait: it gives the
            task of the failed process to another one. A failure of it is logged, no more.
        pid_file: file whose first line is the pid of the engine's own main process, when argv[0] is its
            supervisor (Patroni: postmaster.pid).
        reload: sent instead of a restart when only `files` changed; the answer must match.
        stop: how to end it.
        limits: of its node.
        address: what `status` shows, like `127.20.3.1:5432`.
        zone: the node's zone.
        release: id of the app release it runs, else None.
        unprivileged: run as an unprivileged identity when asbuilt itself is root.
    """

    id: str
    node: str
    kind: str
    engine: str
    argv: tuple[str, ...]
    cwd: str
    ready: Probe = Probe()
    role: RoleProbe | None = None
    env: tuple[tuple[str, str], ...] = ()
    secret_env: tuple[tuple[str, Secret], ...] = ()
    directories: tuple[str, ...] = ()
    files: tuple[ConfigFile, ...] = ()
    listens: tuple[Listen, ...] = ()
    needs: tuple[str, ...] = ()
    before_start: tuple[str, ...] = ()
    after_fence: Exchange | None = None
    after_failure: tuple[str, ...] = ()
    pid_file: str | None = None
    reload: Exchange | None = None
    stop: Stop = Stop()
    limits: Limits = Limits()
    address: str = ""
    zone: str = ""
    release: str | None = None
    unprivileged: bool = True

    @property
    def digest(self) -> str:
        """Changes when anything the process was given changes.

        `needs` is about the order of starting and is not given to it: a balancer that needs one more app
        server is not another process for that.
        """
        return digests(self)[0]

    @property
    def process_digest(self) -> str:
        """Like `digest` without the files: equal when a reload is enough."""
        return digests(self)[1]


def digests(workload: Workload) -> tuple[str, str]:
    """`digest` and `process_digest` for the price of one."""
    process = _digest({name: _encode(getattr(workload, name)) for name in _PROCESS_FIELDS})
    return _digest([process, _encode(workload.files)]), process


_PROCESS_FIELDS = tuple(sorted(set(Workload.__dataclass_fields__) - {"files", "needs"}))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Setup:
    """Something done once, before or between starts: seed a data directory, make a bucket, migrate.

    Args:
        id: like `database.seed`.
        title: what the progress line says, like "initialise the database".
        needs: workloads that must be ready and setups that must be done before.
        key: digest of its inputs; a changed key means that it has to be done again.
        satisfied: cheap look at reality; True when nothing has to be done. Must not change anything.
        run: do it; idempotent, may be killed at any point and run again.
        remembered: the journal's word that this key was done is enough (with `satisfied` also True).
    """

    id: str
    title: str
    needs: tuple[str, ...]
    key: str
    satisfied: Callable[[], bool] = field(compare=False)
    run: Callable[[], None] = field(compare=False)
    remembered: bool = True


def to_json(workload: Workload) -> dict[str, Any]:
    """The workload as JSON values, secrets in clear: for the agent's private socket and 0600 files only."""
    return {name: _encode(getattr(workload, name)) for name in Workload.__dataclass_fields__}


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _encode(value: Any) -> Any:  # noqa: ANN401 - any field of the dataclasses above
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, tuple):
        return [_encode(v) for v in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _encode(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def _exchange(raw: dict[str, Any] | None) -> Exchange | None:
    if raw is None:
        return None
    tls = ClientTls(**raw["tls"]) if raw["tls"] else None
    return Exchange(**{**raw, "send": base64.b64decode(raw["send"]), "tls": tls})


def from_json(raw: dict[str, Any]) -> Workload:
    """The inverse of `to_json`."""
    role = _exchange(raw["role"]["primary"]) if raw["role"] else None
    return Workload(
        **{
            **raw,
            "argv": tuple(raw["argv"]),
            "env": tuple((k, v) for k, v in raw["env"]),
            "secret_env": tuple((k, Secret(v)) for k, v in raw["secret_env"]),
            "directories": tuple(raw["directories"]),
            "files": tuple(ConfigFile(**f) for f in raw["files"]),
            "listens": tuple(Listen(**one) for one in raw["listens"]),
            "needs": tuple(raw["needs"]),
            "before_start": tuple(raw["before_start"]),
            "after_failure": tuple(raw.get("after_failure", ())),
            "ready": Probe(**{**raw["ready"], "exchange": _exchange(raw["ready"]["exchange"])}),
            "role": RoleProbe(role) if role else None,
            "after_fence": _exchange(raw["after_fence"]),
            "reload": _exchange(raw["reload"]),
            "stop": Stop(**raw["stop"]),
            "limits": Limits(**raw["limits"]),
        }
    )
