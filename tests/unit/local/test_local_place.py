from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asbuilt.graph.build import build
from asbuilt.graph.model import Architecture, Kind, Node, Zone
from asbuilt.targets.local import place as places
from asbuilt.targets.local.ground import Ground, read_ground
from asbuilt.targets.local.listeners import Listener, on_port, parse_listeners, read_listeners
from asbuilt.targets.local.names import CLAIM_PORT
from asbuilt.targets.local.place import load_place, settle
from asbuilt.targets.local.ports import SERVICES, Before, choose, render_address
from asbuilt.values.errors import AsbuiltError
from support.specs import spec_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Look = Callable[..., None]


def production(**over: object) -> Architecture:
    return build(spec_of(production=dict(over)), "production")


def development() -> Architecture:
    return build(spec_of(development={}), "development")


def held(host: str, port: int, who: str = "pid 7 (nc)") -> tuple[Listener, str]:
    return Listener(host, port, 0, hash((host, port))), who


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    """Says what the machine looks like from now on."""

    def see(*foreign: tuple[Listener, str], marked: bool = False) -> None:
        table = dict(foreign)
        ground = Ground(table, (), frozenset(table if marked else ()), bind=False)
        monkeypatch.setattr(places, "read_ground", lambda _root: ground)

    see()
    return see


def test_standard_ports_on_own_addresses(tmp_path: Path, look: Look) -> None:  # noqa: ARG001 - an empty machine
    place = settle(tmp_path / "shop", tmp_path, production())
    assert place.slot == 20
    assert place.addresses["lb-1"] == "127.20.1.1"
    assert place.addresses["app-3"] == "127.20.2.3"
    assert place.addresses["db-2"] == "127.20.3.2"
    assert {name: place.ports[name] for name in SERVICES} == {n: port for n, (_, port) in SERVICES.items()}
    assert place.ports["app-1"] == 10001
    assert (place.entry.https_port, place.entry.http_port) == (8443, 8080)
    assert place.notes == ()
    assert "users" not in place.addresses
    assert "dns-1" not in place.addresses
    assert load_place(tmp_path / "shop") == place
    assert (tmp_path / "shop" / "place.json").stat().st_mode & 0o777 == 0o600


def test_environments_of_one_home_don_t_share(tmp_path: Path, look: Look) -> None:  # noqa: ARG001
    one = settle(tmp_path / "one", tmp_path, production())
    two = settle(tmp_path / "two", tmp_path, production())
    again = settle(tmp_path / "one", tmp_path, production())
    assert (one.slot, two.slot) == (20, 21)
    assert again == one
    assert two.entry.https_port == 8444
    assert two.ports["app-1"] == 10101
    assert any("8444" in note and "another environment" in note for note in two.notes)
    assert settle(tmp_path / "two", tmp_path, production()).entry == two.entry


def test_a_removed_environment_gives_its_slot_back(tmp_path: Path, look: Look) -> None:  # noqa: ARG001
    settle(tmp_path / "one", tmp_path, production())
    (tmp_path / "one" / "place.json").unlink()
    assert settle(tmp_path / "two", tmp_path, production()).slot == 20


def test_slots_of_other_users_are_left_alone(tmp_path: Path, look: Look) -> None:
    look(held("127.20.255.254", CLAIM_PORT), held("127.21.3.1", 5432))
    assert settle(tmp_path / "one", tmp_path, production()).slot == 22


def test_a_stray_program_does_not_drive_us_from_our_slot(tmp_path: Path, look: Look) -> None:
    first = settle(tmp_path / "one", tmp_path, production())
    look(held("127.20.3.1", 5432, "pid 9 (postgres)"))
    second = settle(tmp_path / "one", tmp_path, production())
    assert second.slot == first.slot
    assert second.ports["postgresql"] == 5433
    assert "postgresql is on port 5433 instead of 5432: pid 9 (postgres)" in second.notes
    look()
    assert settle(tmp_path / "one", tmp_path, production()).ports["postgresql"] == 5433


def test_another_environment_on_our_slot_does(tmp_path: Path, look: Look) -> None:
    settle(tmp_path / "one", tmp_path, production())
    look(held("127.20.3.1", 5432), marked=True)
    moved = settle(tmp_path / "one", tmp_path, production())
    assert moved.slot == 21
    assert moved.ports["app-1"] == 10101
    assert "moved away" in moved.notes[0]


def test_wildcard_listener_takes_the_port_everywhere(tmp_path: Path, look: Look) -> None:
    look(held("0.0.0.0", 6379, "pid 5 (redis)"), held("::", 8443))
    place = settle(tmp_path / "one", tmp_path, production())
    assert place.ports["redis"] == 6380
    assert place.ports["route-cache"] == 6380
    assert place.entry.https_port == 8444


def test_asked_port_that_is_taken_names_its_holder(tmp_path: Path, look: Look) -> None:
    look(held("127.0.0.1", 9443, "pid 5 (nginx)"))
    with pytest.raises(AsbuiltError) as caught:
        settle(tmp_path / "one", tmp_path, production(load_balancer={"https_port": 9443}))
    assert caught.value.code == "LOCAL-011"
    assert "pid 5 (nginx)" in caught.value.what
    assert not (tmp_path / "one").exists()


def test_asked_port_is_not_kept_when_it_is_no_longer_asked(tmp_path: Path, look: Look) -> None:  # noqa: ARG001
    asked = production(load_balancer={"https_port": 9443})
    assert settle(tmp_path / "one", tmp_path, asked).entry.https_port == 9443
    assert settle(tmp_path / "one", tmp_path, production()).entry.https_port == 8443


