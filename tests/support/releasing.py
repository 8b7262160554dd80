"""Releases under test: an app that can be changed, users who must not notice, the command that releases."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import ssl
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from asbuilt.values.stage import Stage
from support import until
from support.callers import Callers
from support.live import Live, running

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = Path(__file__).with_name("release_app.py")
SPEC = """\
name: moving
app:
  command: {python} app.py
  instances: 3..6
  start_timeout: 10s
  drain_timeout: 10s
  env: {{LEDGER: {ledger}, COLOUR: none}}
rollout: {{smoke: [/smoke], warm: 20s{rollout}}}
environments:
  production: {{database: none, cache: none, objects: none, files: none}}
"""


@contextmanager
def moving(home: Path, project: Path, rollout: str = "", app: str = "") -> Iterator[Live]:
    """The app in production. `rollout`: more words for that block, like `, step_time: 2s`; `app`: lines."""
    project.mkdir()
    ledger = home / "ledger"
    ledger.touch()
    ledger.chmod(0o666)
    home.chmod(0o711)
    (project / "app.py").write_text(APP.read_text())
    spec = SPEC.format(python=sys.executable, ledger=ledger, rollout=rollout)
    spec = spec.replace("  instances:", f"{app}  instances:")
    (project / "asbuilt.yaml").write_text(spec)
    with running(project, "production") as one:
        yield one
    until(lambda: not controllers(one), what="the controller to end", within=10)


def controllers(live: Live) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"asbuilt.operations.controller" in words and str(live.project).encode() in words:
                found.append(int(entry.name))
    return found


def change(live: Live, mode: str = "good", note: str = "") -> None:
    """Another version of the app in the folder."""
    text = APP.read_text().replace('MODE = "good"', f'MODE = "{mode}"  # {note}')
    (live.project / "app.py").write_text(text)


def stage(live: Live) -> Stage:
    return Stage(live.project / "asbuilt.yaml", "moving", "production", Path(os.environ["ASBUILT_HOME"]))


def served(live: Live) -> dict[str, str]:
    """The release of each app server."""
    return {name: node["release"] for name, node in live.nodes().items() if node["kind"] == "app"}


def states(live: Live) -> dict[str, str]:
    return {one["id"]: one["state"] for one in live.json("releases", "production")["releases"]}


def deploy(live: Live, *words: str, check: bool = True) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The last line of `deploy --json`, and those before it."""
    verb, *more = words if words and words[0] in {"rollback", "scale"} else ("deploy", *words)
    target = ("production", *more)
    done = live.run(verb, *target, "--json", check=check)
    *before, end = [json.loads(line) for line in done.stdout.splitlines()]
    assert end["kind"] == "end"
    return end, before


class Posters:
    """POST requests of their own number each, all the time, and the streams that somebody began."""

    def __init__(self, live: Live) -> None:
        points = json.loads((live.root / "environment.json").read_text())["entrypoints"]
        self._url = urlsplit(points["https"])
        self._context = ssl.create_default_context(cafile=str(live.root / "certificates" / "ca.crt"))
        self._over, self._numbers = threading.Event(), itertools.count(1)
        self._threads = [threading.Thread(target=self._post) for _ in range(2)]
        self._streams: list[threading.Thread] = []
        self.done: list[str] = []
        self.failed: list[str] = []
        self.ended: list[bool] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in (*self._threads, *self._streams):
            thread.join(60)

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            str(self._url.hostname), self._url.port, timeout=40, context=self._context
        )

    def stream(self, seconds: float) -> None:
        """Begin one; it ends well when its last line arrives."""

        def read() -> None:
            client = self.connect()
            client.request("GET", f"/stream?s={seconds}")
            try:
                self.ended.append(client.getresponse().read().endswith(b"end\n"))
            except (OSError, http.client.HTTPException):
                self.ended.append(False)
            client.close()

        self._streams.append(threading.Thread(target=read))
        self._streams[-1].start()

    def _post(self) -> None:
        client = self.connect()
        while not self._over.wait(0.01):
            number = f"n{next(self._numbers)}"
            try:
                client.request("POST", "/", number)
                answer = client.getresponse()
                body = answer.read().decode()
                (self.done if answer.status == 201 else self.failed).append(
                    number if answer.status == 201 else f"{number}: {answer.status} {body}"
                )
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(f"{number}: {error!r}")
                client.close()
        client.close()


@contextmanager
def users(live: Live) -> Iterator[tuple[Callers, Posters]]:
    """Everybody who must not notice."""
    ledger = Path(os.environ["ASBUILT_HOME"]) / "ledger"
    before = ledger.read_text()
    with Callers(live, kept=3, fresh=2) as callers, Posters(live) as posters:
        yield callers, posters
        callers.more()
    assert callers.failed == []
    assert posters.failed == []
    assert all(posters.ended)
    counted = Counter(ledger.read_text().removeprefix(before).split())
    assert {number: n for number, n in counted.items() if n > 1} == {}, "done twice"
    assert set(posters.done) <= set(counted)
    assert posters.done
