from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asbuilt.plan.choice import Caution, Choice, Stop, choose, render_settings
from asbuilt.plan.replay import Part, which_needed
from asbuilt.plan.stored import SegmentName, parse_key
from asbuilt.plan.target import (
    BackupTarget,
    LatestTarget,
    LsnTarget,
    Target,
    TimeTarget,
    XidTarget,
    parse_target,
)
from asbuilt.plan.wal import Lsn
from asbuilt.plan.windows import find_windows, windows_along
from asbuilt.values.errors import AsbuiltError, RefusedError, UsageError
from support.wal_worlds import BEGIN, SIZE, Commit, World, worlds

if TYPE_CHECKING:
    from asbuilt.plan.archive import Archive

BERLIN = ZoneInfo("Europe/Berlin")
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SECOND = timedelta(seconds=1)


def replay(world: World, choice: Choice) -> tuple[list[Commit], bool]:
    """The rows that PostgreSQL would have after it, and whether it saw that the target was reached."""
    log = world.find_commits(choice.timeline, choice.end)
    rows: list[Commit] = []
    for one in log:
        if one.end > choice.backup.stop and _stops_before(choice, one):
            return rows, True
        rows.append(one)
        if choice.stop is Stop.XID and one.xid == xid_of(choice.target) and one.end > choice.backup.stop:
            return rows, True
    return rows, choice.stop in {Stop.END, Stop.CONSISTENT}


def _stops_before(choice: Choice, one: Commit) -> bool:
    match choice.stop, choice.target:
        case Stop.TIME, TimeTarget(at=at):
            return one.at > at
        case Stop.LSN, LsnTarget(lsn=lsn):
            return one.start >= lsn
        case Stop.CONSISTENT, _:
            return True
        case _:
            return False


def xid_of(target: Target) -> int:
    assert isinstance(target, XidTarget)
    return target.xid


def refuse(target: Target, world: World, timeline: int | None = None) -> AsbuiltError:
    with pytest.raises(RefusedError) as raised:
        choose(target, world.archive(), timeline=timeline, zone=BERLIN)
    return raised.value


def all_windows(archive: Archive) -> list[tuple[int, int, int, datetime, datetime]]:
    return [
        (timeline, int(one.start), int(one.end), one.began, one.ended)
        for timeline in archive.known
        for one in windows_along(archive, timeline)
    ]


@SLOW
@given(worlds(), st.data())
def test_a_restore_to_a_time_has_exactly_the_rows_up_to_it(world: World, data: st.DataObject) -> None:
    archive = world.archive()
    found = all_windows(archive)
    if not found:
        return
    timeline, _, _, began, ended = data.draw(st.sampled_from(found))
    at = began + data.draw(st.integers(0, int((ended - began).total_seconds()))) * SECOND
    choice = choose(TimeTarget(at), archive, timeline=timeline)
    assert choice.backup.ended <= at
    rows, reached = replay(world, choice)
    everything = [one for one in world.find_commits(timeline, world.ends[timeline]) if one.at <= at]
    if choice.complete or (reached and choice.stop is Stop.TIME):
        assert rows == everything
    assert reached or choice.without_target() is not None
    assert rows == everything[: len(rows)], "nothing later, and nothing left out in the middle"


@SLOW
@given(worlds(), st.data())
def test_a_restore_to_a_position_has_exactly_what_was_before_it(world: World, data: st.DataObject) -> None:
    archive = world.archive()
    found = all_windows(archive)
    if not found:
        return
    timeline, start, end, _, _ = data.draw(st.sampled_from(found))
    position = data.draw(st.integers(start, end))
    choice = choose(LsnTarget(Lsn(position)), archive, timeline=timeline)
    assert choice.backup.stop <= position
    rows, reached = replay(world, choice)
    assert choice.complete
    assert reached or choice.without_target() is not None
    assert rows == [one for one in world.find_commits(timeline, choice.end) if one.start < position]


@SLOW
@given(worlds(), st.data())
def test_a_restore_to_a_transaction_finds_it_where_it_is(world: World, data: st.DataObject) -> None:
    archive = world.archive()
    windows = [one for one in find_windows(archive) if one.parting is None]
    first = [
        one
        for window in windows
        for one in world.find_commits(window.timeline, window.end)
        if one.start >= window.start
    ]
    if not first:
        return
    wanted = data.draw(st.sampled_from(first))
    choice = choose(XidTarget(wanted.xid), archive)
    rows, reached = replay(world, choice)
    assert reached
    assert rows[-1] == wanted
    assert choice.without_target() is None


