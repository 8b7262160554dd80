from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asbuilt.plan.basebackup import BaseBackup, Verification, from_json, to_json
from asbuilt.plan.wal import Lsn
from asbuilt.values.errors import AsbuiltError

moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
positions = st.integers(0, 2**64 - 1).map(Lsn)
backups = st.builds(
    BaseBackup,
    id=moments.map(lambda at: at.strftime("%Y%m%dT%H%M%SZ")),
    label=st.text(),
    timeline=st.integers(1, 2**32 - 1),
    start=positions,
    stop=positions,
    began=moments,
    ended=moments,
    verified=st.none()
    | st.builds(Verification, at=moments, good=st.booleans(), seconds=st.floats(0, 1e6), why=st.text()),
    next_xid=st.none() | st.integers(3, 2**64 - 1),
)


@given(backups)
def test_a_backup_survives_being_written(backup: BaseBackup) -> None:
    assert from_json(to_json(backup)) == backup


@given(backups)
def test_a_backup_is_good_or_bad_or_untried(backup: BaseBackup) -> None:
    assert (backup.good, backup.bad, backup.verified is None).count(True) == 1


def whole() -> dict[str, object]:
    began = datetime(2026, 11, 26, 7, 31, tzinfo=timezone(timedelta(hours=1)))
    made = BaseBackup(
        "20261126T063100Z", "", 1, Lsn(1), Lsn(2), began, began, 1, 1, "ab", "16.14", "7", "m", next_xid=9
    )
    raw: dict[str, object] = json.loads(to_json(made))
    return raw


def test_times_are_written_in_utc() -> None:
    assert whole()["began"] == "2026-11-26T06:31:00Z"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"id": "../x"},
        {"id": 3},
        {"start": "x"},
        {"start": None},
        {"began": "2026-11-26T06:31:00"},
        {"began": "yesterday"},
        {"size": "x"},
        {"size": float("inf")},
        {"verified": 3},
        {"verified": {}},
        {"next_xid": []},
    ],
)
def test_what_is_damaged_is_told(change: dict[str, object]) -> None:
    with pytest.raises(AsbuiltError, match="RESTORE-012"):
        from_json(json.dumps({**whole(), **change}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '"x"'])
def test_what_is_no_backup_is_told(text: str) -> None:
    with pytest.raises(AsbuiltError, match="RESTORE-012"):
        from_json(text)


def test_a_backup_without_a_transaction_id_is_one_of_before() -> None:
    raw = whole()
    del raw["next_xid"]
    assert from_json(json.dumps(raw)).next_xid is None
