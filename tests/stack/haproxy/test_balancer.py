from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from asbuilt.engines.haproxy import admin
from asbuilt.engines.haproxy.engine import HaproxyEngine
from asbuilt.engines.haproxy.names import ADMIN_SOCKET, MASTER_SOCKET
from asbuilt.exec.authority import Authority
from asbuilt.exec.runner import Runner
from asbuilt.graph.build import build
from asbuilt.graph.model import Architecture
from asbuilt.plan.site import Entry, Site
from asbuilt.plan.workload import Workload
from asbuilt.targets.local.listeners import find_holders, on_port, read_listeners
from asbuilt.targets.local.process import all_pids, read_cwd
from asbuilt.values.errors import AsbuiltError
from support import until
from support.launcher import Launcher, answers
from support.places import free_port, site_of
from support.specs import spec_of
from support.web import Load, Web

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.stack
SLOT = 216


@dataclass
class Stack:
    architecture: Architecture
    site: Site
    workload: Workload
    launcher: Launcher
    webs: dict[str, Web]

    @property
    def https(self) -> int:
        assert self.site.entry.https_port
        return self.site.entry.https_port

    @property
    def authority(self) -> Path:
        return self.site.authority_dir / "ca.crt"

    @property
    def admin(self) -> Path:
        return self.site.node_dir("lb-1") / ADMIN_SOCKET

    @property
    def master(self) -> Path:
        return self.site.node_dir("lb-1") / MASTER_SOCKET

    def load(self) -> Load:
        return Load("127.0.0.1", self.https, self.authority)

    def status(self, name: str, backend: str = "app") -> str:
        return next(s.status for s in admin.ask_servers(self.admin) if (s.name, s.backend) == (name, backend))

    def get(self, path: str = "/", **headers: str) -> tuple[http.client.HTTPResponse, dict[str, object]]:
        context = ssl.create_default_context(cafile=self.authority)
        client = http.client.HTTPSConnection("127.0.0.1", self.https, timeout=60, context=context)
        try:
            client.request("GET", path, headers=headers)
            answer = client.getresponse()
            body = answer.read()
            return answer, json.loads(body) if body.startswith(b"{") else {}
        finally:
            client.close()


@pytest.fixture
def stack(home: Path) -> Iterator[Stack]:
    over = {
        "cache": {"replicas": 0},
        "database": {"replicas": 0},
        "load_balancer": {"domains": ["shop.example"]},
    }
    architecture = build(spec_of(production=over), "production")
    runner = Runner((launcher := Launcher()).identity)
    tools = {"haproxy": HaproxyEngine().find(architecture, runner)}
    entry = Entry("127.0.0.1", free_port("127.0.0.1"), free_port("127.0.0.1"))
    site = site_of(architecture, home, tools, slot=SLOT, entry=entry)
    realization = HaproxyEngine().realize(architecture, site, runner)
    for setup in realization.setups:
        setup.run()
        assert setup.satisfied()
    webs = {
        name: Web(name, site.addresses[name], site.ports[name], home / "web" / name)
        for name in ("app-1", "app-2", "app-3")
    }
    stack = Stack(architecture, site, realization.workloads[0], launcher, webs)
    try:
        for web in webs.values():
            web.start()
        launcher.up(stack.workload)
        yield stack
    finally:
        launcher.stop_all()
        for web in webs.values():
            web.kill()


def test_the_entry_speaks_tls_13_and_http_2_only_the_modern_way(stack: Stack) -> None:
    old = ssl.create_default_context(cafile=stack.authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", stack.https)) as raw, pytest.raises(ssl.SSLError):
        old.wrap_socket(raw, server_hostname="localhost")
    with httpx.Client(http2=True, verify=ssl.create_default_context(cafile=stack.authority)) as client:
        answer = client.get(f"https://localhost:{stack.https}/a?b=c", headers={"Host": "shop.example"})
    assert answer.http_version == "HTTP/2"
    assert answer.json()["line"] == "GET /a?b=c HTTP/1.1"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_the_app_learns_who_asks_and_cannot_be_lied_to(stack: Stack) -> None:
    lies = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "http",
        "x-forwarded-port": "1",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/admin",
        "X-Request-ID": "mine",
        "Forwarded": "for=6",
    }
    answer, said = stack.get("/", Host="localhost:1", **lies)
    headers = said["headers"]
    assert isinstance(headers, dict)
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "https"
    # nobody but us says anything about the way here: these would be the client's
    assert not {"x-forwarded-port", "x-forwarded-host", "x-forwarded-prefix"} & headers.keys()
    assert headers["host"] == "localhost:1"
    assert headers["x-request-id"] == answer.headers["X-Request-ID"] != "mine"
    assert "forwarded" not in headers
    assert "Strict-Transport-Security" not in answer.headers


