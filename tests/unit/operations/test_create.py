"""A backup of all parts: what is wrong with one keeps no other from being taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from asbuilt.operations.backup import create as module
from asbuilt.operations.backup.create import choose_parts, create
from asbuilt.values.errors import AsbuiltError, UsageError
from support.copy_yard import CopyYard

if TYPE_CHECKING:
    from pathlib import Path


def failing(code: str) -> Any:  # noqa: ANN401 - takes a backup of any part
    def take(*_: object) -> object:
        raise AsbuiltError(code, "no")

    return take


def test_one_that_fails_keeps_no_other_from_being_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard = CopyYard(tmp_path)
    (yard.files / "a").touch()
    monkeypatch.setitem(module._TAKE, "cache", failing("CACHE-004"))
    found = create(yard.backups, ("cache", "files"), "mine")
    copy = next(found)
    assert (copy.label, copy.clear_size) == ("mine", 0)
    with pytest.raises(AsbuiltError, match="CACHE-004"):
        next(found)


def test_a_store_that_is_away_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yard = CopyYard(tmp_path)
    monkeypatch.setitem(module._TAKE, "cache", failing("STORE-001"))
    with pytest.raises(AsbuiltError, match="STORE-001"):
        next(create(yard.backups, ("cache", "files")))
    assert not list(yard.vault.rglob("backup.json"))


def test_only_what_is_there_can_be_asked_for(tmp_path: Path) -> None:
    yard = CopyYard(tmp_path)
    assert choose_parts(yard.backups, ()) == ("database", "files")
    assert choose_parts(yard.backups, ("files",)) == ("files",)
    with pytest.raises(UsageError, match="BACKUP-013"):
        choose_parts(yard.backups, ("cache",))


def test_files_that_are_not_there_are_told(tmp_path: Path) -> None:
    yard = CopyYard(tmp_path)
    yard.files.rmdir()
    with pytest.raises(AsbuiltError, match="BACKUP-011") as caught:
        next(create(yard.backups, ("files",)))
    assert str(yard.files) in caught.value.evidence
