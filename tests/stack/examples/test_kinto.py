"""Kinto from the package index: a Python application that knows nothing of asbuilt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.front import check_app_server_comes_back, check_second_up_does_nothing, set_variable, visiting
from support.live import Live, copy_example, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.stack
ALICE = ("alice", "not-a-secret")
RECORDS = "/v1/buckets/shop/collections/orders/records"


@pytest.fixture(scope="module")
def live(module_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    assert module_home.is_dir()
    with running(copy_example("kinto", tmp_path_factory.mktemp("examples")), "staging") as environment:
        yield environment


def test_records_are_kept_through_a_new_release_a_kill_and_a_stop(live: Live) -> None:
    with visiting(live) as client:
        assert client.get("/v1/__heartbeat__").json() == {"storage": True, "permission": True, "cache": True}
        client.put("/v1/accounts/alice", json={"data": {"password": ALICE[1]}}).raise_for_status()
        for path in ("/v1/buckets/shop", "/v1/buckets/shop/collections/orders"):
            client.put(path, auth=ALICE).raise_for_status()
        made = client.post(RECORDS, json={"data": {"item": "lamp"}}, auth=ALICE)
        assert made.status_code == 201
        place = f"{RECORDS}/{made.json()['data']['id']}"

        check_second_up_does_nothing(live)
        set_variable(live, "KINTO_PROJECT_NAME", "renamed")
        assert live.up()["release"] == "r2"
        assert client.get("/v1/").json()["project_name"] == "renamed"
        check_app_server_comes_back(live, client, "/v1/__heartbeat__")
        assert client.get(place, auth=ALICE).json()["data"]["item"] == "lamp"
    live.down()
    live.up()
    with visiting(live) as client:
        assert client.get(place, auth=ALICE).json()["data"]["item"] == "lamp"
        assert client.get(place).status_code == 401
