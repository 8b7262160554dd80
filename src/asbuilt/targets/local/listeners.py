"""Who listens where, as the kernel tells.

Invariant: reading only; a port is never opened to find out who holds it, but for `is_free`.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.targets.local.process import all_pids, read_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_LISTEN = "0A"
_V4_LENGTH = 8
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_TCP_LISTEN = 10
WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to recognise it, not to bind it


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket."""

    host: str
    port: int
    uid: int
    inode: int


def _address(text: str) -> str:
    raw = bytes.fromhex(text)
    if len(text) == _V4_LENGTH:
        return str(IPv4Address(raw[::-1]))
    swapped = b"".join(raw[i : i + 4][::-1] for i in range(0, 16, 4))
    address = IPv6Address(swapped)
    return str(address.ipv4_mapped or address)


def parse_listeners(text: str) -> list[Listener]:
    """The listening sockets of one /proc/net/tcp or tcp6."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 9 and words[3] == _LISTEN:  # noqa: PLR2004 - the inode is the tenth column
            host, _, port = words[1].partition(":")
            found.append(Listener(_address(host), int(port, 16), int(words[7]), int(words[9])))
    return found


def read_listeners() -> list[Listener]:
    """Every listening TCP socket of this network namespace.

    Asked of the kernel's socket diagnosis, which walks only the listening ones: with ten thousand connections
    open, /proc/net/tcp takes 10 ms and more. It is the second choice, for kernels built without the first.
    """
    try:
        return [one for family in (socket.AF_INET, socket.AF_INET6) for one in _diagnose(family)]
    except OSError:
        pass
    found = []
    for name in ("tcp", "tcp6"):
        try:
            found += parse_listeners(Path(f"/proc/net/{name}").read_text())
        except OSError:  # a kernel without IPv6
            continue
    return found


def _diagnose(family: socket.AddressFamily) -> list[Listener]:
    """Ask by netlink; raises OSError where that is not possible."""
    question = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 0, 0, 1 << _TCP_LISTEN)
    header = struct.pack("=IHHII", 16 + len(question), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    found: list[Listener] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as sock:
        sock.settimeout(2.0)
        sock.sendto(header + question, (0, 0))
        while True:
            finished, part = parse_diagnosis(sock.recv(65536))
            found += part
            if finished:
                return found


def parse_diagnosis(data: bytes) -> tuple[bool, list[Listener]]:
    """One netlink datagram: whether it was the last, and its sockets. Raises OSError for a refusal."""
    found: list[Listener] = []
    offset = 0
    while offset + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        if kind == _NLMSG_DONE:
            return True, found
        if kind == _NLMSG_ERROR:
            raise OSError(-struct.unpack_from("=i", data, offset + 16)[0], "socket diagnosis refused")
        body = offset + 16
        family = data[body]
        port = struct.unpack_from("!H", data, body + 4)[0]
        source = data[body + 8 : body + 24]
        address = IPv4Address(source[:4]) if family == socket.AF_INET else IPv6Address(source)
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        uid, inode = struct.unpack_from("=II", data, body + 64)
        found.append(Listener(str(address), port, uid, inode))
        offset += (length + 3) & ~3
    return False, found


def on_port(listeners: Iterable[Listener], host: str, port: int) -> list[Listener]:
    """Those that get in the way of `host:port`: the same address or a wildcard (any, when host is one)."""
    return [
        one
        for one in listeners
        if one.port == port and (one.host == host or one.host in WILDCARDS or host in WILDCARDS)
    ]


def read_inodes(pid: int) -> set[int]:
    """Inodes of the sockets that a process has open; empty when we may not see them."""
    found = set()
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                try:
                    target = os.readlink(entry.path)  # noqa: PTH115 - hot path
                except OSError:
                    continue
                if target.startswith("socket:["):
                    found.add(int(target[8:-1]))
    except OSError:
        pass
    return found


def find_holders(inodes: set[int], pids: Iterable[int] | None = None) -> dict[int, list[int]]:
    """Pids that hold each of these sockets, as far as we may see."""
    found: dict[int, list[int]] = {inode: [] for inode in inodes}
    for pid in all_pids() if pids is None else pids:
        for inode in read_inodes(pid) & inodes:
            found[inode].append(pid)
    return found


def describe(listener: Listener, pids: Sequence[int]) -> str:
    """Words for the holder of a socket."""
    if pids:
        process = read_process(min(pids))
        return f"pid {min(pids)} ({process.name if process else 'gone'})"
    return f"a process of user id {listener.uid}"


def describe_holder(host: str, port: int, besides: Callable[[int], bool] = lambda _: False) -> str:
    """Who holds `host:port`, in words, leaving out pids for which `besides` is true; empty for nobody."""
    held = on_port(read_listeners(), host, port)
    holders = find_holders({one.inode for one in held}) if held else {}
    for one in held:
        pids = holders[one.inode]
        if not any(besides(pid) for pid in pids):
            return describe(one, pids)
    return ""


def is_free(host: str, port: int) -> bool:
    """Whether `host:port` can be bound alone. Old connections that linger don't count, listeners do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
