"""Which app servers there are, which release each runs, and which release gets which part of the traffic.

Pure. Every release, roll-back and scaling is a walk from one fleet to the next; the planner makes the steps
of each move. Invariants: a server keeps its number while it lives; the fleet on record is what is wanted
next, so whoever finds it can go on from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

WHOLE: Final = 10_000
"""All requests: shares are counted in ten-thousandths."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The app servers.

    Args:
        servers: release id by server number; the server's node is `app-NUMBER`.
        stable: the release that takes what the candidate does not.
        candidate: a second release, kept apart from the first by the load balancer; None for none.
        share: ten-thousandths of the traffic that go to the candidate.
        sticky: a user stays with the release that answered first, until the share passes by.
    """

    servers: Mapping[int, str]
    stable: str
    candidate: str | None = None
    share: int = 0
    sticky: bool = False

    @property
    def releases(self) -> tuple[str, ...]:
        """Every release that a server runs or that is named, each once: stable, candidate, others."""
        named = (self.stable, *([self.candidate] if self.candidate else []))
        return tuple(dict.fromkeys((*named, *(self.servers[number] for number in sorted(self.servers)))))

    def running(self, release: str) -> tuple[int, ...]:
        """Numbers of the servers that run `release`, ascending."""
        return tuple(sorted(number for number, one in self.servers.items() if one == release))

    def find_replaced(self, after: Fleet) -> tuple[int, ...]:
        """Numbers of the servers that are in both fleets and run another release in the later, ascending."""
        both = sorted(self.servers.keys() & after.servers.keys())
        return tuple(number for number in both if self.servers[number] != after.servers[number])

    def is_candidate(self, number: int) -> bool:
        """Whether a server belongs to the candidate."""
        return self.candidate is not None and self.servers[number] == self.candidate

    def with_servers(self, changes: Mapping[int, str]) -> Fleet:
        """The same with these servers added or changed."""
        return replace(self, servers={**self.servers, **changes})

    def without(self, numbers: tuple[int, ...]) -> Fleet:
        """The same without these servers."""
        return replace(self, servers={n: one for n, one in self.servers.items() if n not in numbers})

    def spare(self, count: int) -> tuple[int, ...]:
        """The `count` lowest numbers that no server has."""
        found: list[int] = []
        number = 1
        while len(found) < count:
            if number not in self.servers:
                found.append(number)
            number += 1
        return tuple(found)


def settle(before: Fleet | None, count: int, release: str) -> Fleet:
    """`count` servers that run `release`, and nothing on trial.

    Servers of the release before keep their numbers and change release, the highest numbers leave. Where the
    release serves already, a warm one beside it stays.
    """
    if before is None:
        before = Fleet({}, release)
    warm: dict[int, str] = {}
    if before.stable == release and before.candidate is not None and not before.share:
        warm = dict.fromkeys(before.running(before.candidate), before.candidate)
    serving = before.running(before.stable)
    others = (number for number in sorted(before.servers) if number not in {*serving, *warm})
    kept = dict.fromkeys((*serving, *others)[:count], release)
    fleet = Fleet({**kept, **warm}, release, before.candidate if warm else None)
    return fleet.with_servers(dict.fromkeys(fleet.spare(count - len(kept)), release))


def to_json(fleet: Fleet) -> str:
    """The fleet as text to keep."""
    return json.dumps(
        {
            "schema": 1,
            "servers": {str(number): one for number, one in sorted(fleet.servers.items())},
            "stable": fleet.stable,
            "candidate": fleet.candidate,
            "share": fleet.share,
            "sticky": fleet.sticky,
        }
    )


def from_json(text: str | None) -> Fleet | None:
    """What `to_json` wrote; None for nothing, or for what cannot be understood."""
    try:
        raw: Any = json.loads(text or "null")
        return Fleet(
            {int(number): str(one) for number, one in raw["servers"].items()},
            str(raw["stable"]),
            raw["candidate"],
            int(raw["share"]),
            bool(raw["sticky"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