@SLOW
@given(worlds(), st.data())
def test_the_parts_are_the_log_of_the_chosen_timeline(world: World, data: st.DataObject) -> None:
    archive = world.archive()
    choices = [choose(LatestTarget(), archive, timeline=one[0]) for one in all_windows(archive)]
    choices += [
        choose(BackupTarget(one.id), archive) for window in find_windows(archive) for one in window.backups
    ]
    if not choices:
        return
    choice = data.draw(st.sampled_from(choices))
    position = int(choice.backup.start) // SIZE * SIZE
    for part in which_needed(choice, archive):
        assert part.segment.start == position
        assert bytes_of(part) == set(range(part.length))
        for byte in range(max(position, int(choice.backup.start)), position + part.length):
            assert world.owner(part.segment.timeline, byte) == world.owner(choice.timeline, byte)
        position += SIZE
    assert position - SIZE < choice.end <= position
    assert position - SIZE + part.length >= choice.end


def bytes_of(part: Part) -> set[int]:
    found: set[int] = set()
    for one in part.objects:
        name = parse_key(one.key, SIZE)
        assert isinstance(name, SegmentName)
        assert (name.timeline, name.number) == (part.segment.timeline, part.segment.number)
        found |= set(range(name.offset, name.end))
    return {byte for byte in found if byte < part.length}


@SLOW
@given(worlds(), st.integers(-5, 400), st.sampled_from([None, 1, 2, 3]))
def test_every_time_in_a_refusal_can_be_reached(world: World, hours: int, timeline: int | None) -> None:
    archive = world.archive()
    if timeline is not None and timeline not in archive.known:
        return
    target = TimeTarget(BEGIN + timedelta(hours=hours))
    try:
        choose(target, archive, timeline=timeline)
    except RefusedError as error:
        for line in error.evidence:
            match = re.search(r"timeline (\d+)", line)
            assert match is not None
            for text in re.findall(r"\d{4}-[\d: .-]+ UTC", line):
                shown = parse_target(text.strip(), BEGIN, UTC)
                choose(shown, archive, timeline=int(match[1]))
        for text in re.findall(r"(?:is|it) ([\d: .-]+ UTC)", error.hint):
            choose(parse_target(text, BEGIN, UTC), archive, timeline=timeline)


@SLOW
@given(worlds(), st.integers(0, 300))
def test_a_position_outside_of_every_window_is_refused(world: World, position: int) -> None:
    archive = world.archive()
    main = [one for one in find_windows(archive) if one.parting is None]
    inside = any(one.start <= position <= one.end for one in main)
    assert (code_of(LsnTarget(Lsn(position)), archive) is None) == inside
    if not inside:
        outside = {"RESTORE-004", "RESTORE-005", "RESTORE-006", "RESTORE-010"} if main else {"RESTORE-003"}
        assert code_of(LsnTarget(Lsn(position)), archive) in outside


def code_of(target: Target, archive: Archive) -> str | None:
    try:
        choose(target, archive)
    except RefusedError as error:
        return error.code
    return None


def ready() -> World:
    """A backup at 06:31 and an hour of commits."""
    world = World(clock=datetime(2026, 11, 26, 6, 31, tzinfo=UTC))
    world.back_up(4)
    world.judge(0, good=True)
    for _ in range(6):
        world.wait(599)
        world.write(5)
        world.ship()
    return world


def at(text: str) -> TimeTarget:
    target = parse_target(f"2026-11-26 {text}Z", BEGIN, UTC)
    assert isinstance(target, TimeTarget)
    return target


def test_a_time_is_reached_from_the_last_backup_before_it() -> None:
    world = ready()
    world.back_up(3)
    world.ship()
    choice = choose(at("06:55:00"), world.archive())
    assert choice.backup == world.backups[0]
    assert choice.stop is Stop.TIME
    assert render_settings(choice) == {
        "recovery_target_timeline": "1",
        "recovery_target_time": "2026-11-26 06:55:00+00:00",
        "recovery_target_inclusive": "on",
    }
    assert len(replay(world, choice)[0]) == 3
    assert choose(at("07:31:12"), world.archive()).backup == world.backups[1]


