"""Which addresses and ports the nodes of an environment get: pure, from the graph and the facts.

Every engine keeps its standard port on its node's own address, unless another program holds it there or on
the wildcard address. App instances get ports that nobody else has on any address, because many apps listen on
all of them. Invariant: what was given once stays as long as it is free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from asbuilt.graph import services
from asbuilt.graph.model import Architecture, Kind, Node
from asbuilt.targets.local.claims import ENTRY_CLAIM
from asbuilt.targets.local.listeners import WILDCARDS
from asbuilt.values.errors import AsbuiltError

FIRST_SLOT = 20
LAST_SLOT = 220

_TIERS = {
    Kind.LOAD_BALANCER: 1,
    Kind.APP: 2,
    Kind.DATABASE: 3,
    Kind.CACHE: 4,
    Kind.CONSENSUS: 5,
    Kind.OBJECTS: 6,
    Kind.FILES: 7,
    Kind.MOCK: 8,
    Kind.DNS: 9,
    Kind.CDN: 10,
    Kind.WAF: 11,
    Kind.BACKUP: 12,
}
_NODES_IN_OCTET = 254
_TIER_STEP = 16
_LAST_OCTET = 254

_OFFERS: Mapping[str, Kind] = {
    "postgresql": Kind.DATABASE,
    "patroni": Kind.DATABASE,
    "redis": Kind.CACHE,
    "sentinel": Kind.CACHE,
    "etcd": Kind.CONSENSUS,
    "etcd-peer": Kind.CONSENSUS,
    "etcd-metrics": Kind.CONSENSUS,
    "s3": Kind.OBJECTS,
    "seaweedfs-master": Kind.OBJECTS,
    "seaweedfs-volume": Kind.OBJECTS,
    "seaweedfs-filer": Kind.OBJECTS,
    "route-primary": Kind.LOAD_BALANCER,
    "route-replica": Kind.LOAD_BALANCER,
    "route-cache": Kind.LOAD_BALANCER,
    "haproxy-stats": Kind.LOAD_BALANCER,
}
SERVICES = {name: (kind, services.SERVICES[name].port) for name, kind in _OFFERS.items()}
"""Standard port of each service, and the nodes that offer it."""

_WITH_GRPC = frozenset({"s3", "seaweedfs-master", "seaweedfs-volume", "seaweedfs-filer"})
_GRPC_OFFSET = 10_000
_ALTERNATIVES = 200
_APP_BLOCK = 100
_APP_BASE = 10_000
_APP_OVERFLOW = range(30_100, 32_768)
"""Past the last block, and below the ports that the kernel gives to outgoing connections."""
_DEFAULT_HTTPS = 8443
_DEFAULT_HTTP = 8080

WhoHolds = Callable[[str, int], str]
"""Words on who else is in the way of host and port; empty when nobody is."""


def is_placed(node: Node) -> bool:
    """Whether a node gets an address: it is realized and is not the users."""
    return node.supported and node.kind in _TIERS


def render_address(slot: int, kind: Kind, number: int) -> str:
    """127.E.T.N; past 254 nodes of a kind the third number goes on at T+16, T+32, ...

    Raises AsbuiltError LOCAL-012 when there are more than that holds (about 3,800).
    """
    octet = _TIERS[kind] + _TIER_STEP * ((number - 1) // _NODES_IN_OCTET)
    if octet > _LAST_OCTET:
        raise AsbuiltError(
            "LOCAL-012",
            f"{number} nodes of kind {kind} do not fit on one machine",
            hint=f"the local target has addresses for {_most(kind)}",
        )
    return f"127.{slot}.{octet}.{(number - 1) % _NODES_IN_OCTET + 1}"


def _most(kind: Kind) -> int:
    return ((_LAST_OCTET - _TIERS[kind]) // _TIER_STEP + 1) * _NODES_IN_OCTET


@dataclass(frozen=True, slots=True)
class Before:
    """What was given the last time, and what other environments of this user have."""

    ports: Mapping[str, int] = field(default_factory=dict)
    entry: Mapping[str, int] = field(default_factory=dict)
    elsewhere: frozenset[int] = frozenset()


@dataclass
class Chosen:
    """What is given."""

    addresses: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    https: int | None = None
    http: int | None = None
    asked: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def choose(architecture: Architecture, slot: int, before: Before, who_holds: WhoHolds) -> Chosen:
    """Addresses and ports of every placed node.

    Raises AsbuiltError LOCAL-011 (a port that the spec asks for is taken), LOCAL-012, LOCAL-014 (none free).
    """
    chosen = Chosen()
    for node in architecture.nodes:
        if is_placed(node):
            chosen.addresses[node.id] = render_address(slot, node.kind, node.number)
    _choose_entry(architecture, before, who_holds, chosen)
    _choose_services(architecture, before, who_holds, chosen)
    _choose_app_ports(architecture, slot, before, who_holds, chosen)
    return chosen


def _choose_entry(architecture: Architecture, before: Before, who_holds: WhoHolds, chosen: Chosen) -> None:
    balancer = architecture.spec.load_balancer
    if balancer is None:
        return
    wishes = {"https": (balancer.https_port, _DEFAULT_HTTPS), "http": (balancer.http_port, _DEFAULT_HTTP)}
    given: dict[str, int] = {}
    used = {wish for wish, _ in wishes.values() if wish is not None}
    for name, (wish, default) in wishes.items():
        if wish is not None:
            _refuse_taken(balancer.address, wish, name, who_holds)
            given[name] = wish
            continue
        usual = [before.entry[name]] if name in before.entry else []
        fresh = (p for p in range(default, default + _ALTERNATIVES) if p not in before.elsewhere)
        port = _first_free((*usual, *fresh), (balancer.address, ENTRY_CLAIM), who_holds, used, name)
        expected = usual[0] if usual else default
        if port != expected:
            holder = who_holds(balancer.address, expected) or who_holds(ENTRY_CLAIM, expected)
            holder = holder or "another environment"
            chosen.notes.append(f"{name} is on port {port}: {holder} has {expected}")
        used.add(port)
        given[name] = port
    chosen.https, chosen.http = given["https"], given["http"]
    chosen.asked = tuple(name for name, (wish, _) in wishes.items() if wish is not None)


def _refuse_taken(host: str, port: int, name: str, who_holds: WhoHolds) -> None:
    holder = who_holds(host, port) or who_holds(ENTRY_CLAIM, port)
    if holder:
        raise AsbuiltError(
            "LOCAL-011",
            f"port {port}, which the spec wants for {name}, is taken by {holder}",
            where=f"{host}:{port}",
            hint=f"end that program, or choose another load_balancer.{name}_port",
        )


def _first_free(
    candidates: Iterable[int], hosts: Iterable[str], who_holds: WhoHolds, used: set[int], name: str
) -> int:
    places = tuple(hosts)
    for port in candidates:
        if port not in used and not any(who_holds(host, port) for host in places):
            return port
    raise AsbuiltError(
        "LOCAL-014",
        f"no free port for {name}",
        hint="end some of the programs that listen on this machine (ss -ltnp shows them)",
    )


def _choose_services(architecture: Architecture, before: Before, who_holds: WhoHolds, chosen: Chosen) -> None:
    everywhere = set()
    if architecture.spec.load_balancer and architecture.spec.load_balancer.address in WILDCARDS:
        everywhere = {port for port in (chosen.https, chosen.http) if port is not None}
    used: dict[Kind, set[int]] = {}
    for name, (kind, standard) in SERVICES.items():
        hosts = [chosen.addresses[node.id] for node in architecture.of(kind) if node.id in chosen.addresses]
        taken = used.setdefault(kind, set())

        def holder(host: str, port: int, *, grpc: bool = name in _WITH_GRPC) -> str:
            return who_holds(host, port) or (who_holds(host, port + _GRPC_OFFSET) if grpc else "")

        usual = [before.ports[name]] if name in before.ports else []
        alternatives = range(standard, standard + _ALTERNATIVES)
        port = _first_free((*usual, *alternatives), hosts, holder, taken | everywhere, name)
        if port != standard:
            why = next((words for host in hosts if (words := holder(host, standard))), "it was taken before")
            chosen.notes.append(f"{name} is on port {port} instead of {standard}: {why}")
        taken.add(port)
        chosen.ports[name] = port


def _choose_app_ports(
    architecture: Architecture, slot: int, before: Before, who_holds: WhoHolds, chosen: Chosen
) -> None:
    apps = [node for node in architecture.of(Kind.APP) if node.id in chosen.addresses]
    base = _APP_BASE + (slot - FIRST_SLOT) * _APP_BLOCK
    meant = {node.id: base + node.number for node in apps if node.number < _APP_BLOCK}
    given: set[int] = set()
    for node in apps:
        reserved = (set(meant.values()) - {meant.get(node.id)}) | given | before.elsewhere
        had = before.ports.get(node.id)
        if had is not None and had not in given and not who_holds(chosen.addresses[node.id], had):
            # what runs is not moved because somebody took the same port elsewhere
            given.add(had)
            chosen.ports[node.id] = had
            continue
        first = [port for port in (meant.get(node.id),) if port is not None]
        spare = (base + number for number in range(_APP_BLOCK - 1, 0, -1))
        candidates = (*first, *(p for p in (*spare, *_APP_OVERFLOW) if p not in reserved))
        port = _first_free(candidates, ("0.0.0.0",), who_holds, given, node.id)  # noqa: S104 - asked, not bound
        given.add(port)
        chosen.ports[node.id] = port
