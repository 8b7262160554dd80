"""Where the cache nodes and their sentinels listen, and how to log in there. Only the standard library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asbuilt.engines.redis.resp import Client

TIMEOUT = 0.7
"""Seconds for each step of a question: whoever asks waits for all of them."""


@dataclass(frozen=True, slots=True)
class Member:
    """One cache node: where its server and sentinel listen, where its folder is."""

    host: str
    port: int
    sentinel: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Members:
    """All of them. `quorum`: sentinels that must agree; `source`: the address to ask from, or None."""

    members: dict[str, Member]
    monitor: str
    quorum: int
    user: str
    password: str
    sentinel_password: str
    source: str | None = None

    def server(self, name: str) -> Client:
        """A connection to a node's server."""
        one = self.members[name]
        return Client(one.host, one.port, self.password, self.user, TIMEOUT, self.source)

    def sentinel(self, name: str) -> Client:
        """A connection to a node's sentinel."""
        one = self.members[name]
        return Client(one.host, one.sentinel, self.sentinel_password, "", TIMEOUT, self.source)

    def at(self, host: str) -> str | None:
        """The node that listens there."""
        return next((name for name, one in self.members.items() if one.host == host), None)


def parse_members(raw: dict[str, Any], source: str | None = None) -> Members:
    """From what `config.describe_members` says."""
    return Members(
        members={
            name: Member(one["host"], one["port"], one["sentinel"], Path(one["folder"]))
            for name, one in raw["members"].items()
        },
        monitor=raw["monitor"],
        quorum=raw["quorum"],
        user=raw["user"],
        password=raw["password"],
        sentinel_password=raw["sentinel_password"],
        source=source,
    )
