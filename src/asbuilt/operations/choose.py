"""Which release an operation is about: that of the folder, one on record, the last good one.

Invariant: a release on record is never built again, nor seen through the folder or the spec of now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asbuilt.operations.build import Build, find_build, find_finished
from asbuilt.operations.gather import Gathered, recall_app_secrets, resolve_app_secrets
from asbuilt.operations.reading import read_journal
from asbuilt.operations.releases import choose_release, foresee_release, restore_app
from asbuilt.plan.site import Release
from asbuilt.record.releases import ReleaseRecord, Releases, ReleaseState
from asbuilt.values.errors import AsbuiltError, RefusedError

if TYPE_CHECKING:
    from asbuilt.plan.fleet import Fleet
    from asbuilt.record.journal import Journal

TAKEN_BACK: Final = frozenset({ReleaseState.FAILED, ReleaseState.ROLLED_BACK})
"""States of releases that only `deploy` brings again, when it is asked for."""


def find_release(gathered: Gathered, journal: Journal | None) -> tuple[Build, Release]:
    """The release of the folder as it is now: its build, made or to be made, and its number."""
    stage, app = gathered.stage, gathered.environment.app
    made = find_build(stage.project, app, stage.root / "releases", gathered.runner)
    artifact = made.artifact
    if journal is not None:
        number = choose_release(stage, journal, artifact.id, app).id
    else:
        number = foresee_release(stage, artifact.id, app)
    return made, Release(number, artifact.id, artifact.folder, artifact.path, artifact.env)


def remake_release(gathered: Gathered, record: ReleaseRecord) -> Release:
    """A release as it was made: its build, its configuration, its secrets by its own references.

    Raises AsbuiltError RELEASE-003 when its build is gone.
    """
    app = restore_app(record, gathered.environment.app)
    artifact = find_finished(record.artifact, app, gathered.stage.root / "releases", gathered.runner)
    secrets = recall_app_secrets(gathered.stage, app, record.id) if gathered.recall else None
    if secrets is None:
        secrets = resolve_app_secrets(gathered.stage, app, gathered.tell)
    return Release(record.id, artifact.id, artifact.folder, artifact.path, artifact.env, app, secrets)


def find_standing(
    gathered: Gathered, journal: Journal | None, release: str, fleet: Fleet | None
) -> Release | None:
    """The release that `up` leaves in place because the folder's was taken back; None: the folder's."""
    if fleet is None or fleet.stable == release:
        return None
    records = {one.id: one for one in read_journal(gathered.stage, journal, _all_releases) or ()}
    taken_back = release in records and records[release].state in TAKEN_BACK
    return remake_release(gathered, records[fleet.stable]) if taken_back and fleet.stable in records else None


def _all_releases(journal: Journal) -> tuple[ReleaseRecord, ...]:
    return Releases(journal).all()


def get_release(releases: Releases, name: str) -> ReleaseRecord:
    """A release on record by its id. Raises AsbuiltError RELEASE-001."""
    record = releases.get(name)
    if record is None:
        raise AsbuiltError(
            "RELEASE-001",
            f"there is no release {name}",
            hint="`asbuilt releases` lists those there are",
        )
    return record


def find_last_good(releases: Releases, serving: str) -> ReleaseRecord:
    """The newest release before the serving one that served and was not taken back.

    Raises RefusedError DEPLOY-002 where there is none.
    """
    now = releases.get(serving)
    for record in releases.all():
        if record.state is ReleaseState.RETIRED and (now is None or record.number < now.number):
            return record
    raise RefusedError(
        "DEPLOY-002",
        f"there is no release before {serving} to go back to",
        hint="`asbuilt releases` lists those there are; --to names one",
    )
