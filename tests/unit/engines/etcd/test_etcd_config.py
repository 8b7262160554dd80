from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from asbuilt.engines.etcd import config
from asbuilt.engines.etcd.admin import Store
from asbuilt.engines.etcd.engine import EtcdEngine, parse_version
from asbuilt.plan.workload import ClientTls
from asbuilt.values.errors import AsbuiltError
from support.database import build_site

SITE = build_site(Path("/env"), 210, ("consensus-1", "db-1"))


def test_clients_need_a_certificate_and_only_health_is_plain() -> None:
    argv = config.render_argv("/bin/etcd", SITE, "consensus-1")
    plain = [word for word in argv if "http://" in word]
    assert plain == ["--listen-metrics-urls=http://127.210.5.1:2381"]
    assert "--client-cert-auth=true" in argv
    assert "--peer-client-cert-auth=true" in argv
    assert "--trusted-ca-file=/env/certificates/internal/ca.crt" in argv
    assert "--data-dir=/env/nodes/consensus-1/data" in argv
    assert not [word for word in argv if "unsafe" in word or "force-new" in word]


def test_the_lead_is_deleted_only_while_it_is_the_members_own() -> None:
    body = config.render_delete_if_equal("/service/database/leader", "db-1")
    (compare,) = body["compare"]
    assert (compare["target"], compare["result"]) == ("VALUE", "EQUAL")
    assert base64.b64decode(compare["value"]) == b"db-1"
    exchange = config.render_transaction(SITE, "consensus-1", body, "release")
    head, _, sent = exchange.send.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v3/kv/txn HTTP/1.0\r\n")
    assert f"Content-Length: {len(sent)}".encode() in head
    assert json.loads(sent) == body
    assert exchange.tls == ClientTls(
        "/env/certificates/internal/ca.crt",
        "/env/certificates/internal/etcd-client.crt",
        "/env/certificates/internal/etcd-client.key",
        "127.210.5.1",
    )


def test_versions() -> None:
    assert parse_version("etcd Version: 3.5.1\nGit SHA: e8732fb5f\n") == "3.5.1"
    assert parse_version("nothing") is None


def test_a_store_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("nonsense")
    store = Store("127.210.9.9", 1, ClientTls(str(tmp_path / "ca.crt"), "", "", ""), timeout=0.2)
    with pytest.raises(AsbuiltError) as caught:
        store.read("/service/")
    assert caught.value.code == "ETCD-001"


def test_kinds() -> None:
    assert EtcdEngine().name == "etcd"
