"""Folders that belong to the identity which the engines run as."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.exec.identity import Identity


def make_folder(identity: Identity, folder: Path) -> Path:
    """Make `folder` (0700, with its parents) for `identity`. Returns it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    give(identity, folder)
    return folder


def give(identity: Identity, folder: Path) -> None:
    """Hand a folder and what is directly in it to `identity`, where that is another user than ours."""
    if identity.uid == os.geteuid():
        return
    for path in (folder, *folder.iterdir()):
        os.chown(path, identity.uid, identity.gid, follow_symlinks=False)
