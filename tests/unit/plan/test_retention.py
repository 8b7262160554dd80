from __future__ import annotations

import copy
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asbuilt.plan.archive import Archive, build_archive, find_gaps
from asbuilt.plan.basebackup import BaseBackup
from asbuilt.plan.choice import choose
from asbuilt.plan.keeping import Policy
from asbuilt.plan.replay import which_needed
from asbuilt.plan.retention import Prune, decide_prune
from asbuilt.plan.stored import SegmentName, Stored, parse_key, render_piece_key, render_segment_key
from asbuilt.plan.target import BackupTarget, LatestTarget
from asbuilt.plan.timelines import Fork, Timelines
from asbuilt.plan.wal import Lsn, Segment
from asbuilt.plan.windows import find_windows, windows_along
from asbuilt.values.units import Duration
from support.wal_worlds import SIZE, World, worlds

SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
DAY = 86400
policies = st.builds(
    Policy,
    st.sampled_from([1, 3600, DAY, 3 * DAY, 30 * DAY]).map(Duration),
    st.none() | st.sampled_from([DAY, 10 * DAY, 400 * DAY]).map(Duration),
)
delays = st.sampled_from([0, 3600, DAY, 40 * DAY, 4000 * DAY])


def remove(world: World, backups: tuple[str, ...], wal: tuple[str, ...]) -> World:
    """The world with these removed."""
    left = copy.copy(world)
    left.backups = [one for one in world.backups if one.id not in backups]
    left.stored = {key: one for key, one in world.stored.items() if key not in wal}
    return left


def newest(world: World) -> datetime:
    return max([one.at for one in world.stored.values()] + [one.ended for one in world.backups])


@SLOW
@given(worlds(most=40), policies, delays)
def test_what_was_reachable_within_the_retention_stays_so(world: World, policy: Policy, delay: int) -> None:
    now = world.clock + timedelta(seconds=delay)
    before = world.archive()
    prune = decide_prune(before, policy, now)
    after = remove(world, prune.backups, prune.wal).archive()
    edge = now - timedelta(seconds=policy.retention.seconds)
    for timeline in before.known:
        left = windows_along(after, timeline)
        for window in windows_along(before, timeline):
            if window.ended < edge:
                continue
            assert any(
                one.end == window.end
                and one.began <= max(edge, window.began)
                and one.ended == window.ended
                and one.complete == window.complete
                for one in left
            )


@SLOW
@given(worlds(most=40), policies, delays)
def test_what_a_backup_is_kept_for_stays_reachable_from_it(world: World, policy: Policy, delay: int) -> None:
    before = world.archive()
    prune = decide_prune(before, policy, world.clock + timedelta(seconds=delay))
    after = remove(world, prune.backups, prune.wal).archive()
    assert {one.id for one in before.backups} == {*prune.backups, *prune.kept}
    for timeline in before.known:
        left = {one.id: window.end for window in windows_along(after, timeline) for one in window.backups}
        for window in windows_along(before, timeline):
            for one in window.backups:
                alone = prune.kept.get(one.id) in {"the one of its month", "marked for the long term"}
                if one.id in prune.kept and not alone:
                    assert left[one.id] == window.end
    for window in find_windows(before):
        for one in window.backups:
            if one.id in prune.kept:
                choice = choose(BackupTarget(one.id), after)
                assert which_needed(choice, after)


@SLOW
@given(worlds(most=40), policies, delays, st.data())
def test_pruning_twice_is_pruning_once(world: World, policy: Policy, delay: int, data: st.DataObject) -> None:
    now = world.clock + timedelta(seconds=delay)
    prune = decide_prune(world.archive(), policy, now)
    assert len({*prune.backups, *prune.wal}) == len(prune.backups) + len(prune.wal)
    assert {*prune.wal} <= world.stored.keys()
    assert {*prune.backups, *prune.wal} == prune.why.keys()
    twice = decide_prune(remove(world, prune.backups, prune.wal).archive(), policy, now)
    assert (twice.backups, twice.wal, twice.kept) == ((), (), prune.kept)
    stopped = data.draw(st.integers(0, len(prune.backups) + len(prune.wal)))
    done = [*prune.backups, *prune.wal][:stopped]
    gone = remove(world, tuple(done[: len(prune.backups)]), tuple(done[len(prune.backups) :]))
    rest = decide_prune(gone.archive(), policy, now)
    assert [*rest.backups, *rest.wal] == [one for one in [*prune.backups, *prune.wal] if one not in done]


@SLOW
@given(worlds(most=40), policies, delays, st.integers(0, 300))
def test_with_a_backup_under_way_nothing_of_it_goes(
    world: World, policy: Policy, delay: int, start: int
) -> None:
    now = world.clock + timedelta(seconds=delay)
    prune = decide_prune(world.archive(), policy, now, Lsn(start))
    for key in prune.wal:
        name = parse_key(key, SIZE)
        assert isinstance(name, SegmentName)
        superseded = prune.why[key] == "the whole segment is stored"
        assert superseded or (name.number + 1) * SIZE <= start
    everything = decide_prune(world.archive(), policy, now)
    assert {*prune.wal} <= {*everything.wal}
    assert prune.kept == everything.kept


