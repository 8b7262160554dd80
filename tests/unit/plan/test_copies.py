from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asbuilt.plan.basebackup import Verification
from asbuilt.plan.copies import PARTS, Copy, choose_copy, choose_id, from_json, to_json
from asbuilt.plan.keeping import Policy, before, decide_copies
from asbuilt.plan.schedule import Tried, which_due
from asbuilt.plan.target import BackupTarget, LatestTarget, LsnTarget, TimeTarget
from asbuilt.plan.wal import Lsn
from asbuilt.values.errors import AsbuiltError, RefusedError, UsageError
from asbuilt.values.units import Duration

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86400
durations = st.sampled_from([1, 3600, DAY, 3 * DAY, 30 * DAY]).map(Duration)
policies = st.builds(Policy, durations, st.none() | st.sampled_from([DAY, 90 * DAY]).map(Duration))
verdicts = st.none() | st.builds(Verification, st.just(START), st.booleans(), st.just(1.0), st.just("tried"))


def copy_at(hours: float, **more: object) -> Copy:
    at = START + timedelta(hours=hours)
    one = Copy("files", f"{at:%Y%m%dT%H%M%SZ}", "", at, at + timedelta(minutes=1), 10, 20, 2, "ab")
    return replace(one, **more)  # type: ignore[arg-type]


copies = st.builds(
    lambda hours, tried, problems, long: copy_at(hours, verified=tried, problems=problems, long_term=long),
    st.integers(0, 120 * 24),
    verdicts,
    st.integers(0, 2),
    st.booleans(),
)
histories = st.lists(copies, max_size=25, unique_by=lambda one: one.id)


@given(copies, st.sampled_from(PARTS), st.text(max_size=9))
def test_what_is_written_of_a_copy_is_read_again(copy: Copy, part: str, label: str) -> None:
    one = replace(copy, part=part, label=label)  # type: ignore[arg-type]
    assert from_json(to_json(one)) == one


@pytest.mark.parametrize("text", ["", "{}", "[]", to_json(copy_at(1)).replace("files", "../etc")])
def test_a_damaged_description_is_an_error(text: str) -> None:
    with pytest.raises(AsbuiltError, match="RESTORE-012"):
        from_json(text)


@given(histories, policies, st.integers(0, 4000))
def test_pruning_keeps_what_is_promised(found: list[Copy], policy: Policy, later: int) -> None:
    now = START + timedelta(days=later)
    kept = decide_copies(found, policy, now)
    assert set(kept) <= {one.id for one in found}
    usable = sorted((one for one in found if not one.bad), key=lambda one: one.ended)
    if not usable:
        assert set(kept) == {one.id for one in found}
        return
    assert usable[-1].id in kept
    for one in [one for one in usable if one.good][-1:] + [one for one in usable if not one.problems][-1:]:
        assert one.id in kept, "the newest good one stays whatever its age"
    newest = max(one.ended for one in found)
    edge = before(min(now, newest), policy.retention)
    assert {one.id for one in found if one.ended > edge} <= set(kept)
    # every moment of the retention is answered as before
    left = [one for one in found if one.id in kept]
    for one in usable:
        if one.ended >= edge:
            target = TimeTarget(one.ended)
            assert choose_copy(left, "files", target, UTC) == choose_copy(found, "files", target, UTC)
    if [one for one in usable if one.ended <= edge]:
        assert choose_copy(left, "files", TimeTarget(edge), UTC) == choose_copy(
            found, "files", TimeTarget(edge), UTC
        )
    if policy.long_term is not None:
        young = [one for one in usable if one.ended >= before(min(now, newest), policy.long_term)]
        assert {f"{one.ended:%Y-%m}" for one in young} <= {f"{one.ended:%Y-%m}" for one in left}
    assert decide_copies(left, policy, now).keys() == kept.keys(), "twice is once"


def test_which_copy_a_target_means() -> None:
    bad = Verification(START, good=False, seconds=1.0, why="damaged")
    found = [copy_at(1, label="first"), copy_at(2), copy_at(3, verified=bad)]
    assert choose_copy(found, "files", LatestTarget(), UTC) == found[1]
    assert choose_copy(found[2:], "files", LatestTarget(), UTC) == found[2], "what of it is whole"
    assert choose_copy(found, "files", TimeTarget(found[1].ended), UTC) == found[1]
    assert choose_copy(found, "files", TimeTarget(found[1].began), UTC) == found[0]
    assert choose_copy(found, "files", BackupTarget("first"), UTC) == found[0]
    assert choose_copy(found, "files", BackupTarget(found[2].id), UTC) == found[2]
    for part, target, code in (
        ("files", TimeTarget(START), "RESTORE-004"),
        ("files", BackupTarget("second"), "RESTORE-007"),
        ("cache", LatestTarget(), "RESTORE-007"),
    ):
        with pytest.raises(RefusedError, match=code):
            choose_copy(found, part, target, UTC)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="RESTORE-036"):
        choose_copy(found, "files", LsnTarget(Lsn(1)), UTC)


def test_an_id_is_never_given_twice() -> None:
    assert choose_id(START, []) == "20260101T000000Z"
    assert choose_id(START, ["20260101T000000Z", "20260101T000001Z"]) == "20260101T000002Z"


@pytest.mark.parametrize(
    ("tried", "due"),
    [
        ([], True),
        ([Tried(0, done=True)], True),
        ([Tried(90_000, done=True)], False),
        ([Tried(99_500, done=False), Tried(0, done=True)], False),
        ([Tried(99_000, done=False), Tried(0, done=True)], True),
        ([Tried(99_000, done=False), Tried(90_000, done=True)], False),
    ],
)
def test_each_part_is_due_by_itself(tried: list[Tried], due: bool) -> None:
    found = which_due(
        ("cache", "files"), {"files": tried, "cache": [Tried(99_999, done=True)]}, "daily", 100_000
    )
    assert found == (("files",) if due else ())
