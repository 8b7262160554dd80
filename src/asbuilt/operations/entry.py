"""The proof at the end of `up`: a request through the front door, as a user would make it."""

from __future__ import annotations

import http.client
import ssl
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

from asbuilt.engines.app.engine import find_host_name
from asbuilt.graph.model import Architecture, Kind
from asbuilt.operations.progress import Event, Tell
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from asbuilt.plan.site import Site

_WITHIN = 20.0
_POLL = 0.05
_GOOD = range(200, 400)


def reachable(address: str) -> str:
    """An address to open from this machine, for one that a server is bound to."""
    return "127.0.0.1" if ip_address(address).is_unspecified else address


def verify_entry(site: Site, architecture: Architecture, tell: Tell, *, wait: bool) -> None:
    """GET the health path through the public entry until it answers 2xx or 3xx.

    With `wait` False one bad answer is enough to fail. Raises AsbuiltError ENTRY-001 with the last answer.
    """
    path = architecture.spec.app.health
    began = time.monotonic()
    balanced = bool(architecture.of(Kind.LOAD_BALANCER))
    address = reachable(site.entry.address)
    host, port = (
        (address, site.entry.https_port or 0) if balanced else (site.addresses["app-1"], site.ports["app-1"])
    )
    name = find_host_name(architecture)
    url = f"{'https' if balanced else 'http'}://{host}:{port}{path}"
    while True:
        said = _ask(site, host, port, path, name=name, encrypted=balanced)
        if isinstance(said, int) and said in _GOOD:
            return
        passed = time.monotonic() - began
        if not wait or passed > _WITHIN:
            raise AsbuiltError(
                "ENTRY-001",
                "the app does not answer through the front door",
                where=f"GET {url}",
                evidence=(f"the last answer was {said}",),
                hint="asbuilt logs shows what the app says; asbuilt status which node is not ready",
            )
        tell(Event("waiting", "entry", f"GET {url} says {said}", passed))
        time.sleep(_POLL)


def _ask(site: Site, host: str, port: int, path: str, *, name: str, encrypted: bool) -> int | str:
    connection: http.client.HTTPConnection
    try:
        if encrypted:
            context = ssl.create_default_context(cafile=str(site.authority_dir / "ca.crt"))
            connection = http.client.HTTPSConnection(host, port, timeout=5, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=5)
        try:
            connection.request("GET", path, headers={"Host": name, "User-Agent": "asbuilt"})
            return connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