@SLOW
@given(worlds(most=40), policies, delays)
def test_there_is_always_a_backup_left(world: World, policy: Policy, delay: int) -> None:
    archive = world.archive()
    prune = decide_prune(archive, policy, world.clock + timedelta(seconds=delay))
    if archive.backups:
        assert archive.backups[-1].id in prune.kept
    good = [one for one in archive.usable if one.good]
    if good:
        assert any(one.id in prune.kept for one in good)
    if not archive.usable:
        assert (prune.backups, prune.wal) == ((), ())
    windows = find_windows(archive)
    if windows:
        assert find_windows(remove(world, prune.backups, prune.wal).archive())[-1].end == windows[-1].end


@SLOW
@given(worlds(most=40), policies)
def test_nothing_ages_while_nothing_new_is_stored(world: World, policy: Policy) -> None:
    if not world.stored:
        return
    archive = world.archive()
    at_once = decide_prune(archive, policy, newest(world))
    assert decide_prune(archive, policy, newest(world) + timedelta(days=4000)) == at_once


MONTH = Policy(Duration(30 * DAY), Duration(365 * DAY))


def daily(days: int) -> World:
    """A backup each day and a commit after it, all stored."""
    world = World(clock=datetime(2026, 1, 1, 6, tzinfo=UTC))
    for _ in range(days):
        world.back_up(4)
        world.judge(len(world.backups) - 1, good=True)
        world.write(20)
        world.ship()
        world.wait(DAY - 5)
    return world


def unneeded(prune: Prune) -> list[int]:
    """Numbers of the segments that go because nothing needs them."""
    names = [parse_key(key, SIZE) for key in prune.wal if prune.why[key] == "no backup that is kept needs it"]
    return [name.number for name in names if isinstance(name, SegmentName)]


def days_of(prune: Prune) -> list[str]:
    return [one[4:8] for one in prune.backups]


def test_the_backup_that_leads_into_the_retention_stays() -> None:
    world = daily(36)
    prune = decide_prune(world.archive(), replace(MONTH, long_term=None), world.clock - timedelta(hours=23))
    assert days_of(prune) == ["0101", "0102", "0103", "0104", "0105"]
    assert prune.kept["20260106T060001Z"] == "the last 30d begin with it"
    assert prune.kept["20260107T060001Z"] == "younger than 30d"
    assert max(unneeded(prune)) + 1 == world.backups[5].start // SIZE
    assert prune.why[prune.backups[0]] == "older than 30d, and nothing in that time needs it"


def test_one_backup_a_month_stays_alone_for_the_long_term() -> None:
    world = daily(100)
    archive = world.archive()
    prune = decide_prune(archive, MONTH, world.clock)
    alone = [one for one, why in prune.kept.items() if why == "the one of its month"]
    assert alone == ["20260101T060001Z", "20260201T060001Z", "20260301T060001Z"]
    left = remove(world, prune.backups, prune.wal)
    after = left.archive()
    windows = find_windows(after)
    assert len(windows) == 4
    for name in alone:
        choice = choose(BackupTarget(name), after)
        parts = which_needed(choice, after)
        assert len(parts) == choice.backup.stop // SIZE - choice.backup.start // SIZE + 1
    # nothing of the months before but what these three need
    old = [key for key in left.stored if left.stored[key].at < world.backups[68].began]
    assert len({key[13:37] for key in old}) == sum(
        1 + (one.stop - 1) // SIZE - one.start // SIZE for one in archive.backups if one.id in alone
    )


def test_a_backup_marked_for_the_long_term_stands_for_its_month() -> None:
    world = daily(70)
    world.backups[10] = replace(world.backups[10], long_term=True)
    prune = decide_prune(world.archive(), MONTH, world.clock)
    assert prune.kept["20260111T060001Z"] == "marked for the long term"
    assert "20260101T060001Z" in prune.backups
    prune = decide_prune(world.archive(), replace(MONTH, long_term=None), world.clock)
    assert "20260111T060001Z" in prune.kept, "its owner marked it"
    prune = decide_prune(world.archive(), replace(MONTH, long_term=Duration(40 * DAY)), world.clock)
    assert "20260111T060001Z" in prune.backups


def test_the_first_good_backup_of_a_month_stands_for_it() -> None:
    world = daily(70)
    for index in range(5):
        world.backups[index] = replace(world.backups[index], verified=None)
    prune = decide_prune(world.archive(), MONTH, world.clock)
    assert prune.kept["20260106T060001Z"] == "the one of its month"
    assert "20260101T060001Z" in prune.backups


def test_the_newest_good_backup_stays_whatever_its_age() -> None:
    world = daily(60)
    for index in range(3, 60):
        world.backups[index] = replace(world.backups[index], verified=None)
    prune = decide_prune(world.archive(), replace(MONTH, long_term=None), world.clock)
    assert prune.kept["20260103T060001Z"] == "the newest that is known to be good"
    after = remove(world, prune.backups, prune.wal).archive()
    assert find_windows(after)[0].start == world.backups[2].stop


