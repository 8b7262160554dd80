"""Releases as the owner sees them, and their second copy in small files: a lost journal is no loss.

A release is an artifact (build) plus configuration. The same two give the same release; nothing is rebuilt.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
import subprocess
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from asbuilt.record.journal import Journal
from asbuilt.record.releases import ReleaseRecord, Releases
from asbuilt.targets.local.files import read_json, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.spec.schema import App
    from asbuilt.values.stage import Stage

_CONFIGURATION = ("command", "directory", "migrate", "health", "env", "secrets", "reload")
_BUILT_WITH = ("build", "python", "node")


def _choose(app: App, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in app.model_dump(mode="json").items() if name in names}


def digest_configuration(app: App) -> str:
    """Digest of what, beside the build, makes a release: how it is started, and with which settings."""
    return hashlib.sha256(json.dumps(_choose(app, _CONFIGURATION), sort_keys=True).encode()).hexdigest()[:16]


def restore_app(record: ReleaseRecord, now: App) -> App:
    """The app as the release was made: its own configuration, and the sizes and times of now."""
    kept = record.detail.get("app")
    if not kept:
        return now
    then = type(now).model_validate({**now.model_dump(mode="json"), **kept})
    # the others as they are: a value that was written and read may differ in its type, and so in its digest
    return now.model_copy(update={name: getattr(then, name) for name in kept})


def choose_release(stage: Stage, journal: Journal, artifact: str, app: App) -> ReleaseRecord:
    """The release of this build and configuration: the one on record, else a new one with the next number."""
    releases = Releases(journal)
    folder = stage.root / "releases"
    if journal.rebuilt:
        _restore(releases, folder)
    digest = digest_configuration(app)
    found = releases.find(artifact, digest)
    if found is not None:
        return found
    made = releases.create(
        artifact,
        created_by=f"{_user()}@{socket.gethostname()}",
        config_digest=digest,
        git_commit=find_commit(stage.project),
        detail={"app": _choose(app, (*_CONFIGURATION, *_BUILT_WITH))},
    )
    folder.mkdir(exist_ok=True)
    copy = {
        "schema": 1,
        "number": made.number,
        "artifact": made.artifact,
        "created_by": made.created_by,
        "config_digest": made.config_digest,
        "git_commit": made.git_commit,
        "detail": made.detail,
    }
    write_atomically(folder / f"{made.id}.json", json.dumps(copy, indent=1), durable=True)
    return made


def foresee_release(stage: Stage, artifact: str, app: App) -> str:
    """The id that `choose_release` would give, without writing anything."""
    rows = list_releases(stage)
    digest = digest_configuration(app)
    for row in rows:
        if (row["artifact"], row["config_digest"]) == (artifact, digest):
            return str(row["id"])
    return f"r{max((int(row['id'][1:]) for row in rows), default=0) + 1}"


def _restore(releases: Releases, folder: Path) -> None:
    """Fill an empty journal from the second copies."""
    known = {record.number for record in releases.all()}
    copies = sorted((found for path in folder.glob("r*.json") if (found := read_json(path))), key=_number)
    for copy in copies:
        if _number(copy) not in known:
            releases.create(
                str(copy["artifact"]),
                created_by=str(copy["created_by"]),
                config_digest=str(copy["config_digest"]),
                git_commit=str(copy["git_commit"]),
                detail=copy.get("detail", {}),
                at_least=_number(copy),
            )


def _number(copy: dict[str, Any]) -> int:
    return int(copy["number"])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def find_commit(folder: Path) -> str:
    """The git commit of the folder, with `+` when files differ from it; empty where git does not know."""
    try:
        said = [
            subprocess.run(
                ["git", "-C", str(folder), *words],  # noqa: S607 - the owner's git, wherever it is
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for words in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--", "."))
        ]
    except (OSError, subprocess.SubprocessError):
        return ""
    return said[0] + ("+" if said[1] else "")


def list_releases(stage: Stage) -> list[dict[str, Any]]:
    """All releases of an environment, newest first, as JSON values."""
    path = stage.root / "journal.sqlite"
    if not path.exists():
        return []
    journal = Journal.open(path, clock=time.time)
    try:
        return [
            {
                "id": one.id,
                "state": str(one.state),
                "artifact": one.artifact,
                "created": datetime.fromtimestamp(one.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "created_by": one.created_by,
                "git_commit": one.git_commit,
                "config_digest": one.config_digest,
            }
            for one in Releases(journal).all()
        ]
    finally:
        journal.close()
