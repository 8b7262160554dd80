"""Parse Server from the npm registry: a Node.js application with files in S3 and live queries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.front import (
    check_app_server_comes_back,
    check_second_up_does_nothing,
    set_variable,
    socket_to,
    visiting,
)
from support.live import Live, copy_example, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.stack
APP = {"X-Parse-Application-Id": "example"}
CONTENT = b"a file that belongs to nobody"


@pytest.fixture(scope="module")
def live(module_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    assert module_home.is_dir()
    with running(copy_example("parse-server", tmp_path_factory.mktemp("examples")), "staging") as environment:
        yield environment


@pytest.fixture
def client(live: Live) -> Iterator[httpx.Client]:
    with visiting(live, **APP) as found:
        yield found


def test_an_object_is_stored_and_found(client: httpx.Client) -> None:
    made = client.post("/parse/classes/Item", json={"name": "lamp", "price": 12})
    assert made.status_code == 201
    found = client.get("/parse/classes/Item", params={"where": json.dumps({"price": {"$gt": 10}})}).json()
    assert [one["objectId"] for one in found["results"]] == [made.json()["objectId"]]


def test_a_file_goes_to_the_object_storage_and_back(client: httpx.Client) -> None:
    sent = client.post("/parse/files/note.txt", content=CONTENT, headers={"Content-Type": "text/plain"})
    assert sent.status_code == 201
    for _ in range(4):
        fetched = client.get(f"/parse/files/example/{sent.json()['name']}", headers={"Connection": "close"})
        assert fetched.content == CONTENT


def test_a_live_query_hears_of_objects_saved_on_any_server(live: Live, client: httpx.Client) -> None:
    with socket_to(live, "/parse") as watcher:
        watcher.send(json.dumps({"op": "connect", "applicationId": "example"}))
        assert json.loads(watcher.recv(20))["op"] == "connected"
        query = {"className": "Message", "where": {}}
        watcher.send(json.dumps({"op": "subscribe", "requestId": 1, "query": query}))
        assert json.loads(watcher.recv(20))["op"] == "subscribed"
        texts = [f"message {number}" for number in range(4)]
        for text in texts:  # a new connection each, so that both servers take some
            headers = {"Connection": "close"}
            client.post("/parse/classes/Message", json={"text": text}, headers=headers).raise_for_status()
        heard = [json.loads(watcher.recv(20)) for _ in texts]
    assert {one["op"] for one in heard} == {"create"}
    assert sorted(one["object"]["text"] for one in heard) == texts


def test_a_new_release_and_a_kill_lose_nothing(live: Live, client: httpx.Client) -> None:
    check_second_up_does_nothing(live)
    count = client.get("/parse/classes/Message").json()["results"]
    set_variable(live, "NOTED", "yes")
    # a live query never ends by itself: it must not keep the release from going out
    with socket_to(live, "/parse") as watcher:
        watcher.send(json.dumps({"op": "connect", "applicationId": "example"}))
        watcher.recv(20)
        assert live.up()["release"] == "r2"
    check_app_server_comes_back(live, client, "/parse/health")
    assert client.get("/parse/classes/Message").json()["results"] == count
