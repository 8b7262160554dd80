"""Makes another node primary, and has the sentinels agree. Only the standard library.

The sentinels learn everything by asking once a second, and give up after a time: on a busy machine they
promote a second node while the first one still takes writes, or take back a change that they missed. So
whoever knows more acts first: `before_start`, which runs when the old primary is proven dead, and
`switch_over`, which asks the old primary to hand over. Both do as a sentinel does: most sentinels vote for a
new epoch (so that none of them starts a failover meanwhile), the roles change, and each is
told in the words in which they tell each other. When nobody acts, the sentinels still do.

Invariant: nothing is changed before most sentinels have voted; they are told what a node said of itself.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from asbuilt.engines.redis.resp import ReplyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from asbuilt.engines.redis.members import Members

T = TypeVar("T")

HELLO = "__sentinel__:hello"
_VOTES = 12
"""Tries to get the votes. Each raises the epoch twice as much: how far it has come cannot be asked."""


class NotNowError(Exception):
    """The sentinels do not agree, or are doing it themselves. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a living sentinel says.

    Args:
        node: whom it names primary.
        epoch: since when.
        acts: whether it is changing the primary itself at this moment.
    """

    node: str
    epoch: int
    acts: bool = False


def ask_opinion(members: Members, name: str) -> Opinion | None:
    """What the sentinel of a node says; None when it does not answer, or names a foreign address."""
    try:
        with members.sentinel(name) as client:
            said = client.ask("SENTINEL", "MASTER", members.monitor)
        words = [str(word) for word in said] if isinstance(said, list) else []
        fields = dict(zip(words[::2], words[1::2], strict=False))
        node = members.at(fields.get("ip", ""))
        acts = "failover_in_progress" in fields.get("flags", "").split(",")
        return Opinion(node, int(fields.get("config-epoch", "0")), acts) if node else None
    except (OSError, ReplyError, ValueError):
        return None


def ask_opinions(members: Members) -> dict[str, Opinion]:
    """What every living sentinel says."""
    found = _of_each(members, lambda name: ask_opinion(members, name))
    return {name: one for name, one in found.items() if one is not None}


def win_votes(members: Members, opinions: Mapping[str, Opinion]) -> int:
    """An epoch for which most sentinels voted; for some seconds they start no failover themselves.

    Raises:
        NotNowError: too few answer, or one is at it.
    """
    if any(one.acts for one in opinions.values()):
        raise NotNowError("a sentinel is changing the primary")
    if len(opinions) < members.quorum:
        raise NotNowError(f"{len(opinions)} of {len(members.members)} sentinels answer")
    voter = secrets.token_hex(20)
    epoch, step = 1 + max(one.epoch for one in opinions.values()), 1
    for _ in range(_VOTES):
        given = _of_each(members, lambda name: _vote(members, name, opinions, epoch, voter))  # noqa: B023 - used at once
        if sum(given.values()) >= members.quorum:
            return epoch
        epoch, step = epoch + step, step * 2
    raise NotNowError("the sentinels gave no votes")


def _vote(members: Members, name: str, opinions: Mapping[str, Opinion], epoch: int, voter: str) -> bool:
    if name not in opinions:
        return False
    named = members.members[opinions[name].node]
    words = (named.host, str(named.port), str(epoch), voter)
    try:
        with members.sentinel(name) as client:
            said = client.ask("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", *words)
    except (OSError, ReplyError):
        return False
    return isinstance(said, list) and said[1:] == [voter, epoch]


def announce(members: Members, primary: str, epoch: int) -> None:
    """Tell each sentinel who is primary since this epoch, as another sentinel would.

    Who is deaf now hears it later from the others.
    """
    _of_each(members, lambda name: _tell(members, name, primary, epoch))


def _tell(members: Members, name: str, primary: str, epoch: int) -> None:
    try:
        with members.sentinel(name) as client:
            said = client.ask("SENTINEL", "SENTINELS", members.monitor)
            fellow = said[0] if isinstance(said, list) and said else None
            if not isinstance(fellow, list):
                return  # it knows no other one yet, and would not believe us
            words = [str(word) for word in fellow]
            known = dict(zip(words[::2], words[1::2], strict=False))
            one = members.members[primary]
            told = (
                known["ip"],
                known["port"],
                known["runid"],
                epoch,
                members.monitor,
                one.host,
                one.port,
                epoch,
            )
            client.ask("PUBLISH", HELLO, ",".join(str(word) for word in told))
    except (OSError, ReplyError, KeyError):
        return


def gather_behind(members: Members, primary: str) -> None:
    """Have every other node that answers follow the primary, and hang up on its clients.

    Who follows already goes on without a break. Clients who wrote there have to ask for the way again.
    """

    def follow(name: str) -> None:
        if name == primary:
            return
        one = members.members[primary]
        try:
            with members.server(name) as client:
                client.ask("REPLICAOF", one.host, str(one.port))
                client.ask("CLIENT", "KILL", "TYPE", "normal")
        except (OSError, ReplyError):
            return

    _of_each(members, follow)


def promote(members: Members, dead: str, successor: str) -> None:
    """Make this replica of a dead primary the next one.

    Raises:
        NotNowError: the sentinels did not vote, or name another one by now.
        OSError: it does not answer.
        ReplyError: it refuses.
    """
    opinions = ask_opinions(members)
    newest = max(opinions.values(), key=lambda one: one.epoch, default=None)
    if newest is None or newest.node != dead:
        raise NotNowError("no sentinel answers" if newest is None else f"the sentinels name {newest.node}")
    epoch = win_votes(members, opinions)
    with members.server(successor) as client:
        client.ask("REPLICAOF", "NO", "ONE")
    announce(members, successor, epoch)
    gather_behind(members, successor)


def confirm(members: Members, primary: str, dead: str | None = None) -> bool:
    """Have the sentinels agree on the only primary there is; whether all that answer do, and they are most.

    They do not when the roles changed and whoever changed them was killed before it told them, or when they
    gave up waiting for a change that came about later. `dead`: a node that is known not to run.
    """
    opinions = ask_opinions(members)
    newest = max(opinions.values(), key=lambda one: one.epoch, default=None)
    if newest is None:
        return False
    if newest.node == primary:  # who says otherwise is about to hear it from the one that knows
        return len(opinions) >= members.quorum and all(one.node == primary for one in opinions.values())
    if newest.node != dead and ask_role(members, newest.node) != "slave":
        return False  # perhaps they know better
    try:
        epoch = win_votes(members, opinions)
    except NotNowError:
        return False
    announce(members, primary, epoch)
    gather_behind(members, primary)
    return False


def ask_role(members: Members, name: str) -> str:
    """`master`, `slave`, or nothing when a node does not answer."""
    try:
        with members.server(name) as client:
            return client.info("replication").get("role", "")
    except (OSError, ReplyError):
        return ""


def _of_each(members: Members, ask: Callable[[str], T]) -> dict[str, T]:
    names = sorted(members.members)
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(ask, names), strict=True))
