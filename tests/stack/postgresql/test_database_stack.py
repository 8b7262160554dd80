from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import signal
import ssl
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from asbuilt.engines.etcd.config import encode, render_delete_if_equal, render_transaction
from asbuilt.engines.postgresql.config import PREFIX
from support import until
from support.database import Ledger, Stack, ask, below, stack

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.stack

NODES = ("db-1", "db-2", "db-3")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("db"), 212) as made:
        seconds = made.up()
        print(f"up after {seconds:.1f} s:", {name: round(took, 2) for name, took in made.took.items()})
        yield made


@pytest.fixture
def whole(shared: Stack) -> Stack:
    """The shared stack with every node running, one leader, every commit confirmed, in the store as well."""
    for node in ("consensus-1", *NODES):
        if node not in shared.running or shared.running[node].poll() is not None:
            shared.running.pop(node, None)
            shared.start(node)
    until(lambda: all(shared.ready(node) for node in NODES), what="every node", within=60)
    until(lambda: protected(shared), what="a replica that may take over", within=60)
    return shared


def protected(of: Stack) -> bool:
    roles = sorted(member.role for member in of.admin.members())
    return of.admin.protected() and roles == ["leader", "replica", "sync_standby"]


def postmaster(of: Stack, node: str) -> int:
    return int((of.site.node_dir(node) / "data" / "postmaster.pid").read_text().split()[0])


def test_the_app_may_do_what_an_app_does_and_no_more(whole: Stack) -> None:
    with whole.connect(whole.leader()) as app:
        app.execute("create table if not exists shelf (id int primary key)")
        app.execute("create schema if not exists corner")
        app.execute("drop schema corner")
        for forbidden in (
            "create role intruder superuser",
            "alter role app superuser",
            "set role postgres",
            "create database more",
            "copy shelf from '/etc/passwd'",
            "copy shelf to program 'id'",
            "select pg_read_file('postgresql.conf')",
            "alter system set fsync = off",
            "select * from pg_authid",
        ):
            with pytest.raises(psycopg.Error):
                app.execute(forbidden)
    for role, database in (
        ("app", "postgres"),
        ("app", "template1"),
        ("replicator", "app"),
        ("replicator", "postgres"),
        ("rewind", "app"),
    ):
        with pytest.raises(psycopg.OperationalError):
            whole.connect(whole.leader(), role, database).close()
    with whole.connect(whole.leader(), "monitor", "postgres") as monitor:
        assert monitor.execute("select count(*) from pg_stat_replication").fetchone() == (2,)
        with pytest.raises(psycopg.Error):
            monitor.execute("select pg_promote()")


def test_replicas_read_and_the_durable_settings_are_on(whole: Stack) -> None:
    leader = whole.leader()
    replicas = [node for node in NODES if node != leader]
    with whole.connect(leader) as app:
        app.execute("create table if not exists seen (id int)")
        app.execute("insert into seen values (1)")
        for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            assert app.execute(f"show {name}").fetchone() == ("on",)
    for node in replicas:
        with whole.connect(node) as app:

            def arrived(reader: psycopg.Connection[Any] = app) -> bool:
                row = reader.execute("select to_regclass('seen') is not null").fetchone()
                return row == (True,)

            until(arrived, what=f"the table on {node}")
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                app.execute("insert into seen values (2)")


def test_no_secret_in_a_command_line_or_a_file_for_others(whole: Stack) -> None:
    secrets = [secret.reveal() for secret in whole.secrets.values()]
    assert len(secrets) >= 5
    seen = 0
    for pid in below(whole.root):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            seen += 1
            assert not [secret for secret in secrets if secret in line], line
    assert seen > 10
    for path in (whole.root / "nodes").rglob("*"):
        if path.is_file() and path.suffix in {".yml", ".conf", ".key", ""} and path.stat().st_size < 2**20:
            with contextlib.suppress(OSError):
                text = path.read_bytes().decode(errors="replace")
                if any(secret in text for secret in secrets):
                    assert not path.stat().st_mode & 0o077, path
    assert not list(whole.root.rglob("data.seed*"))