def test_nothing_goes_while_every_backup_is_bad() -> None:
    world = daily(60)
    for index in range(60):
        world.judge(index, good=False)
    prune = decide_prune(world.archive(), MONTH, world.clock)
    assert (prune.backups, prune.wal) == ((), ())
    assert {*prune.kept.values()} == {"there is no usable backup"}
    empty = decide_prune(World().archive(), MONTH, world.clock)
    assert empty == Prune((), (), {}, {})


def test_while_the_start_of_a_backup_is_not_known_no_wal_goes() -> None:
    world = daily(60)
    archive = world.archive()
    assert unneeded(decide_prune(archive, MONTH, world.clock, Lsn(0))) == []
    start = world.backups[3].start
    assert max(unneeded(decide_prune(archive, MONTH, world.clock, start))) + 1 == start // SIZE


def test_pieces_go_an_hour_after_their_whole_segment() -> None:
    world = World()
    world.back_up(4)
    world.ship()
    world.write(20)
    world.ship()
    pieces = [key for key in world.stored if key.endswith("000001.00000000-00000004.zst.age")]
    assert decide_prune(world.archive(), MONTH, world.clock + timedelta(days=1)).wal == (), (
        "nothing new since"
    )
    world.wait(3700)
    world.write(1)
    world.ship()
    prune = decide_prune(world.archive(), MONTH, world.clock)
    assert [*prune.wal] == pieces
    assert prune.why[pieces[0]] == "the whole segment is stored"


def test_wal_of_a_timeline_without_its_history_stays_as_long_as_a_backup() -> None:
    world = daily(3)
    world.fail_over(0)
    world.write(40)
    world.ship()
    history = world.histories.pop(2)
    short = Policy(Duration(DAY / 2))
    prune = decide_prune(world.archive(), short, world.clock)
    assert not [key for key in prune.wal if key.startswith("wal/00000002")]
    world.timeline, world.end, world.shipped = 1, world.ends[1], world.ends[1]
    world.wait(DAY)
    world.write(30)
    world.ship()
    assert [
        key for key in decide_prune(world.archive(), short, world.clock).wal if key.startswith("wal/00000002")
    ]
    world.histories[2] = history
    prune = decide_prune(world.archive(), short, world.clock)
    assert not [key for key in prune.wal if key.startswith("wal/00000002")], "the newest backup leads to it"


def test_an_abandoned_timeline_goes_with_the_last_backup_that_leads_to_it() -> None:
    world = daily(3)
    lost = world.end - 30
    world.fork(1, lost)
    for _ in range(4):
        world.back_up(4)
        world.judge(len(world.backups) - 1, good=True)
        world.write(20)
        world.ship()
        world.wait(DAY - 4)
    short = Policy(Duration(2 * DAY))
    assert [one.timeline for one in find_windows(world.archive())] == [1, 2]
    prune = decide_prune(world.archive(), short, world.clock)
    left = remove(world, prune.backups, prune.wal)
    assert [one.timeline for one in find_windows(left.archive())] == [2]
    assert not [key for key in left.stored if key.startswith("wal/00000001")]


def large(count: int) -> Archive:
    """So many segments; pieces of each hundredth, a backup for ten thousand, a fork after fifty thousand."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    stored: list[Stored] = []
    backups: list[BaseBackup] = []
    for number in range(count):
        timeline = number // 50_000 + 1
        segment = Segment(timeline, number)
        at = begin + timedelta(seconds=30 * number)
        stored.append(Stored(render_segment_key(segment), 100, None, at))
        if number % 100 == 0:
            stored.append(Stored(render_piece_key(segment, 0, 4096), 100, None, at))
        if number % 10_000 == 5000:
            ended = at + timedelta(seconds=90)
            start, stop = segment.start.plus(40), segment.next.end
            name = at.strftime("%Y%m%dT%H%M%SZ")
            backups.append(
                BaseBackup(name, "", timeline, start, stop, at, ended, 1, 1, "", "16.14", "7", "m")
            )
    forks = tuple(Fork(one, Segment(one, 50_000 * one).start.plus(9)) for one in range(1, count // 50_000))
    return build_archive(stored, backups, Timelines({forks[-1].timeline + 1: forks}))


@pytest.mark.parametrize("count", [100_000])
def test_many_segments_take_seconds(count: int) -> None:
    begin = time.process_time()
    archive = large(count)
    (window,) = find_windows(archive)
    assert len(window.backups) == count // 10_000
    assert find_gaps(archive, count // 50_000) == ()
    assert len(which_needed(choose(LatestTarget(), archive), archive)) == 5000
    prune = decide_prune(archive, Policy(Duration(10 * DAY)), archive.backups[-1].ended)
    assert len(prune.backups) > count // 20_000
    assert len(prune.wal) > count // 2
    assert time.process_time() - begin < 30