def test_http_only_redirects(stack: Stack) -> None:
    port = stack.site.entry.http_port
    with httpx.Client() as client:
        answer = client.post(f"http://127.0.0.1:{port}/a/b?c=d", headers={"Host": f"shop.example:{port}"})
        assert answer.status_code == 308
        assert answer.headers["location"] == f"https://shop.example:{stack.https}/a/b?c=d"
        assert client.get(f"http://127.0.0.1:{port}/.well-known/acme-challenge/x").status_code == 404


def test_a_websocket_goes_through(stack: Stack) -> None:
    context = ssl.create_default_context(cafile=stack.authority)
    with (
        socket.create_connection(("127.0.0.1", stack.https), 10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as stream,
    ):
        stream.sendall(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b" 101 " in stream.recv(4096)
        stream.sendall(b"ping")
        assert stream.recv(4) == b"ping"


def test_the_access_log_is_one_json_line_without_the_query(stack: Stack) -> None:
    answer, _ = stack.get('/a%22b]\\"c?token=secret')
    log = stack.launcher.log(stack.workload)

    def logged() -> dict[str, object] | None:
        lines = [line for line in log.read_text().splitlines() if answer.headers["X-Request-ID"] in line]
        return json.loads(lines[0]) if lines else None

    line = until(logged, what="the log line")
    assert line is not None
    assert line["path"] == '/a%22b]\\"c'
    assert line["status"] == 200
    assert line["server"] in stack.webs
    assert "secret" not in log.read_text()
    with socket.create_connection(("127.0.0.1", stack.site.entry.http_port or 0)) as raw:
        raw.sendall(b'X"] / HTTP/1.1\r\nHost: a"b\r\n\r\n')
        raw.recv(100)
    until(lambda: "PR--" in log.read_text() or "CR--" in log.read_text(), what="the line of a bad request")
    for one in log.read_text().splitlines():
        if one.startswith("{"):
            json.loads(one)


@pytest.mark.parametrize(
    "target", [b"/\xff\xc3\xa9", b'/"\\]', b"/\x01", b"/\x7f", b"/\xed\xa0\x80", b"/#%00"]
)
def test_no_bytes_of_a_client_break_a_line_of_the_log(stack: Stack, target: bytes) -> None:
    context = ssl.create_default_context(cafile=stack.authority)
    with (
        socket.create_connection(("127.0.0.1", stack.https), 10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as stream,
    ):
        stream.sendall(b"GET " + target + b"?end HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while stream.recv(4096):
            pass
    log = stack.launcher.log(stack.workload)

    def logged() -> list[dict[str, object]]:
        # strictly UTF-8, strictly JSON: whatever a client sends
        lines = log.read_bytes().decode().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    assert len({line["id"] for line in until(logged, what="the log line")}) == len(logged())


def test_metrics_statistics_and_readiness_are_on_its_own_address(stack: Stack) -> None:
    own = f"http://{stack.site.addresses['lb-1']}:{stack.site.ports['haproxy-stats']}"
    with httpx.Client() as client:
        assert "haproxy_backend_http_responses_total" in client.get(f"{own}/metrics").text
        assert client.get(f"{own}/").status_code == 401
        assert client.get(f"{own}/", auth=("asbuilt", "secret-of-haproxy.stats")).status_code == 200
        assert client.get(f"{own}/ready").status_code == 200
    until(
        lambda: next(s for s in admin.ask_servers(stack.admin) if s.name == "entry").check == "L6OK",
        what="the handshake with itself",
    )


def test_a_killed_server_costs_no_request_and_is_out_at_once(stack: Stack) -> None:
    with stack.load() as load:
        until(lambda: load.good > 300, what="load")
        begun = time.monotonic()
        stack.webs["app-1"].kill()
        until(lambda: stack.status("app-1").startswith("DOWN"), what="app-1 to be out")
        out = time.monotonic() - begun
        stack.webs["app-1"].start()
        begun = time.monotonic()
        until(lambda: stack.status("app-1").startswith("UP"), what="app-1 to be back")
        back = time.monotonic() - begun
        before = load.by_name["app-1"]
        until(lambda: load.by_name["app-1"] > before, what="requests for app-1")
    print(f"out {out:.2f} s, back {back:.2f} s, slowest {load.slowest:.2f} s, {load.good} good")
    assert load.failed == []
    assert out < 3
    assert back < 3


def test_a_server_that_never_answers_costs_time_but_no_request(stack: Stack) -> None:
    with stack.load() as load:
        until(lambda: load.good > 300, what="load")
        stack.webs["app-1"].flag("hang", on=True)
        until(lambda: stack.status("app-1").startswith("DOWN"), what="app-1 to be out", within=40)
        begun = load.good
        until(lambda: load.good > begun + 100, what="requests that go on")
    print(f"slowest {load.slowest:.2f} s, {load.good} good")
    assert load.failed == []
    assert load.slowest < 32


def test_when_every_check_fails_requests_still_get_through(stack: Stack) -> None:
    for web in stack.webs.values():
        web.flag("sick", on=True)
    config = Path(stack.workload.files[0].path)
    config.write_text(config.read_text().replace("inter 30000ms", "inter 500ms"))
    admin.reload(stack.master)
    until(lambda: all(stack.status(name).startswith("DOWN") for name in stack.webs), what="all to be down")
    with stack.load() as load:
        until(lambda: load.good > 100, what="answers in spite of it")
    assert load.failed == []
    for web in stack.webs.values():
        web.kill()
    with stack.load() as load:
        time.sleep(1.5)  # how long the servers are away is what this is about
        for web in stack.webs.values():
            web.start()
        until(lambda: load.good > 20, what="the requests that were held")
    print(f"all servers restarted: slowest {load.slowest:.2f} s")
    assert load.failed == []


def test_reload_under_load_with_a_server_down_costs_nothing(stack: Stack) -> None:
    stack.webs["app-3"].kill()
    reload = stack.workload.reload
    assert reload is not None
    with stack.load() as load:
        until(lambda: load.good > 100, what="load")
        for _ in range(4):
            assert answers(reload)
            before = load.good
            until(lambda: load.good > before + 100, what="load after the reload")  # noqa: B023 - called at once
    print(f"{load.good} good, slowest {load.slowest:.2f} s")
    assert load.failed == []


def test_a_broken_file_is_refused_and_the_old_one_goes_on(stack: Stack) -> None:
    Path(stack.workload.files[0].path).write_text("nonsense\n")
    reload = stack.workload.reload
    assert reload is not None
    assert not answers(replace(reload, timeout=5))
    with pytest.raises(AsbuiltError) as caught:
        admin.reload(stack.master)
    assert caught.value.code == "LB-004"
    assert "nonsense" in str(caught.value.evidence)
    assert stack.get()[0].status == 200


def test_a_drained_server_finishes_and_gets_no_more(stack: Stack) -> None:
    with stack.load() as load:
        until(lambda: len(load.by_name) == 3, what="all three to be asked")
        admin.drain(stack.admin, "app-2")
        assert admin.wait_idle(stack.master, "app-2", within=10)
        stack.webs["app-2"].kill()
        drained = load.by_name["app-2"]
        before = load.good
        until(lambda: load.good > before + 200, what="more load")
        assert load.by_name["app-2"] == drained
        stack.webs["app-2"].start()
        admin.ready(stack.admin, "app-2")
        assert admin.wait_up(stack.admin, "app-2", within=10)
        until(lambda: load.by_name["app-2"] > drained, what="app-2 to be asked again")
    assert load.failed == []


def test_what_a_worker_before_a_reload_still_has_under_way_counts(stack: Stack) -> None:
    def under_way() -> int:
        return sum(admin.count_sessions(stack.master, name) for name in stack.webs)

    busy = threading.Thread(target=stack.get, args=("/slow",))
    busy.start()
    until(lambda: under_way() == 1, what="the request")
    admin.reload(stack.master)
    assert len(admin.ask_workers(stack.master)) == 2
    assert sum(s.sessions for s in admin.ask_servers(stack.admin)) == 0  # all that the new worker knows
    assert under_way() == 1
    assert all(admin.wait_idle(stack.master, name, within=10) for name in stack.webs)
    busy.join(10)


def test_a_new_certificate_is_shown_without_a_reload(stack: Stack) -> None:
    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", stack.https))

    first = shown()
    folder = stack.site.node_dir("lb-1") / "certificates"
    issued = Authority(stack.site.authority_dir).issue(folder, "public", dns=("localhost", "new.example"))
    assert admin.swap_certificate(stack.admin, issued.pem)
    assert shown() != first


def test_it_is_stopped_as_it_asks_for(stack: Stack) -> None:
    begun = time.monotonic()
    stack.launcher.end(stack.workload)
    assert time.monotonic() - begun < 5
    # another program may get the port that this one gave back
    until(lambda: not listeners_of(stack), what="nobody of ours to listen there", within=5)


def listeners_of(stack: Stack) -> list[int]:
    """Inodes of listening sockets at the entry that belong to a process of this stack."""
    found = {one.inode for one in on_port(read_listeners(), "127.0.0.1", stack.https)}
    ours = {pid for pid in all_pids() if (read_cwd(pid) or "").startswith(str(stack.master.parents[1]))}
    return [inode for inode, pids in find_holders(found).items() if ours.intersection(pids)]
