"""Talks to running cache nodes and sentinels: who is primary, planned switchover, a command line.

Invariant: a planned switchover loses no acknowledged write: writes pause until the replica has everything,
and the sentinels are told at once, because they would take back a change that they did not make.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from asbuilt.engines.redis.config import ADMIN, describe_members, is_replicated
from asbuilt.engines.redis.members import Members, parse_members
from asbuilt.engines.redis.resp import Client, ReplyError
from asbuilt.engines.redis.succession import (
    NotNowError,
    announce,
    ask_opinions,
    ask_role,
    confirm,
    gather_behind,
    win_votes,
)
from asbuilt.graph.model import Kind
from asbuilt.values.errors import AsbuiltError, RefusedError
from asbuilt.values.python import own_python

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture
    from asbuilt.plan.site import Site

_EVERY = 0.1
_SOON = 0.005
"""The sentinels should be told as soon as the roles have changed."""
_LONGEST_PAUSE = 3.0
"""Seconds that writes may wait for a replica: it is behind by milliseconds, or not to be taken."""
_TOLD_WITHIN = 20.0
"""Seconds in which the sentinels have to be told: after 30 they take the change back. They may restart."""


def find_primary(architecture: Architecture, site: Site) -> str | None:
    """The node that says it is primary; None when none or more than one does."""
    found = [node.id for node in architecture.of(Kind.CACHE) if _says(site, node.id).get("role") == "master"]
    return found[0] if len(found) == 1 else None


def switch_over(
    architecture: Architecture, site: Site, *, to: str | None = None, within: float = 10.0
) -> str:
    """Make a replica primary without losing a write. Returns the new primary's node.

    The primary hands over itself: it holds back writes until the replica has everything, then follows it.

    Args:
        architecture: an environment with cache replicas.
        site: the place.
        to: who shall lead; by default the replica that has most.
        within: seconds until it must be over.

    Raises:
        RefusedError: CACHE-001 when there is no primary, or no replica in step.
        AsbuiltError: CACHE-002 when the sentinels refuse, CACHE-003 when nothing came of it in time.
    """
    old = find_primary(architecture, site) if is_replicated(architecture) else None
    if old is None:
        raise RefusedError(
            "CACHE-001", "there is no cache to switch over: it has no replicas, or no primary now"
        )
    deadline = time.monotonic() + within
    members = parse_members(describe_members(architecture, site))
    try:
        with members.server(old) as primary:
            new = _choose_replica(members, primary.info("replication"), to)
            if new is None:
                words = f"{to} is not in step" if to else "no replica of the cache is in step"
                raise RefusedError("CACHE-001", words, where=old)
            epoch = _ask_votes(members, old, deadline)
            _hand_over(members, primary, old, new, deadline)
    except (OSError, ReplyError) as error:
        raise AsbuiltError("CACHE-003", f"{old} did not hand over: {error}", where=old) from None
    announce(members, new, epoch)
    gather_behind(members, new)
    deadline = max(deadline, time.monotonic() + _TOLD_WITHIN)
    while not confirm(members, new):
        if time.monotonic() > deadline:
            raise AsbuiltError(
                "CACHE-003",
                f"{new} is the primary of the cache now, but not every sentinel knows it",
                hint="run it again: asbuilt logs shows what the sentinels say",
            )
        time.sleep(_EVERY)
    return new


def _choose_replica(members: Members, said: dict[str, str], wanted: str | None = None) -> str | None:
    """The replica in step that has the most; `said` is the primary's INFO."""
    found: list[tuple[int, str]] = []
    for name, value in said.items():
        if name.startswith("slave") and name[5:].isdigit():
            fields = dict(part.partition("=")[::2] for part in value.split(","))
            node = members.at(fields.get("ip", ""))
            if node is not None and fields.get("state") == "online" and wanted in {None, node}:
                found.append((int(fields.get("offset", "0")), node))
    return max(found)[1] if found else None


def _ask_votes(members: Members, old: str, deadline: float) -> int:
    while True:
        try:
            if confirm(members, old):
                return win_votes(members, ask_opinions(members))
            why = "the sentinels do not agree on who is primary"
        except NotNowError as error:
            why = str(error)
        if time.monotonic() > deadline:
            raise AsbuiltError("CACHE-002", why, hint="asbuilt status says which sentinels run")
        time.sleep(_EVERY)


def _hand_over(members: Members, primary: Client, old: str, new: str, deadline: float) -> None:
    """Writes wait meanwhile; when the replica does not catch up in time they go on as before."""
    target = members.members[new]
    limit = max(0.5, min(_LONGEST_PAUSE, deadline - time.monotonic()))
    primary.ask("FAILOVER", "TO", target.host, str(target.port), "TIMEOUT", str(int(limit * 1000)))
    # the old one says that it follows before the new one has agreed to be followed
    while ask_role(members, new) != "master":
        said = primary.info("replication")
        if (said.get("role"), said.get("master_failover_state")) == ("master", "no-failover"):
            raise AsbuiltError(
                "CACHE-003",
                f"{new} did not catch up with {old} in time; {old} is still the primary",
                hint="try again when there is less load",
            )
        if time.monotonic() > deadline + _LONGEST_PAUSE:
            primary.ask("FAILOVER", "ABORT")
        time.sleep(_SOON)


def _says(site: Site, node: str) -> dict[str, str]:
    try:
        with _admin(site, node) as client:
            return client.info("replication")
    except (OSError, ReplyError):
        return {}


def _admin(site: Site, node: str) -> Client:
    password = site.secret("cache.admin").reveal()
    return Client(site.addresses[node], site.ports["redis"], password, ADMIN)


def render_connect(architecture: Architecture, site: Site) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command line client for a person: its words, and the environment that holds the password.

    `redis-cli` where it is installed, else our own small one; both connect as the app does.
    """
    password = site.secret("cache.password").reveal()
    balancers = architecture.of(Kind.LOAD_BALANCER)
    if is_replicated(architecture) and balancers:
        host, port = site.addresses[balancers[0].id], site.ports["route-cache"]
    else:
        host, port = site.addresses[architecture.of(Kind.CACHE)[0].id], site.ports["redis"]
    cli = site.tools["redis"].programs.get("redis-cli")
    words = (cli,) if cli else (own_python(), "-P", "-m", "asbuilt.engines.redis.cli")
    return (*words, "-h", host, "-p", str(port)), {"REDISCLI_AUTH": password}