def test_a_time_before_the_first_backups_end_is_refused() -> None:
    error = refuse(at("06:31:02"), ready())
    assert error.code == "RESTORE-004"
    assert error.render() == (
        "error[RESTORE-004] 2026-11-26 06:31:02 UTC (2026-11-26 07:31:02 +01:00)"
        " is before the end of the first backup, 20261126T063101Z\n"
        "  at 2026-11-26 06:31:02 UTC\n"
        "  | reachable: 2026-11-26 06:31:03 UTC (2026-11-26 07:31:03 +01:00)"
        " to 2026-11-26 07:31:09 UTC (2026-11-26 08:31:09 +01:00), WAL 0/14 to 0/32, timeline 1, 1 backup\n"
        "  hint: the first that can be reached is 2026-11-26 06:31:03 UTC (2026-11-26 07:31:03 +01:00)"
    )
    assert choose(at("06:31:03"), ready().archive()).backup.id == "20261126T063101Z"
    assert refuse(LsnTarget(Lsn(0x13)), ready()).code == "RESTORE-004"


def test_a_time_after_the_last_wal_is_refused() -> None:
    error = refuse(at("09:00:00"), ready())
    assert error.code == "RESTORE-005"
    assert (
        "the last that can be reached is 2026-11-26 07:31:09 UTC (2026-11-26 08:31:09 +01:00)" in error.hint
    )
    assert "`latest`" in error.hint
    assert refuse(LsnTarget(Lsn(0x33)), ready()).code == "RESTORE-005"
    assert choose(LsnTarget(Lsn(0x32)), ready().archive()).stop is Stop.END
    assert choose(at("07:31:09"), ready().archive()).stop is Stop.END
    assert choose(at("07:31:08"), ready().archive()).stop is Stop.TIME


def test_an_idle_database_is_restored_to_the_end_of_its_log() -> None:
    world = ready()
    world.wait(7200)
    assert refuse(at("09:00:00"), world).code == "RESTORE-005", "nobody looked since"
    world.mark()
    choice = choose(at("09:00:00"), world.archive())
    assert (choice.stop, choice.complete) == (Stop.END, True)
    assert render_settings(choice) == {"recovery_target_timeline": "1"}
    assert len(replay(world, choice)[0]) == 7


def test_a_quiet_end_of_the_log_is_told_by_what_is_known_to_be_complete() -> None:
    world = ready()
    world.mark()
    world.wait(60)
    # only a checkpoint, which PostgreSQL does not take for something later than a time
    world.end += 3
    world.ship()
    choice = choose(at("07:31:10"), world.archive())
    assert (choice.stop, choice.complete) == (Stop.TIME, True)
    rows, reached = replay(world, choice)
    assert not reached
    following = choice.without_target()
    assert following is not None
    assert following.stop is Stop.END
    assert replay(world, following) == (rows, True)
    world.watermark = None
    assert not choose(at("07:31:10"), world.archive()).complete


def gap() -> World:
    world = ready()
    del world.stored["wal/00000001/000000010000000000000002.zst.age"]
    for key in [key for key in world.stored if "000000010000000000000002." in key]:
        del world.stored[key]
    return world


def test_a_target_in_a_gap_is_refused_with_both_pieces() -> None:
    world = gap()
    world.wait(3600)
    world.back_up(3)
    world.write(5)
    world.ship()
    error = refuse(at("07:45:00"), world)
    assert error.code == "RESTORE-006"
    assert [line[:32] for line in error.evidence] == [
        "reachable: 2026-11-26 06:31:03 U",
        "reachable: 2026-11-26 08:31:12 U",
    ]
    assert "the last before it is 2026-11-26 07:01:06 UTC" in error.hint
    assert "the first after it 2026-11-26 08:31:12 UTC" in error.hint
    assert refuse(LsnTarget(Lsn(0x31)), world).code == "RESTORE-006"
    assert choose(at("07:00:00"), world.archive()).backup == world.backups[0]
    assert choose(LatestTarget(), world.archive()).backup == world.backups[1]


