from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import pytest

from asbuilt.engines.redis.members import Member, Members
from asbuilt.engines.redis.succession import HELLO, NotNowError, ask_opinions, confirm, promote

if TYPE_CHECKING:
    from asbuilt.engines.redis.resp import Client, Reply

NODES = ("cache-1", "cache-2", "cache-3")


def host(node: str) -> str:
    return f"127.1.4.{node[-1]}"


@dataclass
class Sentinel:
    """As much of one as is asked: one vote in an epoch, and belief in a newer one."""

    own: str
    named: str = "cache-1"
    epoch: int = 0
    current: int = 0
    voted: tuple[int, str] = (0, "")
    acts: bool = False

    def ask(self, *words: str) -> Reply:
        match words:
            case ("SENTINEL", "MASTER", "cache"):
                flags = "master,failover_in_progress" if self.acts else "master"
                return ["ip", host(self.named), "flags", flags, "config-epoch", str(self.epoch)]
            case ("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", ip, "6379", epoch, voter):
                if ip != host(self.named):
                    return [0, "*", 0]
                self.current = max(self.current, int(epoch))
                if self.voted[0] < int(epoch) and self.current <= int(epoch):
                    self.voted = int(epoch), voter
                return [0, self.voted[1], self.voted[0]]
            case ("SENTINEL", "SENTINELS", "cache"):
                return [["ip", host(n), "port", "26379", "runid", n] for n in NODES if n != self.own]
            case ("PUBLISH", channel, text):
                assert channel == HELLO
                ip, port, runid, current, name, primary, primary_port, epoch = text.split(",")
                assert (host(runid), port, name, primary_port) == (ip, "26379", "cache", "6379")
                assert runid != self.own
                self.current = max(self.current, int(current))
                if int(epoch) > self.epoch:
                    self.epoch, self.named = int(epoch), next(n for n in NODES if host(n) == primary)
                return 1
        raise AssertionError(words)


@dataclass
class Server:
    follows: str | None
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def ask(self, *words: str) -> Reply:
        self.asked.append(words)
        if words[0] == "REPLICAOF":
            self.follows = None if words[1] == "NO" else words[1]
        return "OK"

    def info(self, _: str) -> dict[str, str]:
        return {"role": "slave" if self.follows else "master"}


@dataclass(frozen=True)
class Connection:
    to: Sentinel | Server

    def __enter__(self) -> Sentinel | Server:
        return self.to

    def __exit__(self, *_: object) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Fakes(Members):
    """Nodes and sentinels in memory; who is not there does not answer."""

    sentinels: dict[str, Sentinel] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)

    @classmethod
    def make(cls, *dead: str) -> Self:
        members = {n: Member(host(n), 6379, 26379, Path(n)) for n in NODES}
        return cls(
            members, "cache", 2, "asbuilt", "", "",
            sentinels={n: Sentinel(n) for n in NODES},
            servers={n: Server(None if n == "cache-1" else host("cache-1")) for n in NODES if n not in dead},
        )  # fmt: skip

    def _to(self, found: Sentinel | Server | None) -> Client:
        if found is None:
            raise ConnectionRefusedError
        return cast("Client", Connection(found))

    def server(self, name: str) -> Client:
        return self._to(self.servers.get(name))

    def sentinel(self, name: str) -> Client:
        return self._to(self.sentinels.get(name))

    def named(self) -> list[str]:
        return [one.node for one in ask_opinions(self).values()]


def test_a_successor_is_known_to_all_sentinels_and_followed_by_all_nodes() -> None:
    fakes = Fakes.make("cache-1")
    promote(fakes, "cache-1", "cache-3")
    assert fakes.named() == ["cache-3"] * 3
    assert (fakes.servers["cache-3"].follows, fakes.servers["cache-2"].follows) == (None, host("cache-3"))
    assert confirm(fakes, "cache-3")


def test_votes_are_won_in_an_epoch_that_no_sentinel_has_passed() -> None:
    fakes = Fakes.make("cache-1")
    for sentinel in fakes.sentinels.values():
        sentinel.current, sentinel.voted = 9, (9, "another")
    promote(fakes, "cache-1", "cache-2")
    assert fakes.named() == ["cache-2"] * 3
    assert fakes.sentinels["cache-1"].epoch > 9


@pytest.mark.parametrize("trouble", ["too few", "one acts", "another was chosen", "none answers"])
def test_nothing_is_changed_without_most_of_the_sentinels(trouble: str) -> None:
    fakes = Fakes.make("cache-1")
    if trouble == "too few":
        del fakes.sentinels["cache-1"], fakes.sentinels["cache-2"]
    elif trouble == "one acts":
        fakes.sentinels["cache-2"].acts = True
    elif trouble == "another was chosen":
        fakes.sentinels["cache-3"].named, fakes.sentinels["cache-3"].epoch = "cache-2", 1
    else:
        fakes.sentinels.clear()
    with pytest.raises(NotNowError):
        promote(fakes, "cache-1", "cache-3")
    assert all(not one.asked for one in fakes.servers.values())
    assert all(not one.voted[1] for one in fakes.sentinels.values())


def test_two_of_three_sentinels_are_enough_and_the_third_is_told_when_it_is_back() -> None:
    fakes = Fakes.make("cache-1")
    away = fakes.sentinels.pop("cache-1")
    promote(fakes, "cache-1", "cache-2")
    fakes.sentinels["cache-1"] = away
    assert not confirm(fakes, "cache-2")  # it will hear it from its fellows
    assert away.named == "cache-1"


def test_a_change_that_nobody_told_of_is_made_known() -> None:
    fakes = Fakes.make()
    fakes.servers["cache-1"].follows, fakes.servers["cache-2"].follows = host("cache-2"), None
    assert not confirm(fakes, "cache-2")
    assert fakes.named() == ["cache-2"] * 3
    assert fakes.servers["cache-3"].follows == host("cache-2")


@pytest.mark.parametrize("dead", [(), ("cache-1",)])
def test_whom_the_sentinels_name_is_not_passed_over_while_it_may_be_primary(dead: tuple[str, ...]) -> None:
    fakes = Fakes.make(*dead)
    fakes.servers["cache-2"].follows = None
    assert not confirm(fakes, "cache-2")
    assert fakes.named() == ["cache-1"] * 3
    if dead:
        assert not confirm(fakes, "cache-2", dead="cache-1")
        assert fakes.named() == ["cache-2"] * 3
