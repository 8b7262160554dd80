"""Which database a backup belongs to.

A database that is made anew writes another log under the same names. So everything of one is kept below its
system identifier, which it has from its making on and takes along through every restore. Invariant: two
databases never write under the same key.
"""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asbuilt.operations.backup.place import open_place
from asbuilt.values.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from asbuilt.engines.backup.settings import BackupSettings
    from asbuilt.values.secret import Secret

_CONTROL: Final = Path("global") / "pg_control"
_FOLDER: Final = "systems/"


def find_system(settings: BackupSettings) -> str:
    """The identifier of the database here: the first eight bytes of its control file. Empty for none."""
    for data in settings.data:
        with suppress(OSError, struct.error), (Path(data) / _CONTROL).open("rb") as file:
            return str(struct.unpack("<Q", file.read(8))[0])
    return ""


def note_system(settings: BackupSettings, secret: Callable[[str], Secret], system: str) -> None:
    """Write down in the store that there are backups of this one."""
    open_place(settings, secret, "").put(f"{_FOLDER}{system}", io.BytesIO(f"{system}\n".encode()))


def list_systems(settings: BackupSettings, secret: Callable[[str], Secret]) -> tuple[str, ...]:
    """The identifiers of all databases of this environment that the store has backups of, oldest first."""
    found = [
        (one.modified, one.key.removeprefix(_FOLDER))
        for one in open_place(settings, secret, "").list(_FOLDER)
    ]
    return tuple(system for _, system in sorted(found))


def choose_system(settings: BackupSettings, secret: Callable[[str], Secret], wanted: str | None) -> str:
    """The one that is meant: by default that of the database here.

    Raises RefusedError BACKUP-008 when the store has nothing of the wanted one.
    """
    own = find_system(settings)
    if wanted is None or wanted == own:
        return own
    known = list_systems(settings, secret)
    if wanted not in known:
        raise RefusedError(
            "BACKUP-008",
            f"the store has no backups of a database {wanted}",
            hint=f"it has those of {', '.join(known)}" if known else "it has none",
        )
    return wanted