def test_the_latest_before_a_gap_says_that_there_is_more() -> None:
    choice = choose(LatestTarget(), gap().archive(), zone=BERLIN)
    assert choice.end == 32
    assert [note.caution for note in choice.notes] == [Caution.BEYOND_GAP]
    assert choice.notes[0].text == (
        "WAL is stored up to 0/32, 2026-11-26 07:31:09 UTC (2026-11-26 08:31:09 +01:00),"
        " but after 0/20 some is missing"
    )


def twice_failed_over() -> World:
    """Three commits on each of three timelines; the first primary had one more than its replica."""
    world = ready()
    world.fail_over(5)
    for _ in range(3):
        world.wait(599)
        world.write(5)
        world.ship()
    world.fail_over(0)
    for _ in range(3):
        world.wait(599)
        world.write(5)
        world.ship()
    return world


def test_a_restore_across_two_failovers_has_exactly_the_rows_up_to_the_target() -> None:
    world = twice_failed_over()
    archive = world.archive()
    lost = world.commits[6]
    for one in world.commits:
        if one is lost:
            continue
        choice = choose(TimeTarget(max(one.at, world.backups[0].ended)), archive)
        assert choice.timeline == 3
        rows, _ = replay(world, choice)
        assert rows == [row for row in world.commits if row.at <= one.at and row is not lost]
    parts = which_needed(choose(LatestTarget(), archive), archive)
    assert [(str(part.segment)[7], part.segment.number) for part in parts] == [
        ("1", 1),
        # both forks are within a segment: its newest file holds a copy of all before
        ("2", 2),
        ("3", 3),
        ("3", 4),
    ]


def test_what_a_failed_over_primary_had_alone_is_reached_by_naming_its_timeline() -> None:
    world = twice_failed_over()
    lost = world.commits[6]
    error = refuse(LsnTarget(Lsn(200)), world)
    assert [line.partition("timeline")[2] for line in error.evidence] == [
        " 1, abandoned: only when it is named",
        " 3, 1 backup",
    ]
    choice = choose(TimeTarget(lost.at), world.archive())
    assert [note.caution for note in choice.notes] == [Caution.OTHER_TIMELINE]
    assert lost not in replay(world, choice)[0]
    named = choose(TimeTarget(lost.at), world.archive(), timeline=1)
    assert (named.timeline, named.notes) == (1, ())
    assert replay(world, named)[0][-1] == lost


def test_what_a_restore_in_place_abandoned_is_refused_unless_named() -> None:
    world = ready()
    world.fork(1, 30)
    error = refuse(at("07:20:00"), world)
    assert (error.code, error.hint) == ("RESTORE-010", "name timeline 1 to go there")
    assert refuse(LsnTarget(Lsn(40)), world).code == "RESTORE-010"
    assert choose(LsnTarget(Lsn(40)), world.archive(), timeline=1).timeline == 1
    assert choose(LsnTarget(Lsn(30)), world.archive()).timeline == 2


def test_an_older_file_is_cut_at_the_fork() -> None:
    world = ready()
    world.fork(1, 30)
    archive = world.archive()
    parts = which_needed(choose(LatestTarget(), archive), archive)
    assert [(part.segment.timeline, part.segment.number, part.length) for part in parts] == [(1, 1, 14)]


def test_a_timeline_that_no_backup_leads_to_is_told() -> None:
    world = ready()
    world.fail_over(0)
    world.write(30)
    world.ship()
    world.histories.clear()
    archive = world.archive()
    choice = choose(LatestTarget(), archive)
    assert (choice.timeline, [note.caution for note in choice.notes]) == (1, [Caution.UNCONNECTED])
    error = refuse(LatestTarget(), world, 2)
    assert error.code == "RESTORE-003"
    assert error.what == "no backup leads to timeline 2, and its history is not stored"
    with pytest.raises(UsageError, match="RESTORE-009") as raised:
        choose(LatestTarget(), archive, timeline=7)
    assert raised.value.hint == "there are 1, 2"


def test_nothing_can_be_restored_from_nothing() -> None:
    world = World()
    assert refuse(LatestTarget(), world).what == "there is no base backup yet"
    world.back_up(20)
    error = refuse(LatestTarget(), world)
    assert error.what == "no backup has its own WAL: 20261101T000001Z needs all from 0/10 to 0/24"
    world.ship()
    world.judge(0, good=False)
    assert refuse(LatestTarget(), world).what == "every backup is bad"
    assert refuse(LatestTarget(), world).code == "RESTORE-003"


