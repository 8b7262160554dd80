from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.observe.snapshot import Snapshot
from asbuilt.operations.prune import KEPT_BUILDS, choose_old_builds, prune_builds
from asbuilt.record.journal import Journal
from asbuilt.record.releases import Releases

if TYPE_CHECKING:
    from pathlib import Path


def name_of(number: int) -> str:
    return f"{number:016x}"


def test_builds_in_use_and_the_newest_others_stay() -> None:
    names = [name_of(number) for number in range(10)]
    old = choose_old_builds(names, [names[0]], reversed(names))
    assert old == names[1 : 10 - KEPT_BUILDS]


def test_a_build_of_many_releases_counts_once() -> None:
    names = [name_of(number) for number in range(KEPT_BUILDS + 1)]
    assert choose_old_builds(names, [names[0]], [*names, *names]) == []


def test_what_no_release_knows_goes_and_what_is_gone_is_no_reason_to_fail() -> None:
    assert choose_old_builds([name_of(1), name_of(9)], [name_of(1)], [name_of(1), name_of(5)]) == [name_of(9)]


def test_only_builds_are_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "releases"
    journal = Journal.open(tmp_path / "journal.sqlite", clock=lambda: 1.0)
    try:
        releases = Releases(journal)
        for number in range(KEPT_BUILDS + 3):
            artifact = folder / name_of(number) / "attempt" / "app"
            artifact.mkdir(parents=True)
            (artifact / "main.py").write_text("1")
            artifact.chmod(0o500)
            (folder / f"{name_of(number)}.log").write_text("said")
            releases.create(name_of(number), created_by="me", config_digest="c")
        (folder / "cache").mkdir()
        (folder / "r1.json").write_text("{}")
        assert prune_builds(folder, releases.all(), "r1", Snapshot()) == 2
        assert prune_builds(folder, releases.all(), "r1", Snapshot()) == 0
    finally:
        journal.close()
    left = {path.name for path in folder.iterdir()}
    assert name_of(0) in left, "the active one"
    assert not {name_of(1), name_of(2), f"{name_of(1)}.log"} & left
    assert {name_of(3), "cache", "r1.json"} <= left
