"""Releases under load: what users lose (nothing), how fast a switch is, what a bad canary costs.

The environment has a load balancer and app servers alone, so that the machine's two cores are left to the
traffic. Clients: wrk over kept-alive and over new connections, GET and numbered POSTs; two over HTTP/2; three
that read streams of five seconds.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from common import Bench, Environment, Row, environment, percentile, run_alone, say, until
from h2_client import H2Client

if TYPE_CHECKING:
    from collections.abc import Iterator

ENOUGH = 100_000
_OK = 200
STREAM = 5.0
_TOTAL = re.compile(r"(\d+) requests in")
_BAD = re.compile(r"Non-2xx or 3xx responses: (\d+)")
_SOCKET = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
SPEC = """\
name: released
app:
  command: {python} release_app.py
  instances: 3
  drain_timeout: 20s
  env: {{LEDGER: {ledger}}}
rollout: {{step_time: {step}, patience: 120s, warm: 60s}}
environments:
  production: {{database: none, cache: none, objects: none, files: none}}
"""
POSTS = """\
local threads = 0
function setup(thread) thread:set("id", threads) threads = threads + 1 end
function init(args) n, run = 0, args[1] end
function request()
  n = n + 1
  return wrk.format("POST", "/", nil, run .. "-" .. id .. "-" .. n)
end
"""


@dataclass
class Project:
    """The app's folder and its ledger."""

    folder: Path
    number: int = 0
    settings: dict[str, float] = field(default_factory=lambda: {"start": 0.2, "pause": 0.004, "fails": 0.0})

    @property
    def ledger(self) -> Path:
        """Every POST that was executed."""
        return self.folder.parent / "ledger"

    def write(self, step: str = "5s") -> None:
        """Make it."""
        self.folder.mkdir()
        self.ledger.touch()
        self.ledger.chmod(0o666)
        shutil.copy(Path(__file__).with_name("release_app.py"), self.folder)
        spec = SPEC.format(python=sys.executable, ledger=self.ledger, step=step)
        (self.folder / "asbuilt.yaml").write_text(spec)
        self.change()

    def change(self, **settings: float) -> None:
        """Another release."""
        self.number += 1
        values = {**self.settings, **settings, "number": self.number}
        (self.folder / "settings.json").write_text(json.dumps(values))