def test_a_bad_backup_is_passed_over_and_refused_when_named() -> None:
    world = ready()
    world.back_up(3)
    world.judge(1, good=False)
    world.write(1)
    world.ship()
    bad, good = world.backups[1], world.backups[0]
    assert choose(LatestTarget(), world.archive()).backup == good
    error = refuse(BackupTarget(bad.id), world)
    assert error.code == "RESTORE-008"
    assert "could not be restored at" in error.what
    assert error.hint == f"the last good one is {good.id}"
    assert refuse(BackupTarget("label-1"), world).where == bad.id


def test_a_backup_is_restored_as_it_is_by_id_or_label() -> None:
    world = ready()
    for name in ("20261126T063101Z", "label-0"):
        choice = choose(BackupTarget(name), world.archive())
        assert (choice.backup, choice.end, choice.notes) == (world.backups[0], 20, ())
        assert render_settings(choice) == {"recovery_target_timeline": "1", "recovery_target": "immediate"}
        assert replay(world, choice) == (world.commits[:1], True)
    with pytest.raises(UsageError, match="RESTORE-007") as raised:
        choose(BackupTarget("x"), world.archive())
    assert raised.value.hint == "the newest are 20261126T063101Z"
    with pytest.raises(UsageError, match="RESTORE-007") as raised:
        choose(BackupTarget("x"), World().archive())
    assert raised.value.hint == "there is none at all"


def test_a_backup_that_cannot_be_used_says_why() -> None:
    world = ready()
    world.back_up(3)
    world.fork(1, 30)
    world.write(1)
    world.ship()
    assert "which timeline 2 left" in refuse(BackupTarget("label-1"), world, 2).what
    assert "some of the WAL from 0/32 to 0/35 is not stored" in refuse(BackupTarget("label-1"), world).what
    world.backups[0] = replace(world.backups[0], system_id="6")
    error = refuse(BackupTarget("label-0"), world)
    assert "another database" in error.what
    assert error.hint == "no other one is known to be good"


def test_a_backup_whose_end_is_left_in_a_copy_only_is_restored_along_the_newer_timeline() -> None:
    world = World()
    world.back_up(4)
    world.fail_over(0)
    world.write(20)
    world.ship()
    assert choose(BackupTarget("label-0"), world.archive()).timeline == 2


def test_a_backup_that_nobody_tried_is_told() -> None:
    world = ready()
    world.backups[0] = replace(world.backups[0], verified=None)
    assert [note.caution for note in choose(LatestTarget(), world.archive()).notes] == [Caution.UNVERIFIED]


def test_a_transaction_without_its_epoch_is_that_near_the_newest_backup() -> None:
    world = ready()
    world.back_up(3)
    world.ship()
    epoch = 5 * 2**32
    world.backups = [
        replace(world.backups[0], next_xid=epoch - 100),
        replace(world.backups[1], next_xid=epoch + 100),
    ]
    archive = world.archive()
    assert choose(XidTarget(2**32 - 50), archive).backup == world.backups[0]
    assert choose(XidTarget(150), archive).backup == world.backups[1]
    assert choose(XidTarget(epoch + 50), archive).backup == world.backups[0]
    world.backups = [replace(one, next_xid=None) for one in world.backups]
    choice = choose(XidTarget(150), world.archive())
    assert choice.backup == world.backups[0], "the oldest, where nobody knows"
    assert render_settings(choice) == {
        "recovery_target_timeline": "1",
        "recovery_target_xid": "150",
        "recovery_target_inclusive": "on",
    }
    assert render_settings(choose(LsnTarget(Lsn(0x20)), archive)) == {
        "recovery_target_timeline": "1",
        "recovery_target_lsn": "0/20",
        "recovery_target_inclusive": "off",
    }


def test_the_choice_of_another_archive_is_no_choice() -> None:
    world = ready()
    choice = choose(LatestTarget(), world.archive())
    world.stored.clear()
    with pytest.raises(ValueError, match="another archive"):
        which_needed(choice, world.archive())
