"""Reads the lines of the access log, as `config` has them written. Pure."""

from __future__ import annotations

import json
from typing import NamedTuple

_OURS = frozenset("SsRID")
"""First letters of the termination state that say: the server's side or the balancer ended it, not the user.

HAProxy's management of sessions, "Session state at disconnection": S server aborted or refused, s server
timeout, R a resource was missing, I internal error, D server went down.
"""
_SWITCHED = 101


class Access(NamedTuple):
    """One request that came to its end.

    Args:
        server: the app server's node, or empty where none was asked.
        method: HTTP method.
        path: what was asked for, without the query.
        status: HTTP status; -1 when the user was gone before one.
        first_byte: milliseconds from the whole request to the answer's head; None where there was none.
        error: an answer of the 500s, or none at all for a reason on our side.
        lost: the balancer had to give up: no app server answered, or not to the end.
    """

    server: str
    method: str
    path: str
    status: int
    first_byte: int | None
    error: bool
    lost: bool


def parse_access(line: bytes) -> Access | None:
    """The request of one line; None for what is no line of the app's own traffic."""
    try:
        raw = json.loads(line)
        status, state = int(raw["status"]), str(raw["state"])
        first_byte = int(raw["response_ms"])
        server, backend = str(raw["server"]), str(raw["backend"])
        method, path = str(raw["method"]), str(raw["path"])
    except (ValueError, KeyError, TypeError):
        return None
    if not backend or backend.startswith("health"):
        return None
    # a socket of the web that outlives its server is closed with it: its client connects again
    lost = state[:1] in _OURS and status != _SWITCHED
    return Access(
        "" if server.startswith("<") else server,
        method,
        path,
        status,
        first_byte if first_byte >= 0 else None,
        status >= 500 or lost,  # noqa: PLR2004 - the class of server errors
        lost,
    )
