"""A base backup: a copy of the whole database that was made while it ran. Pure.

Such a copy is consistent only together with the log that was written while it was made: nothing before its
`stop` can be reached from it. What is known of it lies beside it in clear, so that a lost catalogue can be
made again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from asbuilt.plan.wal import Lsn
from asbuilt.values.errors import AsbuiltError

_SCHEMA: Final = 1
_ID: Final = re.compile(r"\d{8}T\d{6}Z")


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of trying a backup.

    Args:
        at: when.
        good: it was restored and what had to be in it was.
        seconds: how long that took.
        why: what was wrong, or what was looked at.
    """

    at: datetime
    good: bool
    seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class BaseBackup:
    """One base backup. All times have a zone.

    Args:
        id: when it began, like `20261126T063100Z`.
        label: what its owner calls it; may be empty.
        timeline: on which it ended. Where it began on an earlier one, that is in the history of this.
        start: replay begins here.
        stop: replay must get here at least.
        began: a moment before `start` was determined: whatever was committed by then lies before it.
        ended: a moment after `stop` was determined: nothing before it was committed later.
        size: bytes as stored.
        clear_size: bytes of the files in it.
        sha256: digest of what is stored, hex.
        version: of PostgreSQL, like `16.14`.
        system_id: of the database; another one has another log.
        mark: id of the row that proves a restore of it.
        verified: what came of trying it; None while nobody has.
        long_term: it is to be kept as one of the long term.
        next_xid: the first transaction id, with its epoch, that was not given out when it ended; None where
            that is not known.
    """

    id: str
    label: str
    timeline: int
    start: Lsn
    stop: Lsn
    began: datetime
    ended: datetime
    size: int
    clear_size: int
    sha256: str
    version: str
    system_id: str
    mark: str
    verified: Verification | None = None
    long_term: bool = False
    next_xid: int | None = None

    @property
    def bad(self) -> bool:
        """It was tried and could not be restored."""
        return self.verified is not None and not self.verified.good

    @property
    def good(self) -> bool:
        """It was tried and could be restored."""
        return self.verified is not None and self.verified.good


def to_json(backup: BaseBackup) -> str:
    """The backup as text to keep beside it."""
    return json.dumps(
        {
            "schema": _SCHEMA,
            "id": backup.id,
            "label": backup.label,
            "timeline": backup.timeline,
            "start": str(backup.start),
            "stop": str(backup.stop),
            "began": render_moment(backup.began),
            "ended": render_moment(backup.ended),
            "size": backup.size,
            "clear_size": backup.clear_size,
            "sha256": backup.sha256,
            "version": backup.version,
            "system_id": backup.system_id,
            "mark": backup.mark,
            "verified": describe_verification(backup.verified),
            "long_term": backup.long_term,
            "next_xid": backup.next_xid,
        },
        indent=1,
    )


def from_json(text: str) -> BaseBackup:
    """What `to_json` wrote.

    Raises:
        AsbuiltError: RESTORE-012, it is damaged or of a later version.
    """
    try:
        raw = check_frame(json.loads(text), _SCHEMA)
        return BaseBackup(
            raw["id"],
            str(raw["label"]),
            int(raw["timeline"]),
            Lsn.parse(raw["start"]),
            Lsn.parse(raw["stop"]),
            parse_moment(raw["began"]),
            parse_moment(raw["ended"]),
            int(raw["size"]),
            int(raw["clear_size"]),
            str(raw["sha256"]),
            str(raw["version"]),
            str(raw["system_id"]),
            str(raw["mark"]),
            parse_verification(raw["verified"]),
            bool(raw["long_term"]),
            None if raw.get("next_xid") is None else int(raw["next_xid"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise not_understood(error) from error


def not_understood(error: Exception) -> AsbuiltError:
    """The error of a description that is damaged or of a later version."""
    return AsbuiltError(
        "RESTORE-012",
        f"what is kept of a backup cannot be understood: {error!r}",
        hint="the backup beside it may still be good: its README says how it is restored by hand",
    )


def check_frame(raw: Any, schema: int) -> Any:  # noqa: ANN401 - JSON that nobody has looked at yet
    """The same, if it is of this schema and has the id of a backup. Raises ValueError and the like."""
    if raw["schema"] != schema:
        raise ValueError(f"schema {raw['schema']!r} is not {schema}")
    if _ID.fullmatch(raw["id"]) is None:
        raise ValueError(f"{raw['id']!r} is not the id of a backup")
    return raw


def describe_verification(tried: Verification | None) -> dict[str, Any] | None:
    """What came of trying a backup, as JSON values."""
    if tried is None:
        return None
    return {"at": render_moment(tried.at), "good": tried.good, "seconds": tried.seconds, "why": tried.why}


def parse_verification(raw: Any) -> Verification | None:  # noqa: ANN401 - JSON that nobody has looked at yet
    """The inverse of `describe_verification`. Raises ValueError and the like."""
    if raw is None:
        return None
    return Verification(parse_moment(raw["at"]), bool(raw["good"]), float(raw["seconds"]), str(raw["why"]))


def render_moment(moment: datetime) -> str:
    """A time as text, in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_moment(text: str) -> datetime:
    """The inverse of `render_moment`. Raises ValueError where there is no zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no zone")
    return moment.astimezone(UTC)
