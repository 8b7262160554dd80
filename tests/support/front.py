"""A whole environment seen from its front door: HTTP and websockets, trusting its own authority."""

from __future__ import annotations

import json
import os
import signal
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from websockets.sync.client import connect

from support import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.sync.client import ClientConnection

    from support.live import Live


def find_entrance(live: Live) -> str:
    """The address that a user opens."""
    return str(json.loads((live.root / "environment.json").read_text())["entrypoints"]["https"])


def trust(live: Live) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(live.root / "certificates" / "ca.crt"))


@contextmanager
def visiting(live: Live, **headers: str) -> Iterator[httpx.Client]:
    """A client of the environment that keeps its connections and cookies."""
    with httpx.Client(
        base_url=find_entrance(live), verify=trust(live), timeout=30, headers=headers
    ) as client:
        yield client


@contextmanager
def socket_to(live: Live, path: str) -> Iterator[ClientConnection]:
    """A websocket through the load balancer."""
    url = find_entrance(live).replace("https://", "wss://") + path
    with connect(url, ssl=trust(live), open_timeout=20) as socket:
        yield socket


def check_second_up_does_nothing(live: Live) -> None:
    assert live.json("plan", live.name, check=False)["steps"] == []
    again = live.up()
    assert (again["changed"], again["steps"]) == (False, 0)


def check_app_server_comes_back(live: Live, client: httpx.Client, path: str) -> None:
    """Kill an app server: requests go on, all of them answered, and it returns by itself."""
    before = live.nodes()["app-1"]["pid"]
    os.kill(before, signal.SIGKILL)
    answers = [client.get(path).status_code for _ in range(20)]
    assert set(answers) == {200}
    until(
        lambda: (node := live.nodes()["app-1"])["pid"] not in (None, before) and node["health"] == "ready",
        what="app-1 to be ready again",
        within=60,
        every=0.3,
    )


def set_variable(live: Live, name: str, value: str) -> None:
    """Give the app one more variable: a new release without a new build."""
    spec = live.project / "asbuilt.yaml"
    spec.write_text(spec.read_text().replace("app:\n", f"app:\n  env: {{{name}: {value}}}\n", 1))