def test_the_store_takes_nothing_from_strangers(whole: Stack) -> None:
    host = whole.site.addresses["consensus-1"]
    open_context = ssl.create_default_context()
    open_context.check_hostname = False
    open_context.verify_mode = ssl.CERT_NONE
    body = f'{{"key": "{encode(PREFIX + "leader")}"}}'.encode()
    for port in (whole.site.ports["etcd"], whole.site.ports["etcd-peer"]):
        with pytest.raises(OSError, match=r".") as refused:
            urllib.request.urlopen(
                f"https://{host}:{port}/v3/kv/range", data=body, timeout=5, context=open_context
            )
        assert not isinstance(refused.value, urllib.error.HTTPError)
    metrics = f"http://{host}:{whole.site.ports['etcd-metrics']}"
    assert urllib.request.urlopen(f"{metrics}/health", timeout=5).status == 200
    for path in ("/v3/kv/range", "/v3/kv/put", "/v2/keys", "/debug/pprof/", "/debug/vars"):
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(metrics + path, data=body, timeout=5)
        assert missing.value.code in {404, 405}


def test_unsafe_requests_to_a_member_need_its_password(whole: Stack) -> None:
    leader = whole.leader()
    url = f"http://{whole.site.addresses[leader]}:{whole.site.ports['patroni']}/switchover"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, data=f'{{"leader": "{leader}"}}'.encode(), timeout=5)
    assert refused.value.code == 401
    assert whole.admin.leader() == leader


def test_a_late_release_does_not_depose_a_successor(whole: Stack) -> None:
    leader = whole.leader()
    other = next(node for node in NODES if node != leader)
    release = whole.workloads[other].after_fence
    assert release is not None
    assert ask(release)
    store = whole.engines_store()
    assert store.read(PREFIX)[f"{PREFIX}leader"] == leader
    wrong = render_transaction(
        whole.site, "consensus-1", render_delete_if_equal(f"{PREFIX}nothing", leader), "nothing"
    )
    assert ask(wrong)


def test_postmaster_killed(whole: Stack) -> None:
    leader = whole.leader()
    with Ledger(whole) as ledger:
        began = time.monotonic()
        os.kill(postmaster(whole, leader), signal.SIGKILL)
        gap = ledger.gap_after(began, what="rows after the postmaster was killed")
    print(f"postmaster killed: gap {gap:.2f} s")
    assert whole.leader() != leader
    assert ledger.lost() == set()
    assert gap < 10
    until(lambda: whole.ready(leader), what=f"{leader} as replica", within=60)


def test_node_killed_and_its_lead_released(whole: Stack) -> None:
    leader = whole.leader()
    with Ledger(whole) as ledger:
        began = time.monotonic()
        assert whole.fence(leader)
        gap = ledger.gap_after(began, what="rows after the node was killed")
        whole.start(leader)
        until(lambda: whole.ready(leader), what=f"{leader} as replica", within=60)
        back = time.monotonic() - began
    print(f"node killed: gap {gap:.2f} s, whole again after {back:.1f} s")
    assert whole.leader() != leader
    assert ledger.lost() == set()
    assert gap < 5  # without the release it is the 20 s of the lease


def test_node_frozen_then_fenced(whole: Stack) -> None:
    leader = whole.leader()
    with Ledger(whole) as ledger:
        began = time.monotonic()
        whole.kill(leader, signal.SIGSTOP)
        until(lambda: time.monotonic() > began + 2, what="the freeze to be noticed")
        assert whole.fence(leader)
        gap = ledger.gap_after(began, what="rows after the node was frozen")
    print(f"node frozen: gap {gap:.2f} s")
    assert ledger.lost() == set()
    assert gap < 8


