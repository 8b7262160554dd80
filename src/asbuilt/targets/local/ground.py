"""What other programs hold on this machine: the facts that `place` decides by.

Invariant: what belongs to the environment itself (its agent, its engines, even when the agent is dead) is
never taken for somebody else's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from asbuilt.targets.local.listeners import (
    WILDCARDS,
    Listener,
    describe,
    find_holders,
    is_free,
    on_port,
    read_listeners,
)
from asbuilt.targets.local.names import CLAIM_PORT, Paths, claim_address, root_hash
from asbuilt.targets.local.process import is_below, read_cwd, read_marker


@dataclass
class Ground:
    """The listening sockets of the machine, sorted into ours and others'.

    Args:
        foreign: sockets of others, with words on who holds each.
        own: sockets of this environment.
        marked: those of `foreign` that belong to another environment or another user, as far as one can see.
        bind: also try to bind a port on which nobody listens (off in pure tests).
        is_own: whether a process belongs to this environment.
    """

    foreign: dict[Listener, str] = field(default_factory=dict)
    own: tuple[Listener, ...] = ()
    marked: frozenset[Listener] = frozenset()
    bind: bool = True
    is_own: Callable[[int], bool] = field(default=lambda _: False)

    def who_holds(self, host: str, port: int) -> str:
        """Words on who else is in the way of `host:port`; empty when nobody is."""
        for one in on_port(self.foreign, host, port):
            return self.foreign[one]
        if on_port(self.own, host, port) or not self.bind or is_free(host, port):
            return ""
        # somebody came after the look at the machine: our own agent may have, which starts meanwhile
        here = on_port(read_listeners(), host, port)
        holders = find_holders({one.inode for one in here})
        if here and all(any(map(self.is_own, holders[one.inode])) for one in here):
            return ""
        return "another program"

    def who_claims(self, slot: int) -> str:
        """Words on who else has taken slot `slot` for an environment; empty when nobody has."""
        claimed = self.who_holds(claim_address(slot), CLAIM_PORT)
        return claimed or next((self.foreign[one] for one in self._within(slot) if one in self.marked), "")

    def who_uses(self, slot: int) -> str:
        """Words on anybody else on any address of slot `slot`; empty when nobody is there."""
        return self.who_claims(slot) or next((self.foreign[one] for one in self._within(slot)), "")

    def _within(self, slot: int) -> list[Listener]:
        return [one for one in self.foreign if one.host.startswith(f"127.{slot}.")]


def _is_agent(pid: int, root: str) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"asbuilt.targets.local.agent" in words and os.fsencode(root) in words
    return False


def read_ground(root: Path) -> Ground:
    """Look at the machine for the environment in `root`."""
    paths = Paths(root)
    prefix = root_hash(root) + "/"
    nodes = str(paths.root / "nodes")

    def is_own(pid: int) -> bool:
        marker = read_marker(pid)
        if marker is not None:
            return marker.startswith(prefix)
        return is_below(read_cwd(pid), nodes) or _is_agent(pid, str(paths.root))

    table = read_listeners()
    holders = find_holders({one.inode for one in table})
    verdicts = {pid: is_own(pid) for pids in holders.values() for pid in pids}
    foreign: dict[Listener, str] = {}
    own: list[Listener] = []
    marked: set[Listener] = set()
    for one in table:
        pids = holders[one.inode]
        if any(verdicts[pid] for pid in pids):
            own.append(one)
            continue
        foreign[one] = describe(one, pids)
        unseen = not pids and one.uid != os.geteuid()
        if one.host not in WILDCARDS and (unseen or any(read_marker(pid) for pid in pids)):
            marked.add(one)
    return Ground(foreign, tuple(own), frozenset(marked), is_own=is_own)