@dataclass
class Load:
    """Everybody who must not notice; counts what they asked and what went wrong."""

    url: str
    folder: Path
    requests: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._lock = threading.Lock()
        (self.folder / "posts.lua").write_text(POSTS)
        words = ("wrk", "-t1", "-d3s")
        script = str(self.folder / "posts.lua")
        asked = (
            (*words, "-c4", f"{self.url}/work"),
            (*words, "-c2", "-H", "Connection: close", f"{self.url}/work"),
            (*words, "-c2", "-s", script, self.url, "--"),
        )
        self._threads = [
            *(threading.Thread(target=self._repeat, args=(argv,)) for argv in asked),
            *(threading.Thread(target=self._h2, args=(f"h2-{id(self)}-{n}",)) for n in range(2)),
            *(threading.Thread(target=self._streams) for _ in range(3)),
        ]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        until(lambda: self.requests, "the first requests", within=60)
        return self

    def __exit__(self, *_: object) -> None:
        """End, and wait for what is under way."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _count(self, requests: int, failed: int, words: str) -> None:
        with self._lock:
            self.requests += requests
            self.failed += failed
            if failed:
                self.problems.append(words)

    def _repeat(self, argv: tuple[str, ...]) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            self._wrk((*argv, f"{id(argv)}-{number}") if argv[-1] == "--" else argv)

    def _wrk(self, argv: tuple[str, ...]) -> None:
        said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
        total, bad, errors = _TOTAL.search(said), _BAD.search(said), _SOCKET.search(said)
        failed = int(bad[1]) if bad else 0
        failed += sum(map(int, errors.groups())) if errors else 0
        self._count(int(total[1]) if total else 0, failed, f"{' '.join(argv)}: {said}")

    def _h2(self, name: str) -> None:
        """Over HTTP/2, as a browser: what was refused by a GOAWAY is asked again on a new connection.

        Each is a POST with a number of its own: one that was refused and yet executed would be done twice.
        """
        number = 0
        with H2Client(self.url) as client:
            while not self._over.is_set():
                number += 1
                said = ""
                try:
                    status = client.post("/", f"{name}-{number}\n".encode())
                    said = "" if status == _OK else f"status {status}"
                except OSError as error:
                    said = repr(error)
                self._count(1, 1 if said else 0, f"HTTP/2: {said}")
                time.sleep(0.002)

    def _streams(self) -> None:
        while not self._over.is_set():
            client = connect(self.url, timeout=30)
            said = "a stream was cut"
            try:
                client.request("GET", f"/stream?s={STREAM:g}")
                good = client.getresponse().read().endswith(b"end\n")
            except (OSError, http.client.HTTPException) as error:
                good, said = False, f"a stream: {error!r}"
            self._count(1, 0 if good else 1, said)
            client.close()


def connect(url: str, timeout: float = 10) -> http.client.HTTPSConnection:
    """A client of the entry; whose certificate it is does not matter here."""
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(str(parts.hostname), parts.port, timeout=timeout, context=context)


def deploy(one: Environment, *words: str, check: bool = True) -> list[dict[str, Any]]:
    """The events of a release, the end last."""
    verb, *rest = words if words[0] in {"rollback", "scale"} else ("deploy", *words)
    said = one.run(verb, one.name, *rest, "--json", check=check).stdout
    return [json.loads(line) for line in said.splitlines()]


def measure_losses(one: Environment, project: Project, bench: Bench, url: str) -> list[Row]:
    """Rolling, blue-green and canary releases of a good version, each until enough requests were made."""
    rows = []
    for strategy in ("rolling", "blue-green", "canary"):
        before, releases, counted = len(project.ledger.read_text()), 0, 0
        with Load(url, bench.folder) as load:
            while load.requests < ENOUGH:
                project.change()
                end = deploy(one, "--strategy", strategy)[-1]
                counted += int(end["outcome"]["lost"])
                releases += 1
        posts = Counter(project.ledger.read_text()[before:].split())
        twice = sum(count > 1 for count in posts.values())
        for problem in load.problems[:3]:
            say(problem)
        say(f"releases: {strategy}: {releases} releases, {load.requests} requests, {load.failed} failed")
        rows.append(
            Row(
                f"{strategy}: failed requests while released",
                "requests",
                (load.failed,),
                f"{load.requests:,} requests in {releases} releases; {len(posts):,} POSTs, "
                f"{twice} done twice; {counted} lost by our own count",
                "0, none twice",
                load.failed == 0 and twice == 0 and counted == 0 and load.requests >= ENOUGH,
            )
        )
    return rows


@contextmanager
def watching(url: str) -> Iterator[list[tuple[float, float, str]]]:
    """New connections all the time: when each request began and ended, and which release answered."""
    seen: list[tuple[float, float, str]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.002):
            client = connect(url)
            client.connect()
            began = time.monotonic()
            client.request("GET", "/work")
            body = client.getresponse().read().decode()
            seen.append((began, time.monotonic(), body))
            client.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join(20)


def overlap(seen: list[tuple[float, float, str]], after: str) -> float:
    """Milliseconds from the first request that the new colour answered until none went to the old one."""
    first = min(began for began, _, release in seen if release == after)
    old = [began for began, _, release in seen if release != after and began > first]
    return 1000 * (max(old) - first) if old else 0.0


def measure_switches(one: Environment, project: Project, url: str, runs: int) -> list[Row]:
    """Blue-green, there and back, as users see it."""
    there, back, took = [], [], []
    for _ in range(runs):
        project.change()
        with watching(url) as seen:
            release = deploy(one, "--strategy", "blue-green")[-1]["outcome"]["release"]
        there.append(overlap(seen, release))
        with watching(url) as seen:
            outcome = deploy(one, "rollback")[-1]["outcome"]
        back.append(overlap(seen, outcome["release"]))
        took.append(outcome["seconds"])
    target = "every new request within 100 ms"
    return [
        Row("blue-green switch", "ms", tuple(there), "", target, max(there) <= 100),
        Row("blue-green switch back", "ms", tuple(back), "", target, max(back) <= 100),
        Row("rollback to the warm colour, whole operation", "s", tuple(took)),
    ]


def measure_rolling(one: Environment, project: Project, runs: int) -> Row:
    """A rolling release beside the starts of the app itself, one after the other."""
    seconds, own = [], []
    for _ in range(runs):
        project.change(start=2.0)
        seconds.append(float(deploy(one, "--strategy", "rolling")[-1]["outcome"]["seconds"]))
        own.append(4 * own_start(project))
    ratio = statistics.median(a / b for a, b in zip(seconds, own, strict=True))
    return Row(
        "rolling release of 3 servers, one more meanwhile",
        "s",
        tuple(seconds),
        f"{ratio:.2f} x the app's own 4 starts ({statistics.median(own):.2f} s)",
        "1.3 x",
        ratio <= 1.3,
    )


def own_start(project: Project) -> float:
    """Seconds from the app's start until it answers, with nobody around it."""
    env = {"HOST": "127.0.0.1", "PORT": "18099", "ASBUILT_RELEASE": "own", "LEDGER": str(project.ledger)}
    began = time.monotonic()
    child = subprocess.Popen([sys.executable, "release_app.py"], cwd=project.folder, env=env)
    try:
        until(lambda: _answers(18099), "the app alone", within=30, every=0.01)
        return time.monotonic() - began
    finally:
        child.terminate()
        child.wait(10)