def test_killed_in_the_middle_of_a_large_load(whole: Stack) -> None:
    leader = whole.leader()

    def load() -> None:
        with contextlib.suppress(psycopg.Error), whole.connect(leader) as app:
            app.execute("create table bulk as select g, repeat('x', 900) from generate_series(1, 5000000) g")

    loading = threading.Thread(target=load)
    with whole.connect(leader, "monitor", "postgres") as monitor:

        def written() -> int:
            row = monitor.execute("select pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
            return int(row[0]) if row else 0

        before = written()
        loading.start()
        until(lambda: written() > before + 64 * 2**20, what="64 MB of the load")
    began = time.monotonic()
    assert whole.fence(leader)
    loading.join()
    until(lambda: whole.admin.leader(timeout=0.5) not in {None, leader}, what="a new leader", within=15)
    print(f"killed under load: new leader after {time.monotonic() - began:.2f} s")
    until(whole.admin.writable, what="writes")


def test_a_replica_without_data_is_cloned(whole: Stack) -> None:
    replica = next(node for node in NODES if node != whole.leader())
    whole.kill(replica)
    shutil.rmtree(whole.site.node_dir(replica) / "data")
    assert whole.setups["database.seed"].satisfied()
    began = time.monotonic()
    whole.start(replica)
    until(lambda: whole.ready(replica), what=f"{replica} cloned", within=90)
    print(f"replica cloned after {time.monotonic() - began:.1f} s")


def test_planned_switchover_loses_nothing(whole: Stack) -> None:
    leader = whole.leader()
    candidate = next(one.node for one in whole.admin.members() if one.role == "sync_standby")
    with Ledger(whole) as ledger:
        began = time.monotonic()
        assert whole.admin.switch_over(candidate) == candidate
        gap = ledger.gap_after(began, what="rows after the switchover")
    print(f"switchover: gap {gap:.2f} s")
    assert ledger.lost() == set()
    until(lambda: whole.ready(leader), what="the former primary as replica", within=60)


def test_the_store_is_gone_for_a_while_and_writes_go_on(whole: Stack) -> None:
    leader = whole.leader()
    with Ledger(whole) as ledger:
        began = time.monotonic()
        whole.kill("consensus-1")
        until(lambda: time.monotonic() > began + 25, what="more than the lease", within=30)
        rows_without = [moment for moment in list(ledger.times) if moment > began + 22]
        assert rows_without, ledger.errors[-3:]
        whole.start("consensus-1")
        until(lambda: whole.ready("consensus-1"), what="the store")
        gap = ledger.gap_after(began, what="rows after the store came back")
    print(f"store gone for 25 s: gap {gap:.2f} s")
    assert whole.leader() == leader
    assert ledger.lost() == set()


class Alive(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def strangers(of: Stack) -> Iterator[None]:
    """Somebody else's members, alive where ours were."""
    with contextlib.ExitStack() as alive:
        for node in NODES:
            address = of.site.addresses[node], of.site.ports["patroni"]
            server = alive.enter_context(http.server.ThreadingHTTPServer(address, Alive))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            alive.callback(server.shutdown)
        yield


def test_cold_stop_and_start_elsewhere_keep_everything(whole: Stack) -> None:
    with whole.connect(whole.leader()) as app:
        app.execute("create table if not exists kept (n int)")
        app.execute("insert into kept values (42)")
    print(f"down after {whole.down():.1f} s")
    assert not below(whole.root)
    # the environment comes back with other addresses, as after another one took its slot, with such nodes
    with strangers(whole):
        whole.slot = 213
        whole.realize()
        print(f"up again after {whole.up():.1f} s")
    with whole.connect(whole.leader()) as app:
        assert app.execute("select n from kept").fetchone() == (42,)
    assert protected(whole) or until(lambda: protected(whole), what="protection", within=30)


def test_a_store_that_lost_its_memory(whole: Stack) -> None:
    leader = whole.leader()
    with whole.connect(leader) as app:
        app.execute("create table if not exists late (n int)")
        app.execute("insert into late values (7)")
    whole.down()
    shutil.rmtree(whole.site.node_dir("consensus-1") / "data")
    whole.up()
    assert whole.leader() == leader
    with whole.connect(leader) as app:
        assert app.execute("select n from late").fetchone() == (7,)


def test_alone_and_then_with_replicas(tmp_path: Path) -> None:
    with stack(tmp_path, 214, replicas=0) as alone:
        print(f"alone: up after {alone.up():.1f} s")
        (workload,) = alone.workloads.values()
        assert workload.role is not None
        assert ask(workload.role.primary)
        with alone.connect("db-1") as app:
            app.execute("create table kept (n int)")
            app.execute("insert into kept values (1)")
        os.kill(alone.running["db-1"].pid, signal.SIGSTOP)
        assert not ask(replace(workload.role.primary, timeout=0.5))
        os.kill(alone.running["db-1"].pid, signal.SIGCONT)
        alone.down()
        assert not below(tmp_path)
        with stack(tmp_path, 214, replicas=1) as more:
            more.secrets.update(alone.secrets)
            more.up()
            with more.connect(more.leader()) as app:
                assert app.execute("select n from kept").fetchone() == (1,)
            until(more.admin.protected, what="a replica that confirms")
