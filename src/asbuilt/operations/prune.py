"""Deletes builds that nobody needs any more, so that a disk does not fill with releases.

Invariant: the builds of the active release, of the last good one before it and of running workloads stay, and
beside them the newest few, to go back to. Called inside of an operation, so no build is being made meanwhile.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from asbuilt.operations.build import remove_build
from asbuilt.record.releases import ReleaseState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from asbuilt.observe.snapshot import Snapshot
    from asbuilt.record.releases import ReleaseRecord

KEPT_BUILDS: Final = 5
"""Builds kept beside those in use."""
_BUILD: Final = re.compile(r"[0-9a-f]{16}")


def prune_builds(releases_dir: Path, releases: Sequence[ReleaseRecord], active: str, seen: Snapshot) -> int:
    """Delete old builds; how many there were.

    Args:
        releases_dir: where builds are kept.
        releases: all releases, newest first.
        active: id of the one that takes traffic.
        seen: what runs.
    """
    there = [path.name for path in releases_dir.iterdir() if _BUILD.fullmatch(path.name) and path.is_dir()]
    needed = {active, *(one.release for one in seen.workloads.values() if one.release)}
    number = next((one.number for one in releases if one.id == active), 0)
    before = (one.id for one in releases if one.state is ReleaseState.RETIRED and one.number < number)
    needed.add(next(before, active))
    in_use = [one.artifact for one in releases if one.id in needed]
    old = choose_old_builds(there, in_use, [one.artifact for one in releases])
    for name in old:
        remove_build(releases_dir / name)
        (releases_dir / f"{name}.log").unlink(missing_ok=True)
    return len(old)


def choose_old_builds(there: Iterable[str], in_use: Iterable[str], newest_first: Iterable[str]) -> list[str]:
    """The builds to delete: not in use, and not among the newest `KEPT_BUILDS` others. Sorted."""
    present, used = set(there), set(in_use)
    others = [name for name in dict.fromkeys(newest_first) if name in present - used]
    return sorted(present - used - set(others[:KEPT_BUILDS]))
