"""One question to the agent and its answer: all that `status` needs, so it imports next to nothing."""

from __future__ import annotations

import json
import os
import socket

from asbuilt.targets.local.logs import read_tail
from asbuilt.targets.local.names import Paths, short_socket_path
from asbuilt.values.errors import AsbuiltError, RefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

CALL_TIMEOUT = 60.0
_ANSWER_TIMEOUT = 5.0
_REFUSED = frozenset({"LOCAL-022", "LOCAL-026"})


class AgentGoneError(AsbuiltError):
    """There is no agent that answers."""


def call(paths: Paths, request: dict[str, Any], timeout: float = CALL_TIMEOUT) -> dict[str, Any]:
    """Send one request, wait for its answer.

    Raises AgentGoneError LOCAL-021 when nobody answers, and whatever error the agent answers with.
    """
    line = _exchange(paths, json.dumps({"schema": 1, **request}).encode() + b"\n", timeout)
    if not line.endswith(b"\n"):
        raise AgentGoneError(
            "LOCAL-021",
            "the agent ended during a call",
            where=str(paths.log),
            evidence=read_tail(paths.log, 3),
            hint="run the command again; what runs is not touched",
        )
    answer: dict[str, Any] = json.loads(line)
    if not answer["ok"]:
        raise_error(answer["error"])
    return answer


def _exchange(paths: Paths, question: bytes, timeout: float) -> bytes:
    descriptor = None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout)
            name, descriptor = short_socket_path(str(paths.socket))
            sock.connect(name)
            sock.sendall(question)
            with sock.makefile("rb") as stream:
                return stream.readline()
    except OSError as error:
        raise AgentGoneError(
            "LOCAL-021",
            f"the agent does not answer: {error.strerror or error}",
            where=str(paths.agent),
            hint="asbuilt up starts it again; what runs is not touched",
        ) from None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def raise_error(raw: dict[str, Any]) -> None:
    """Raise the error that the agent told."""
    kind = RefusedError if raw["code"] in _REFUSED else AsbuiltError
    raise kind(
        raw["code"], raw["what"], hint=raw["hint"], where=raw["where"], evidence=tuple(raw["evidence"])
    )


def ask_status(root: Path) -> dict[str, Any] | None:
    """Everything the agent of an environment tells; None where no agent answers."""
    try:
        return call(Paths(root), {"op": "status"}, _ANSWER_TIMEOUT)
    except AgentGoneError:
        return None
