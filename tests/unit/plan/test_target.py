from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asbuilt.plan.target import (
    BackupTarget,
    LatestTarget,
    LsnTarget,
    Target,
    TimeTarget,
    XidTarget,
    parse_target,
    render_time,
)
from asbuilt.plan.wal import Lsn
from asbuilt.values.errors import UsageError

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
TEN = datetime(2026, 11, 26, 10, tzinfo=UTC)
zones = st.sampled_from(
    [UTC, BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Asia/Kathmandu"), ZoneInfo("Etc/GMT+12")]
)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def parse(text: str, zone: tzinfo = BERLIN) -> Target:
    return parse_target(text, NOW, zone)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("latest", LatestTarget()),
        (" LATEST ", LatestTarget()),
        ("2026-11-26T10:00:00Z", TimeTarget(TEN)),
        ("2026-11-26t10:00z", TimeTarget(TEN)),
        ("2026-11-26 10:00:00 UTC", TimeTarget(TEN)),
        ("2026-11-26 11:00:00+01:00", TimeTarget(TEN)),
        ("2026-11-26 11:00:00 +0100", TimeTarget(TEN)),
        ("2026-11-26 11:00+01", TimeTarget(TEN)),
        ("2026-11-26 06:30:00-03:30", TimeTarget(TEN)),
        ("2026-11-26 10:00:00.25Z", TimeTarget(TEN + timedelta(milliseconds=250))),
        ("2026-11-26 10:00:00,000001Z", TimeTarget(TEN + timedelta(microseconds=1))),
        ("2026-11-26 11:00:00", TimeTarget(TEN, BERLIN)),
        ("2h ago", TimeTarget(TEN)),
        ("90 m AGO", TimeTarget(NOW - timedelta(minutes=90))),
        ("0/2000028", LsnTarget(Lsn(0x2000028))),
        ("xid:1234", XidTarget(1234)),
        ("xid 1234", XidTarget(1234)),
        ("XID=4294967299", XidTarget(2**32 + 3)),
        ("20261126T063100Z", BackupTarget("20261126T063100Z")),
        ("backup:before the sale", BackupTarget("before the sale")),
    ],
)
def test_the_forms(text: str, target: Target) -> None:
    assert parse(text) == target


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "none of the forms"),
        ("now", "none of the forms"),
        ("2026-11-26", "a day is not a time"),
        ("2026-13-26 10:00", "month"),
        ("2026-11-26 25:00", "hour"),
        ("2026-11-26 10:00 CET", "none of the forms"),
        ("2026-11-26 10:00 +25:00", "offset"),
        ("0001-01-01 00:00:00+01:00", ""),
        ("0001-01-01 00:00:00", ""),
        ("2 ago", "not a duration"),
        ("40000d ago", "hundred years"),
        ("0/x", "0/2000028"),
        ("xid:2", "not the id of a transaction"),
        ("xid:99999999999999999999", "not the id of a transaction"),
        ("1234", "xid:1234"),
    ],
)
def test_what_is_not_understood_is_told_with_the_forms(text: str, why: str) -> None:
    with pytest.raises(UsageError, match="RESTORE-001") as raised:
        parse(text)
    assert why in raised.value.what
    assert any("2h ago" in line for line in raised.value.evidence)


def test_a_time_without_a_zone_is_that_of_the_machine_and_says_so() -> None:
    assert str(parse("2026-11-26 11:00")) == (
        "2026-11-26 10:00:00 UTC (2026-11-26 11:00:00 +01:00),"
        " in the zone of this machine because none was given"
    )
    assert str(parse("2026-07-26 11:00")).startswith("2026-07-26 09:00:00 UTC (2026-07-26 11:00:00 +02:00)")
    assert str(parse("2026-11-26 11:00", UTC)).startswith("2026-11-26 11:00:00 UTC, in the zone")
    assert str(parse("2026-11-26 11:00Z")) == "2026-11-26 11:00:00 UTC"
    assert [str(one) for one in (LatestTarget(), LsnTarget(Lsn(16)), XidTarget(7), BackupTarget("x"))] == [
        "latest",
        "0/10",
        "transaction 7",
        "backup x",
    ]


def test_a_time_that_the_clocks_showed_twice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"RESTORE-002.*twice") as raised:
        parse("2026-10-25 02:30")
    assert raised.value.hint == "give the zone: 2026-10-25 00:30:00 UTC or 2026-10-25 01:30:00 UTC"
    assert parse("2026-10-25 03:00") == TimeTarget(datetime(2026, 10, 25, 2, tzinfo=UTC), BERLIN)


def test_a_time_that_the_clocks_never_showed_is_refused() -> None:
    with pytest.raises(UsageError, match=r"RESTORE-002.*never"):
        parse("2026-03-29 02:30")


@given(moments, zones, zones)
def test_every_time_that_is_shown_is_understood_as_the_same(
    at: datetime, zone: tzinfo, other: tzinfo
) -> None:
    for text in render_time(at, zone).rstrip(")").split(" ("):
        assert parse(text, other) == TimeTarget(at)


@given(moments, zones)
def test_a_time_of_the_machine_is_understood_or_refused_as_ambiguous(at: datetime, zone: tzinfo) -> None:
    text = at.astimezone(zone).replace(tzinfo=None).isoformat(sep=" ")
    found = try_parsing(text, zone)
    if isinstance(found, UsageError):
        assert found.code == "RESTORE-002"
        assert "twice" in found.what
        assert f"{at.replace(tzinfo=None).isoformat(sep=' ')} UTC" in found.hint
    else:
        assert found == TimeTarget(at, zone)


def try_parsing(text: str, zone: tzinfo) -> Target | UsageError:
    try:
        return parse(text, zone)
    except UsageError as error:
        return error


@given(st.text(max_size=40))
def test_whatever_is_written_is_understood_or_refused(text: str) -> None:
    found = try_parsing(text, BERLIN)
    assert not isinstance(found, UsageError) or found.code in {"RESTORE-001", "RESTORE-002"}


def test_a_zone_behind_utc_is_shown_with_its_sign() -> None:
    zone = timezone(timedelta(hours=-5))
    assert render_time(TEN, zone) == "2026-11-26 10:00:00 UTC (2026-11-26 05:00:00 -05:00)"
