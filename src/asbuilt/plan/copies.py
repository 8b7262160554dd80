"""Copies of what is not the database: of the cache, the objects and the files. Pure.

A copy of the cache is its dump. One of objects or files is a manifest (`manifest`), which names pieces of
content that all of these copies share. What is known of it lies beside it in clear, so that a lost catalogue
can be made again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from asbuilt.plan.basebackup import (
    BaseBackup,
    Verification,
    check_frame,
    describe_verification,
    not_understood,
    parse_moment,
    parse_verification,
    render_moment,
)
from asbuilt.plan.target import BackupTarget, LatestTarget, Target, TimeTarget, render_time
from asbuilt.values.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import tzinfo

DATABASE: Final = "database"
Part = Literal["cache", "objects", "files"]
PARTS: Final[tuple[Part, ...]] = ("cache", "objects", "files")
DUMP: Final = "dump.rdb"
"""The file that a copy of the cache is."""
_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy. All times have a zone.

    Args:
        part: of what.
        id: when the backup that it belongs to began, like `20261126T063100Z`.
        label: what its owner calls it; may be empty.
        began: nothing in it is older.
        ended: nothing in it is newer.
        size: bytes that it added to what is stored.
        clear_size: bytes of its content.
        count: keys of the cache, objects, or files.
        sha256: digest of the stored dump or manifest, hex.
        problems: what should be in it and is not whole; the manifest names them.
        version: of the program that made it; empty for objects and files.
        verified: what came of trying it; None while nobody has.
        long_term: it is to be kept as one of the long term.
    """

    part: Part
    id: str
    label: str
    began: datetime
    ended: datetime
    size: int
    clear_size: int
    count: int
    sha256: str
    problems: int = 0
    version: str = ""
    verified: Verification | None = None
    long_term: bool = False

    @property
    def bad(self) -> bool:
        """It was tried and could not be restored."""
        return self.verified is not None and not self.verified.good

    @property
    def good(self) -> bool:
        """It was tried, it could be restored, and nothing is missing."""
        return self.verified is not None and self.verified.good and not self.problems

    @property
    def key(self) -> str:
        """Where its dump or its manifest is stored."""
        name = DUMP if self.part == "cache" else "manifest.jsonl"
        return f"{self.part}/{self.id}/{name}.zst.age"


def name_part(backup: BaseBackup | Copy) -> str:
    """What it is a backup of."""
    return backup.part if isinstance(backup, Copy) else DATABASE


def to_json(copy: Copy) -> str:
    """The copy as text to keep beside it."""
    return json.dumps(
        {
            "schema": _SCHEMA,
            "part": copy.part,
            "id": copy.id,
            "label": copy.label,
            "began": render_moment(copy.began),
            "ended": render_moment(copy.ended),
            "size": copy.size,
            "clear_size": copy.clear_size,
            "count": copy.count,
            "sha256": copy.sha256,
            "problems": copy.problems,
            "version": copy.version,
            "verified": describe_verification(copy.verified),
            "long_term": copy.long_term,
        },
        indent=1,
    )


def from_json(text: str) -> Copy:
    """What `to_json` wrote. Raises AsbuiltError RESTORE-012: it is damaged or of a later version."""
    try:
        raw: Any = check_frame(json.loads(text), _SCHEMA)
        if raw["part"] not in PARTS:
            raise ValueError(f"{raw['part']!r} is no part of an environment")  # noqa: TRY301 - told below
        return Copy(
            cast("Part", raw["part"]),
            raw["id"],
            str(raw["label"]),
            parse_moment(raw["began"]),
            parse_moment(raw["ended"]),
            int(raw["size"]),
            int(raw["clear_size"]),
            int(raw["count"]),
            str(raw["sha256"]),
            int(raw["problems"]),
            str(raw["version"]),
            parse_verification(raw["verified"]),
            bool(raw["long_term"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise not_understood(error) from error


def choose_copy(copies: Sequence[Copy], part: Part, target: Target, zone: tzinfo) -> Copy:
    """The copy of a part to restore from: the newest that had ended by the target.

    One that is not bad is preferred; but of a bad one all that is whole can be restored, and it may be all
    that there is.

    Raises:
        UsageError: RESTORE-036, a copy cannot be of such a target.
        RefusedError: RESTORE-007, there is none, or none of that name; RESTORE-004, the first is later.
    """
    own = sorted((one for one in copies if one.part == part), key=lambda one: one.ended)
    if isinstance(target, BackupTarget):
        named = [one for one in own if target.name in {one.id, one.label}]
        if not named:
            raise RefusedError("RESTORE-007", f"no backup of the {part} is called {target.name}", hint=_SEE)
        return named[-1]
    if not isinstance(target, LatestTarget | TimeTarget):
        raise UsageError(
            "RESTORE-036",
            f"the {part} cannot be restored to {target}: that is a place in the log of the database",
            hint="name a time, `latest`, or a backup",
        )
    if not own:
        raise RefusedError("RESTORE-007", f"there is no backup of the {part}", hint=_SEE)
    found = [one for one in own if isinstance(target, LatestTarget) or one.ended <= target.at]
    if not found:
        raise RefusedError(
            "RESTORE-004",
            f"the first backup of the {part} is of {render_time(own[0].ended, zone)}",
            hint=_SEE,
        )
    return ([one for one in found if not one.bad] or found)[-1]


_SEE: Final = "asbuilt backup list shows what there is"


def choose_id(now: datetime, taken: Iterable[str]) -> str:
    """The id of a backup that begins now: that second, or the first one after it that is free."""
    known = set(taken)
    while (one := f"{now:%Y%m%dT%H%M%SZ}") in known:
        now += timedelta(seconds=1)
    return one
