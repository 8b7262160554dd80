"""Talks to running cache nodes and sentinels: who is primary, planned switchover, a command line.

Invariant: a planned switchover loses no acknowledged write: writes pause until the replicas have everything.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from asbuilt.engines.redis.config import ADMIN, MONITOR, is_replicated
from asbuilt.engines.redis.resp import Client, ReplyError
from asbuilt.graph.model import Kind
from asbuilt.values.errors import AsbuiltError, RefusedError
from asbuilt.values.python import own_python

if TYPE_CHECKING:
    from asbuilt.graph.model import Architecture
    from asbuilt.plan.site import Site

_EVERY = 0.05
_PAUSE_MARGIN = 2.0


def find_primary(architecture: Architecture, site: Site) -> str | None:
    """The node that says it is primary; None when none or more than one does."""
    found = [node.id for node in architecture.of(Kind.CACHE) if _says(site, node.id).get("role") == "master"]
    return found[0] if len(found) == 1 else None


def switch_over(architecture: Architecture, site: Site, *, within: float = 10.0) -> str:
    """Make a replica primary without losing a write. Returns the new primary's node.

    Args:
        architecture: an environment with cache replicas.
        site: the place.
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
    with _admin(site, old) as primary:
        if int(primary.info("replication").get("connected_slaves", "0")) == 0:
            raise RefusedError("CACHE-001", "no replica of the cache is in step", where=old)
        if not _coordinated(architecture, site):
            _pause_and_fail_over(architecture, site, primary, deadline)
    while time.monotonic() < deadline:
        new = find_primary(architecture, site)
        if new is not None and new != old:
            return new
        time.sleep(_EVERY)
    raise AsbuiltError(
        "CACHE-003",
        f"{old} is still the primary of the cache after {within:g} s",
        hint="asbuilt logs shows what the sentinels say",
    )


def _coordinated(architecture: Architecture, site: Site) -> bool:
    """Let the sentinels ask the primary itself to hand over (Valkey 9); False where they do not know how."""
    try:
        _ask_sentinels(architecture, site, "SENTINEL", "FAILOVER", MONITOR, "COORDINATED")
    except ReplyError as error:
        if "wrong number" in str(error).lower() or "syntax" in str(error).lower():
            return False
        raise AsbuiltError("CACHE-002", f"the sentinels refused: {error}") from None
    return True


def _pause_and_fail_over(architecture: Architecture, site: Site, primary: Client, deadline: float) -> None:
    """The same for Redis 7: writes pause, the replicas catch up, then the sentinels promote one."""
    pause = max(0.0, deadline - time.monotonic()) + _PAUSE_MARGIN
    primary.ask("CLIENT", "PAUSE", str(int(pause * 1000)), "WRITE")
    try:
        while not _caught_up(primary.info("replication")):
            if time.monotonic() > deadline:
                raise _too_slow()
            time.sleep(_EVERY)
        _ask_sentinels(architecture, site, "SENTINEL", "FAILOVER", MONITOR)
    except ReplyError as error:
        primary.ask("CLIENT", "UNPAUSE")
        raise AsbuiltError("CACHE-002", f"the sentinels refused: {error}") from None
    except AsbuiltError:
        primary.ask("CLIENT", "UNPAUSE")
        raise


def _too_slow() -> AsbuiltError:
    return AsbuiltError(
        "CACHE-003",
        "the replicas of the cache did not catch up in time",
        hint="try again when there is less load",
    )


def _caught_up(said: dict[str, str]) -> bool:
    offset = said.get("master_repl_offset", "")
    replicas = [value for name, value in said.items() if name.startswith("slave") and name[5:].isdigit()]
    return bool(replicas) and all(f"offset={offset}," in value for value in replicas)


def _ask_sentinels(architecture: Architecture, site: Site, *words: str) -> None:
    """One sentinel that answers does it; ReplyError is its refusal."""
    for node in architecture.of(Kind.CACHE):
        host, port = site.addresses[node.id], site.ports["sentinel"]
        try:
            with Client(host, port, site.secret("cache.sentinel").reveal()) as client:
                client.ask(*words)
        except OSError:
            continue
        return
    raise AsbuiltError("CACHE-002", "no sentinel answers", hint="asbuilt status says which run")


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
