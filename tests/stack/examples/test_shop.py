"""The shop in production: every service of the architecture is used, while app servers come and go."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from support import until
from support.front import check_app_server_comes_back, check_second_up_does_nothing, socket_to, visiting
from support.live import Live, copy_example, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.stack
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


@pytest.fixture(scope="module")
def live(module_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    assert module_home.is_dir()
    with running(copy_example("shop", tmp_path_factory.mktemp("examples")), "production") as environment:
        yield environment


@pytest.fixture
def client(live: Live) -> Iterator[httpx.Client]:
    with visiting(live) as found:
        yield found


def test_the_page_tells_who_served_it(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["x-served-by"].startswith("app-")
    assert "production" in page.text
    served: set[str] = set()

    def all_served() -> bool:
        served.add(client.get("/", headers={"Connection": "close"}).headers["x-served-by"])
        return served == {"app-1", "app-2", "app-3"}

    # one that was restarted late, or failed a request, is back after the balancer's next check
    until(all_served, what="an answer of each app server", within=60)


def test_products_are_read_from_a_replica(client: httpx.Client) -> None:
    listed = client.get("/api/products").json()
    assert listed["from"] == "replica"
    assert listed["products"]


def test_a_cart_is_ordered_once_and_announced_to_everybody(live: Live, client: httpx.Client) -> None:
    client.get("/")  # the cookie of the cart
    with socket_to(live, "/live") as watcher:
        assert json.loads(watcher.recv(10))["hello"].startswith("app-")
        assert client.post("/api/cart", json={"product": 1, "quantity": 2}).json() == {"items": {"1": 2}}
        placed = client.post("/api/checkout", json={"key": "first"})
        assert placed.status_code == 201
        heard = json.loads(watcher.recv(10))
    assert [heard["order"]] == placed.json()["orders"]
    again = client.post("/api/orders", json={"key": "first:1", "product": 1, "quantity": 2})
    assert again.json() == {"order": heard["order"]}


def test_a_picture_and_a_note_are_the_same_from_every_server(client: httpx.Client) -> None:
    put = client.put("/products/1/image", content=PNG, headers={"Content-Type": "image/png"})
    assert put.status_code == 204
    assert client.put("/note", content=b"shared").status_code == 204
    for _ in range(6):
        assert client.get("/products/1/image", headers={"Connection": "close"}).content == PNG
        assert client.get("/note", headers={"Connection": "close"}).text == "shared"


def test_a_change_rolls_out_under_a_download_and_a_full_ledger(live: Live, client: httpx.Client) -> None:
    check_second_up_does_nothing(live)
    page = live.project / "shop" / "page.py"
    page.write_text(page.read_text().replace("<h1>", "<h1>New "))
    received: list[int] = []

    def download() -> None:
        with visiting(live) as visitor:
            received.append(len(visitor.get("/download?seconds=12&bytes=1000000").content))

    over = threading.Event()
    written: list[int] = []
    refused: list[str] = []

    def write() -> None:
        with visiting(live) as visitor:
            number = 0
            while not over.wait(0.05):
                number += 1
                answer = visitor.post("/ledger", json={"key": f"roll-{number}", "number": number})
                written.append(number) if answer.status_code == 201 else refused.append(answer.text)

    threads = [threading.Thread(target=download), threading.Thread(target=write)]
    for one in threads:
        one.start()
    try:
        outcome = live.up()
    finally:
        over.set()
        for one in threads:
            one.join(60)
    assert outcome["release"] == "r2"
    assert "<h1>New " in client.get("/").text
    assert received == [1_000_000], "the deployment cut a download"
    assert not refused
    assert written
    kept = {entry[0] for entry in client.get("/ledger/keys").json()["entries"]}
    assert set(written) <= kept


def test_a_killed_app_server_costs_no_request(live: Live, client: httpx.Client) -> None:
    check_app_server_comes_back(live, client, "/api/products")


def test_what_was_ordered_survives_down_and_up(live: Live) -> None:
    with visiting(live) as before:
        orders = before.get("/api/orders").json()
        assert orders["orders"]
    live.down()
    live.up()
    with visiting(live) as after:
        assert after.get("/api/orders").json() == orders
        assert after.get("/products/1/image").content == PNG
        assert after.get("/note").text == "shared"


def test_a_websocket_is_closed_and_a_download_finishes_while_a_version_is_released(live: Live) -> None:
    """A socket cannot move: its server says that it goes away, and the client connects again."""
    shutil.copy(live.project / "versions" / "2-good.py", live.project / "shop" / "version.py")
    ended: list[int] = []

    def download() -> None:
        with visiting(live) as own:
            ended.append(len(own.get("/download", params={"seconds": 20, "bytes": 5000}).content))

    with ThreadPoolExecutor() as pool:
        downloads = [pool.submit(download) for _ in range(3)]
        with socket_to(live, "/live") as socket:
            assert "hello" in json.loads(socket.recv(timeout=10))
            # the drain's deadline is far behind the end of the downloads
            released = pool.submit(live.run, "deploy", "production", "--json")
            for _ in socket:
                pass  # until it is closed in the ordinary way
            assert socket.close_code in {1001, 1012}
        for one in downloads:
            one.result()
    assert ended == [5000] * 3
    end = json.loads(released.result().stdout.splitlines()[-1])
    assert (end["exit"], end["outcome"]["lost"]) == (0, 0)
    with visiting(live) as client:
        assert "(v2)" in client.get("/").text