def _answers(port: int) -> bool:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        client.request("GET", "/health")
        return client.getresponse().status == 200
    except OSError:
        return False
    finally:
        client.close()


@contextmanager
def steady(url: str, rate: float) -> Iterator[Counter[tuple[int, str]]]:
    """So many requests each second; counts status and release."""
    counted: Counter[tuple[int, str]] = Counter()
    over, lock = threading.Event(), threading.Lock()
    clients = 10

    def ask(offset: float) -> None:
        client = connect(url)
        due = time.monotonic() + offset
        while not over.wait(max(0.0, due - time.monotonic())):
            due += clients / rate
            client.request("GET", "/work")
            answer = client.getresponse()
            answer.read()
            with lock:
                counted[answer.status, answer.headers.get("X-Release", "")] += 1
        client.close()

    threads = [threading.Thread(target=ask, args=(number / rate,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield counted
    finally:
        over.set()
        for thread in threads:
            thread.join(20)


def measure_canaries(one: Environment, project: Project, url: str, runs: int) -> list[Row]:
    """Bad releases at 10 % of 100 requests/s, beside a stable one that fails 0.2 %."""
    project.settings["fails"] = 0.002
    project.change()
    deploy(one, "--strategy", "rolling")
    rows = []
    for share, most_seconds, most_bad in ((1.0, 6, 25), (0.2, 10, 12), (0.05, 30, 10)):
        seconds, bad = [], []
        for _ in range(runs):
            project.change(fails=share)
            with steady(url, 100) as counted:
                lines = deploy(one, "--strategy", "canary", check=False)
            moves = {line["move"]: _moment(line) for line in lines if "move" in line}
            started = next(at for move, at in moves.items() if move.startswith("10 %"))
            ended = next((at for move, at in moves.items() if move.startswith("0 %")), None)
            if ended is None:
                raise RuntimeError(f"a release that fails {share:.0%} got through: {lines[-1]}")
            release = next(line["release"] for line in lines if line.get("release"))
            seconds.append(ended - started)
            bad.append(counted[500, release])
            say(f"canary, fails {share:.0%}: {seconds[-1]:.1f} s, {bad[-1]} bad responses")
        what = f"canary that fails {share:.0%} of its requests"
        p95 = (percentile(seconds, 0.95), percentile(bad, 0.95))
        rows += [
            Row(
                f"{what}: until its users are back",
                "s",
                tuple(seconds),
                "",
                f"at most {most_seconds} s",
                p95[0] <= most_seconds,
            ),
            Row(
                f"{what}: bad responses",
                "responses",
                tuple(bad),
                "",
                f"at most {most_bad}",
                p95[1] <= most_bad,
            ),
        ]
    return rows


def _moment(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["at"]).timestamp()


def rows(runs: int = 5) -> list[Row]:
    """Measure and return the table's rows."""
    with Bench() as bench:
        project = Project(bench.folder / "project")
        project.write()
        with environment(bench, project.folder, "production") as one:
            url = str(one.status()["entrypoints"]["https"])
            return [
                *measure_losses(one, project, bench, url),
                *measure_switches(one, project, url, runs),
                measure_rolling(one, project, runs),
                *measure_canaries(one, project, url, runs),
            ]


if __name__ == "__main__":
    run_alone(rows, __doc__, runs=5)
