"""Asks a new app server, past the load balancer, before it gets traffic."""

from __future__ import annotations

import http.client
import time

from asbuilt.values.errors import AsbuiltError

_TIMEOUT = 10.0
_GOOD = range(200, 400)


def smoke(node: str, host: str, port: int, paths: list[str], name: str) -> None:
    """GET each path as a user of `name` would. Raises AsbuiltError DEPLOY-007 at the first bad answer."""
    for path in paths:
        began = time.monotonic()
        said = _ask(host, port, path, name)
        if not isinstance(said, int) or said not in _GOOD:
            raise AsbuiltError(
                "DEPLOY-007",
                f"{node} failed its smoke test",
                where=f"GET http://{host}:{port}{path}",
                evidence=(f"the answer was {said}, after {time.monotonic() - began:.2f} s",),
                hint=f"asbuilt logs --node {node} shows what the app says",
            )


def _ask(host: str, port: int, path: str, name: str) -> int | str:
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        headers = {"Host": name, "X-Forwarded-Proto": "https", "User-Agent": "asbuilt"}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read(65536)
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    else:
        return answer.status
    finally:
        connection.close()
