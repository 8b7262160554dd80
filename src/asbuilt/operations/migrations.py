"""Looks whether the release that serves can live with the migrations that are new in the folder.

During a rollout, and after a way back, it runs on the new tables. Compared is with the files that it was
built of: what was there already has run already. Invariants: only what belongs to a release is read, nothing
is written, and a hint never stands in the way of a release: what can't be read is said and passed over.
"""

from __future__ import annotations

import os
import stat as modes
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Runner
from asbuilt.operations.build import read_mark
from asbuilt.operations.progress import Event
from asbuilt.operations.reading import read_journal
from asbuilt.operations.source import find_names, walk_files
from asbuilt.record.releases import ReleaseRecord, Releases
from asbuilt.spec.migrations.judge import Finding, judge
from asbuilt.spec.migrations.kinds import LARGEST, Kind, find_kind, read_script
from asbuilt.spec.schema import SecretFromFile
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from asbuilt.record.journal import Journal
    from asbuilt.spec.load import Loaded
    from asbuilt.spec.migrations.change import Change
    from asbuilt.spec.migrations.django import Fields
    from asbuilt.values.stage import Stage

_MOST_FILES: Final = 2000
"""Migration files that are looked at, the last by name."""
_MOST_BYTES: Final = 2 * 2**20
"""Of new migrations, and again of those before that they are read with: bounds the time to a few seconds."""
_MOST_TOLD: Final = 20


@dataclass(frozen=True, slots=True)
class Review:
    """What was found.

    Args:
        release: the release that it was compared with; empty where there is none.
        findings: in the order of the files.
        unread: why it couldn't be told; empty when it could.
    """

    release: str = ""
    findings: tuple[Finding, ...] = ()
    unread: str = ""


def review(stage: Stage, loaded: Loaded, journal: Journal | None = None, release: str = "") -> Review:
    """Compare the folder with a release, by default the one that serves.

    Nothing is said where there is no release before, where its files are gone, and where the app runs in
    its own folder (`reload`): there is no older code then.
    """
    app = loaded.spec.environments[stage.environment].app
    folder = stage.project / app.directory
    try:
        record = read_journal(stage, journal, lambda one: _find_record(one, release))
        if record is None or app.reload or _ran_in_place(record) or not folder.is_dir():
            return Review()
        attempt = read_mark(stage.root / "releases" / record.artifact)
        if attempt is None:
            return Review()
        secret_files = [
            stage.project / one.file for one in app.secrets.values() if isinstance(one, SecretFromFile)
        ]
        names = find_names(folder, Runner(find_identity()), secret_files=secret_files)
        found = compare(folder, names, attempt / "app", record.id)
    except AsbuiltError as error:
        return Review(unread=error.what)
    except OSError as error:
        return Review(unread=f"{error.filename or stage.root}: {error.strerror or error}")
    prefix = PurePosixPath(app.directory)
    return Review(record.id, tuple(replace(one, file=str(prefix / one.file)) for one in found))


def _find_record(journal: Journal, release: str) -> ReleaseRecord | None:
    releases = Releases(journal)
    return releases.get(release) if release else releases.current()


def _ran_in_place(record: ReleaseRecord) -> bool:
    return bool(record.detail.get("app", {}).get("reload"))


def compare(now: Path, names: Iterable[str], before: Path, release: str) -> list[Finding]:
    """Judge the migrations among `names` of `now` that `before` has not, or has otherwise."""
    old = dict(_read_all(before, walk_files(before)))
    contents = set(old.values())
    fresh = {
        name: text
        for name, text in _read_all(now, names)
        # a file that was moved or renamed is not new
        if old.get(name) != text and (name in old or text not in contents)
    }
    fields: Fields = {}
    known = _read_known(old, fresh, fields)
    scripts = [read_script(name, text, fields) for name, text in _within(fresh)]
    return judge(scripts, release, known=known)


def _read_known(
    old: Mapping[str, str], fresh: Mapping[str, str], fields: Fields
) -> dict[str, tuple[Change, ...]]:
    """What changed files did before; fills `fields` from the older migrations beside new ones."""
    folders = {str(PurePosixPath(name).parent) for name in fresh if find_kind(name) is Kind.PYTHON}
    wanted = {
        name: text
        for name, text in old.items()
        if name in fresh or str(PurePosixPath(name).parent) in folders
    }
    return {name: read_script(name, text, fields).changes for name, text in _within(wanted)}


def _within(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """In the order of their names; only the last of them where they are more than the time allows."""
    kept: list[str] = []
    left = _MOST_BYTES
    for name in sorted(texts, reverse=True):
        left -= len(texts[name])
        if left < 0:
            break
        kept.append(name)
    for name in reversed(kept):
        yield name, texts[name]


def _read_all(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    wanted = [(name, kind) for name in sorted(names) if (kind := find_kind(name)) is not None]
    for name, kind in wanted[-_MOST_FILES:]:
        text = _read(folder / name, LARGEST[kind])
        if text is not None:
            yield name, text


def _read(path: Path, most: int) -> str | None:
    """The text of a plain file; None for a link, a pipe, something too large, or no text."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # a link; or tracked, and deleted in the work tree
        return None
    state = os.fstat(file)
    if not modes.S_ISREG(state.st_mode) or state.st_size > most:
        os.close(file)
        return None
    with os.fdopen(file, "rb") as opened:
        content = opened.read(most)
    return None if b"\0" in content else content.decode("utf-8-sig", errors="replace")


def render_events(found: Review, environment: str) -> Iterator[Event]:
    """What a release tells of it, before it migrates."""
    for one in found.findings[:_MOST_TOLD]:
        yield Event("note", "", one.render(), data={"migration": one.to_json()})
    more = len(found.findings) - _MOST_TOLD
    if more > 0:
        yield Event("note", "", f"and {more} more of new migrations: asbuilt check {environment} shows all")
    if found.unread:
        yield Event("note", "", f"new migrations were not compared with the release before: {found.unread}")
