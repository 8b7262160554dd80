"""The drills there are, in the order in which `--all` runs them: what hurts least comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asbuilt.operations.drill.drills.all_app_servers_lost import ALL_APP_SERVERS_LOST
from asbuilt.operations.drill.drills.app_server_lost import APP_SERVER_LOST
from asbuilt.operations.drill.drills.backup_restore import BACKUP_RESTORE
from asbuilt.operations.drill.drills.bad_release import BAD_RELEASE
from asbuilt.operations.drill.drills.cache_primary_lost import CACHE_PRIMARY_LOST
from asbuilt.operations.drill.drills.controller_lost import CONTROLLER_LOST
from asbuilt.operations.drill.drills.data_corruption import DATA_CORRUPTION
from asbuilt.operations.drill.drills.database_and_standby_lost import DATABASE_AND_STANDBY_LOST
from asbuilt.operations.drill.drills.database_primary_lost import DATABASE_PRIMARY_LOST
from asbuilt.operations.drill.drills.disk_full import DISK_FULL
from asbuilt.operations.drill.drills.object_store_lost import OBJECT_STORE_LOST
from asbuilt.values.errors import UsageError

if TYPE_CHECKING:
    from asbuilt.operations.drill.contract import Drill

DRILLS: Final[tuple[Drill, ...]] = (
    CONTROLLER_LOST,
    APP_SERVER_LOST,
    ALL_APP_SERVERS_LOST,
    CACHE_PRIMARY_LOST,
    DATABASE_PRIMARY_LOST,
    DATABASE_AND_STANDBY_LOST,
    OBJECT_STORE_LOST,
    BAD_RELEASE,
    BACKUP_RESTORE,
    DATA_CORRUPTION,
    DISK_FULL,
)


def find_drill(name: str, variant: str | None) -> tuple[Drill, str]:
    """A drill and its variant. Raises UsageError DRILL-002 naming those there are."""
    found = next((one for one in DRILLS if one.name == name), None)
    if found is None:
        names = ", ".join(one.name for one in DRILLS)
        raise UsageError("DRILL-002", f"there is no drill {name!r}", hint=f"there are {names}")
    if variant is None:
        return found, found.variants[0] if found.variants else ""
    if variant not in found.variants:
        said = ", ".join(found.variants) or "none"
        raise UsageError("DRILL-002", f"{name} has no variant {variant!r}", hint=f"it has {said}")
    return found, variant
