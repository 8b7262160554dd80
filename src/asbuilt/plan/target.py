"""Up to where a database is to be restored: what the owner writes, and how it is understood. Pure.

Invariant, property-tested: every time that is shown can be given as a target, and is understood as the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from asbuilt.plan.wal import Lsn
from asbuilt.values.errors import UsageError
from asbuilt.values.units import Duration

FORMS: Final = (
    "latest                       all that is stored",
    "2026-11-26T10:00:00Z         a time; with an offset like +01:00, or without: then of this machine",
    "2h ago                       so long before now, in s, m, h or d",
    "0/2000028                    a position in the WAL: what was written before it",
    "xid:123456                   a transaction, and what was committed before it",
    "20261126T063100Z             a base backup as it is, also backup:LABEL",
)
"""The accepted forms, a line each."""
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:[.,]\d{1,6})?)?)\s?(Z|UTC|[+-]\d\d(?::?\d\d)?)?",
    re.IGNORECASE,
)
_AGO: Final = re.compile(r"(.+?)\s+ago", re.IGNORECASE)
_XID: Final = re.compile(r"xid[:= ]\s*(\d{1,20})", re.IGNORECASE)
_ID: Final = re.compile(r"\d{8}T\d{6}Z")
_BACKUP: Final = re.compile(r"backup:\s*(\S.*)", re.IGNORECASE)
_FIRST_XID: Final = 3
"""Of ordinary transactions (PostgreSQL: `FirstNormalTransactionId`)."""


@dataclass(frozen=True, slots=True)
class LatestTarget:
    """All that is stored."""

    def __str__(self) -> str:
        return "latest"


@dataclass(frozen=True, slots=True)
class TimeTarget:
    """What was committed by this time, and nothing later.

    Args:
        at: the time, in UTC.
        zone: of this machine; None where the owner gave the zone.
    """

    at: datetime
    zone: tzinfo | None = None

    def __str__(self) -> str:
        if self.zone is None:
            return render_time(self.at, UTC)
        return f"{render_time(self.at, self.zone)}, in the zone of this machine because none was given"


@dataclass(frozen=True, slots=True)
class LsnTarget:
    """What was written before this position."""

    lsn: Lsn

    def __str__(self) -> str:
        return str(self.lsn)


@dataclass(frozen=True, slots=True)
class XidTarget:
    """This transaction, and what was committed before it. The id may have its epoch in the upper half."""

    xid: int

    def __str__(self) -> str:
        return f"transaction {self.xid}"


@dataclass(frozen=True, slots=True)
class BackupTarget:
    """A base backup as it is, by id or label."""

    name: str

    def __str__(self) -> str:
        return f"backup {self.name}"


Target = LatestTarget | TimeTarget | LsnTarget | XidTarget | BackupTarget


def parse_target(text: str, now: datetime, zone: tzinfo) -> Target:
    """What an owner means.

    Args:
        text: one of `FORMS`.
        now: with a zone; what `ago` counts from.
        zone: of this machine, with its changes between summer and winter; a fixed offset would be wrong for
            half of the year.

    Raises:
        UsageError: RESTORE-001, it is none of the forms; RESTORE-002, the clocks of this zone showed that
            time twice, or never.
    """
    words = text.strip()
    if words.lower() == "latest":
        return LatestTarget()
    try:
        if match := _TIME.fullmatch(words):
            return _parse_time(text, match, zone)
        if match := _AGO.fullmatch(words):
            return TimeTarget((now - timedelta(seconds=Duration.parse(match[1]).seconds)).astimezone(UTC))
        return _parse_other(words)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            "RESTORE-001",
            f"{text!r} is not understood as a target: {error}",
            where=text,
            evidence=FORMS,
            hint="write it in one of these forms",
        ) from None


def _parse_other(words: str) -> Target:
    """What is no time. Raises ValueError saying why it is not understood."""
    if "/" in words:
        return LsnTarget(Lsn.parse(words))
    if match := _XID.fullmatch(words):
        xid = int(match[1])
        if not _FIRST_XID <= xid < 2**64:
            raise ValueError(f"{xid} is not the id of a transaction")
        return XidTarget(xid)
    if match := _BACKUP.fullmatch(words):
        return BackupTarget(match[1])
    if _ID.fullmatch(words) is None:
        raise ValueError(_guess(words))
    return BackupTarget(words)


def _guess(words: str) -> str:
    """What may have been meant."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", words):
        return "a day is not a time: say at which"
    if words.isdigit():
        return f"a transaction is written xid:{words}"
    return "it has none of the forms"


def _parse_time(text: str, match: re.Match[str], zone: tzinfo) -> TimeTarget:
    plain = datetime.fromisoformat(f"{match[1]}T{match[2].replace(',', '.')}")
    if match[3] is not None:
        return TimeTarget(plain.replace(tzinfo=_parse_offset(match[3])).astimezone(UTC))
    moments = _localize(plain, zone)
    if len(moments) == 1:
        return TimeTarget(moments[0], zone)
    shown = " or ".join(_render_utc(one) for one in moments)
    raise UsageError(
        "RESTORE-002",
        f"the clocks of this machine's zone showed {text.strip()} {'twice' if moments else 'never'}",
        where=text,
        hint=f"give the zone: {shown}" if moments else "they were set forward then; give the zone, Z for UTC",
    )


def _parse_offset(text: str) -> tzinfo:
    if text.upper() in {"Z", "UTC"}:
        return UTC
    hours, minutes = text[:3], text[3:].lstrip(":") or "00"
    zone = datetime.fromisoformat(f"2000-01-01T00:00{hours}:{minutes}").tzinfo
    return UTC if zone is None else zone


def _localize(plain: datetime, zone: tzinfo) -> tuple[datetime, ...]:
    """The moments at which the clocks of a zone show a time: one, two when they are set back, or none."""
    found = {plain.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return tuple(sorted(one for one in found if one.astimezone(zone).replace(tzinfo=None) == plain))


def render_time(at: datetime, zone: tzinfo) -> str:
    """A time in UTC, and beside it on the clocks of a zone where they differ."""
    local = at.astimezone(zone)
    if not local.utcoffset():
        return _render_utc(at)
    text = local.isoformat(sep=" ")
    cut = text.rfind("+") if "+" in text else text.rfind("-")
    return f"{_render_utc(at)} ({text[:cut]} {text[cut:]})"


def _render_utc(at: datetime) -> str:
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' ')} UTC"