def test_without_touch_nothing_is_written(tmp_path: Path, look: Look) -> None:  # noqa: ARG001
    home = tmp_path / "home"
    place = settle(home / "one", home, production(), touch=False)
    assert not home.exists()
    assert settle(home / "one", home, production()) == place


def test_without_load_balancer_the_app_is_the_entry(tmp_path: Path, look: Look) -> None:  # noqa: ARG001
    place = settle(tmp_path / "one", tmp_path, development())
    assert place.entry.https_port is None
    assert (place.entry.address, place.entry.http_port) == ("127.20.2.1", 10001)
    assert settle(tmp_path / "one", tmp_path, production()).entry.http_port == 8080


def test_taken_app_port_gets_a_spare_one(tmp_path: Path, look: Look) -> None:
    look(held("127.0.0.1", 10002))
    ports = settle(tmp_path / "one", tmp_path, production()).ports
    assert [ports[f"app-{n}"] for n in (1, 2, 3)] == [10001, 10099, 10003]


def test_seaweedfs_needs_the_grpc_port_as_well(tmp_path: Path, look: Look) -> None:
    look(held("0.0.0.0", 19333))
    assert settle(tmp_path / "one", tmp_path, production()).ports["seaweedfs-master"] == 9334


def test_numbers_past_254_roll_over_and_then_are_refused() -> None:
    assert render_address(30, Kind.APP, 254) == "127.30.2.254"
    assert render_address(30, Kind.APP, 255) == "127.30.18.1"
    addresses = {render_address(30, kind, n) for kind in (Kind.APP, Kind.DATABASE) for n in range(1, 3801)}
    assert len(addresses) == 7600
    assert not any(address.startswith("127.30.255.") for address in addresses)
    with pytest.raises(AsbuiltError) as caught:
        render_address(30, Kind.APP, 5000)
    assert caught.value.code == "LOCAL-012"


@pytest.mark.parametrize("slot", [20, 120, 220])
def test_app_ports_stay_below_outgoing_ones_and_differ(slot: int) -> None:
    base = production()
    apps = tuple(Node(f"app-{n}", Kind.APP, Zone.PRIVATE, n, "") for n in range(1, 301))
    many = replace(base, nodes=(*(n for n in base.nodes if n.kind != Kind.APP), *apps))
    ports = choose(many, slot, Before(), lambda *_: "").ports
    given = [ports[node.id] for node in apps]
    assert len(set(given)) == 300
    assert max(given) < 32768


def test_damaged_place_is_settled_anew(tmp_path: Path, look: Look) -> None:  # noqa: ARG001
    place = settle(tmp_path / "one", tmp_path, production())
    for text in ("", "{", "[]", '{"slot": "x"}'):
        (tmp_path / "one" / "place.json").write_text(text)
        assert load_place(tmp_path / "one") is None
        assert settle(tmp_path / "one", tmp_path, production()).addresses == place.addresses


def test_damaged_registry_is_no_obstacle(tmp_path: Path, look: Look) -> None:  # noqa: ARG001
    (tmp_path / "slots.json").write_text('{"20": 5, "x": "y"')
    assert settle(tmp_path / "one", tmp_path, production()).slot == 20
    assert json.loads((tmp_path / "slots.json").read_text()) == {"20": str(tmp_path / "one")}


def test_real_ground_tells_ours_from_others(tmp_path: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.205.3.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        ground = read_ground(tmp_path)
        assert f"pid {os.getpid()} " in ground.who_holds("127.205.3.1", port)
        assert ground.who_holds("127.205.3.2", port) == ""
        assert ground.who_holds("0.0.0.0", port)
        assert ground.who_uses(205)


TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0103147F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31 1 0 100 0 0 10 0
   1: 0103147F:1538 0100007F:8888 01 00000000:00000000 00:00000000 00000000  1000        0 32 1 0 100 0 0 10 0
"""
TABLE6 = """\
  sl  local_address                         remote_address                        st tx rx tr tm retrnsmt uid
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0 33 0 41 1 0
   1: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 0:0 0:0 0 33 0 42 1 0
"""


def test_both_ways_of_looking_see_the_same() -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.205.3.2", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        from_file = parse_listeners(Path("/proc/net/tcp").read_text())
        mine = [one for one in read_listeners() if one.port == port and one.host == "127.205.3.2"]
        assert mine == [one for one in from_file if one.port == port and one.host == "127.205.3.2"]
        assert len(mine) == 1


def test_listeners_are_parsed() -> None:
    assert parse_listeners(TABLE) == [Listener("127.20.3.1", 5432, 1000, 31)]
    assert parse_listeners(TABLE6) == [Listener("::", 8080, 33, 41), Listener("127.0.0.1", 8081, 33, 42)]
    assert on_port(parse_listeners(TABLE6), "127.9.9.9", 8080)
    assert not on_port(parse_listeners(TABLE6), "127.9.9.9", 8081)


def test_what_our_own_agent_took_after_the_look_is_nobody_elses() -> None:
    """`up` starts the agent while it looks; an environment must not move away from itself."""
    with socket.socket() as late:
        late.bind(("127.219.255.254", 0))
        late.listen()
        host, port = late.getsockname()
        assert Ground(is_own=lambda pid: pid == os.getpid()).who_holds(host, port) == ""
        assert Ground(is_own=lambda _: False).who_holds(host, port) == "another program"
