"""What the store must know before any member starts: whose data it is, the shared settings, who may lead.

Invariant: a store that knows nothing of this database never lets a replica lead that may lack acknowledged
writes: the one member whose data directory was a primary's is named first, and only it may take the lead.
No member is looked for where it was in an earlier life: somebody else may have that address now.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asbuilt.engines.etcd.admin import Store
from asbuilt.engines.etcd.config import render_delete_if_equal, render_put_if_absent
from asbuilt.engines.postgresql.config import PREFIX, build_cluster_config, render_cluster_config
from asbuilt.engines.postgresql.seed import Seed
from asbuilt.exec.runner import Command, Runner
from asbuilt.plan.site import Site
from asbuilt.spec.schema import Database
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Mapping


MEMBERS = f"{PREFIX}members/"


@dataclass(frozen=True, slots=True)
class Copy:
    """A stopped or running data directory, as pg_controldata and its signal file tell.

    Args:
        node: whose it is.
        system: system identifier.
        standby: it has a standby.signal.
        timeline: of its latest checkpoint.
        position: the furthest write-ahead log position it is known to have, in bytes.
    """

    node: str
    system: str
    standby: bool
    timeline: int
    position: int


@dataclass(frozen=True, slots=True)
class Registration:
    """Telling the store."""

    database: Database
    site: Site
    seed: Seed
    store: Store
    runner: Runner

    @property
    def config(self) -> str:
        """The shared settings as they should be."""
        return render_cluster_config(build_cluster_config(self.database, self.site))

    def satisfied(self) -> bool:
        """Whether the store knows it all. Changes nothing; False when the store does not answer."""
        try:
            known = self.store.read(PREFIX)
        except AsbuiltError:
            return False
        told = known.get(f"{PREFIX}config") == self.config and bool(known.get(f"{PREFIX}initialize"))
        return told and not find_moved(known, self.site.addresses)

    def run(self) -> None:
        """Write what is missing or changed. Raises AsbuiltError DATABASE-003 for data of another database."""
        known = self.store.read(PREFIX)
        copies = tuple(self._look(node) for node in self.seed.nodes if self.seed.has_data(node))
        leader = decide_leader(copies, known.get(f"{PREFIX}initialize") or None)
        if f"{PREFIX}sync" not in known:
            first = json.dumps({"leader": leader.node, "sync_standby": None}, separators=(",", ":"))
            self.store.transact(render_put_if_absent(f"{PREFIX}sync", first))
        for key in find_moved(known, self.site.addresses):
            self.store.transact(render_delete_if_equal(key, known[key]))
        self.store.put(f"{PREFIX}config", self.config)
        # last, because a store without it is one that was not told everything
        self.store.transact(render_put_if_absent(f"{PREFIX}initialize", leader.system))

    def _look(self, node: str) -> Copy:
        data = self.seed.data(node)
        tools = self.site.tools["postgresql"]
        said = self.runner.run(
            Command((tools.programs["pg_controldata"], str(data)), env=tuple(tools.env.items()), timeout=30.0)
        )
        return parse_copy(node, said.stdout, standby=(data / "standby.signal").exists())


def find_moved(known: Mapping[str, str], addresses: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of members that the store remembers at another address than they have now.

    A member that starts asks at the address on record whether it runs already, and refuses to start when
    anybody answers there.
    """
    found = []
    for key, value in sorted(known.items()):
        node = key.removeprefix(MEMBERS)
        if key.startswith(MEMBERS) and node in addresses:
            with suppress(ValueError, KeyError, TypeError):
                host = urllib.parse.urlsplit(str(json.loads(value)["api_url"])).hostname
                found += [key] if host != addresses[node] else []
    return tuple(found)


def decide_leader(copies: tuple[Copy, ...], known_system: str | None) -> Copy:
    """The copy that may lead first: newest timeline, then not a standby, then position.

    Raises AsbuiltError DATABASE-003 when the copies, or the store, belong to different databases.
    """
    systems = {copy.system for copy in copies} | ({known_system} if known_system else set())
    if len(systems) != 1 or not copies:
        raise AsbuiltError(
            "DATABASE-003",
            "the data directories and the consensus store are not of one database",
            evidence=(
                *(f"{copy.node}: system identifier {copy.system}" for copy in copies),
                f"consensus store: {known_system or 'nothing'}",
            ),
            hint="put back the folders that belong together",
        )

    def rank(copy: Copy) -> tuple[int, bool, int, bool]:
        return copy.timeline, not copy.standby, copy.position, copy == copies[0]

    return max(copies, key=rank)


def parse_copy(node: str, said: str, *, standby: bool) -> Copy:
    """What `pg_controldata` printed, in English. Raises AsbuiltError DATABASE-004 when it lacks a line."""
    values = dict(re.findall(r"^([^:\n]+):[ \t]*(.*)$", said, re.MULTILINE))
    try:
        positions = (values["Latest checkpoint location"], values["Minimum recovery ending location"])
        return Copy(
            node,
            values["Database system identifier"],
            standby,
            int(values["Latest checkpoint's TimeLineID"]),
            max(_position(one) for one in positions),
        )
    except (KeyError, ValueError):
        raise AsbuiltError(
            "DATABASE-004",
            f"the control file of {node} cannot be read",
            where=node,
            hint=f"if other members are well: delete the data directory of {node}, it is cloned again",
        ) from None


def _position(text: str) -> int:
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)
