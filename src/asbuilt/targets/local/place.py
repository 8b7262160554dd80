"""The environment's place on this machine: settled once, kept as long as it can be.

Everything of an environment is at 127.E.*.*; E is its slot. Which slots are taken is known from three sides:
the record of this user's environments, the socket that each living agent holds, and the ports of engines
whose agent is dead. Invariant: place.json is written whole before anything is started at these addresses.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asbuilt.graph.model import Architecture, Kind
from asbuilt.plan.site import Entry
from asbuilt.targets.local.files import read_json, write_atomically
from asbuilt.targets.local.ground import Ground, read_ground
from asbuilt.targets.local.names import Paths
from asbuilt.targets.local.ports import FIRST_SLOT, LAST_SLOT, Before, Chosen, choose
from asbuilt.values.errors import AsbuiltError


@dataclass(frozen=True, slots=True)
class Place:
    """Addresses and ports of one environment.

    Args:
        slot: E of 127.E.T.N.
        addresses: of each realized node.
        ports: by service name, as `Site.ports`.
        entry: the public way in; without a load balancer the first app server's own port.
        notes: what the owner should know (a port that is not the usual one).
    """

    slot: int
    addresses: Mapping[str, str]
    ports: Mapping[str, int]
    entry: Entry
    notes: tuple[str, ...] = ()


def load_place(root: Path) -> Place | None:
    """The place that was settled, or None. Reads only."""
    raw = read_json(Paths(root).place)
    try:
        if raw is None:
            return None
        entry = Entry(raw["entry"]["address"], raw["entry"]["https_port"], raw["entry"]["http_port"])
        return Place(int(raw["slot"]), dict(raw["addresses"]), dict(raw["ports"]), entry, tuple(raw["notes"]))
    except (KeyError, TypeError, ValueError):
        return None


def settle(root: Path, home: Path, architecture: Architecture, *, touch: bool = True) -> Place:
    """Find or keep the place of the environment in `root`, one of those in `home`.

    With `touch` False nothing is written: the answer is what `touch` would settle on now.

    Raises AsbuiltError LOCAL-010 (no slot free), LOCAL-011 (a port that the spec asks for is taken; names who
    holds it), LOCAL-012 (too many nodes), LOCAL-014 (no port free), LOCAL-024 (cannot write).
    """
    try:
        with _registry(home, touch=touch) as slots:
            ground = read_ground(root)
            before = read_json(Paths(root).place) or {}
            others = _others(slots, Paths(root).root)
            slot, notes = _choose_slot(before.get("slot"), {place["slot"] for place in others}, ground)
            chosen = choose(architecture, slot, _before(before, slot, others), ground.who_holds)
            chosen.notes[:0] = notes
            place = _build(architecture, slot, chosen)
            if touch:
                slots[str(slot)] = str(Paths(root).root)
                _keep(Paths(root), place, chosen.asked)
    except OSError as error:
        raise AsbuiltError(
            "LOCAL-024",
            f"cannot write the environment's place: {error.strerror}",
            where=str(error.filename or root),
            hint="free some space, or make the folder writable",
        ) from None
    return place


def _before(raw: Mapping[str, Any], slot: int, others: list[dict[str, Any]]) -> Before:
    elsewhere: set[int] = set()
    for other in others:
        elsewhere |= {port for port in other.get("entry", {}).values() if isinstance(port, int)}
        elsewhere |= {port for name, port in other.get("ports", {}).items() if name in other["addresses"]}
    if not raw:
        return Before(elsewhere=frozenset(elsewhere))
    entry = raw.get("entry", {})
    usual = {
        name: entry[f"{name}_port"]
        for name in ("https", "http")
        if isinstance(entry.get(f"{name}_port"), int) and name not in raw.get("asked", ())
    }
    if "lb-1" not in raw.get("addresses", {}):
        usual = {}  # it was the app's own port
    # after a move the app's ports belong to another block
    ports = {
        name: port
        for name, port in raw.get("ports", {}).items()
        if raw.get("slot") == slot or name not in raw.get("addresses", {})
    }
    return Before(ports, usual, frozenset(elsewhere))


def _build(architecture: Architecture, slot: int, chosen: Chosen) -> Place:
    balancer = architecture.spec.load_balancer
    if balancer is not None:
        entry = Entry(balancer.address, chosen.https, chosen.http)
    else:
        first = architecture.of(Kind.APP)[0].id
        entry = Entry(chosen.addresses[first], None, chosen.ports[first])
    return Place(slot, chosen.addresses, chosen.ports, entry, tuple(chosen.notes))


def _keep(paths: Paths, place: Place, asked: tuple[str, ...]) -> None:
    entry = place.entry
    state = {
        "schema": 1,
        "slot": place.slot,
        "addresses": dict(place.addresses),
        "ports": dict(place.ports),
        "entry": {
            "address": entry.address,
            "https_port": entry.https_port,
            "http_port": entry.http_port,
        },
        "asked": list(asked),
        "notes": list(place.notes),
    }
    text = json.dumps(state, indent=1) + "\n"
    paths.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not paths.place.exists() or paths.place.read_text() != text:
        write_atomically(paths.place, text, durable=True)


@contextmanager
def _registry(home: Path, *, touch: bool) -> Iterator[dict[str, str]]:
    """Environment folder by slot, of this user; written back at the end when `touch`."""
    file = home / "slots.json"
    if not touch:
        yield _read_slots(file)
        return
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home / "slots.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        slots = _read_slots(file)
        before = dict(slots)
        yield slots
        if slots != before:
            write_atomically(file, json.dumps(slots, indent=1) + "\n", durable=True)
    finally:
        os.close(descriptor)


def _read_slots(file: Path) -> dict[str, str]:
    raw = read_json(file) or {}
    return {slot: root for slot, root in raw.items() if slot.isdigit() and isinstance(root, str)}


def _others(slots: dict[str, str], root: Path) -> list[dict[str, Any]]:
    """The places of this user's other environments; entries whose folder is gone or moved are dropped."""
    found = []
    for slot, folder in sorted(slots.items()):
        place = read_json(Path(folder) / "place.json")
        if place is None or str(place.get("slot")) != slot or not isinstance(place.get("addresses"), dict):
            del slots[slot]
        elif Path(folder) != root:
            found.append(place)
    return found


def _choose_slot(recorded: object, taken: set[int], ground: Ground) -> tuple[int, list[str]]:
    notes: list[str] = []
    if isinstance(recorded, int) and recorded not in taken:
        holder = ground.who_claims(recorded)
        if not holder:
            return recorded, notes
        notes.append(f"moved away from the addresses 127.{recorded}.*.*: {holder} has them")
    for slot in range(FIRST_SLOT, LAST_SLOT + 1):
        if slot not in taken and not ground.who_uses(slot):
            return slot, notes
    raise AsbuiltError(
        "LOCAL-010",
        f"no free addresses: 127.{FIRST_SLOT}.*.* to 127.{LAST_SLOT}.*.* are all taken",
        hint="take environments down that are not needed: asbuilt down ENV",
    )
