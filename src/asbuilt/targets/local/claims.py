"""What an agent holds, so that others see that a place is taken before its engines run.

Invariant: a claim is a listening socket on loopback that nobody connects to; it ends with the agent.
"""

from __future__ import annotations

from typing import Any, Final

from asbuilt.targets.local.listeners import WILDCARDS
from asbuilt.targets.local.names import CLAIM_PORT, claim_address
from asbuilt.values.errors import AsbuiltError

ENTRY_CLAIM: Final = "127.255.255.253"
"""Address at which the ports of public entries are held."""


def read_claims(place: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """The sockets that say that a place is taken: of its slot, and of the ports of its entry."""
    slot, entry = place.get("slot"), place.get("entry")
    if not isinstance(slot, int):
        return ()
    own = (claim_address(slot), CLAIM_PORT)
    # without a balancer the way in is an app server's own port; one that is bound to every address would meet
    # the claim itself
    if not isinstance(entry, dict) or "lb-1" not in (place.get("addresses") or {}):
        return (own,)
    if entry.get("address") in WILDCARDS:
        return (own,)
    ports = (entry.get(name) for name in ("https_port", "http_port"))
    return (own, *((ENTRY_CLAIM, port) for port in ports if isinstance(port, int)))


def taken_error(words: str) -> AsbuiltError:
    """Somebody else was quicker."""
    what = f"the addresses or ports of this environment are taken: {words}"
    return AsbuiltError("LOCAL-013", what, hint="run the command again: it takes others")
