"""The explicit list of engines. Adding one: its folder, a line here, its tests, its page in the docs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asbuilt.engines.app.engine import AppEngine
from asbuilt.engines.backup.engine import BackupEngine
from asbuilt.engines.etcd.engine import EtcdEngine
from asbuilt.engines.files.engine import FilesEngine
from asbuilt.engines.haproxy.engine import HaproxyEngine
from asbuilt.engines.postgresql.engine import PostgresqlEngine
from asbuilt.engines.redis.engine import RedisEngine
from asbuilt.engines.seaweedfs.engine import SeaweedfsEngine

if TYPE_CHECKING:
    from asbuilt.engines.contract import Engine

ENGINES: Final[tuple[Engine, ...]] = (
    EtcdEngine(),
    PostgresqlEngine(),
    RedisEngine(),
    SeaweedfsEngine(),
    FilesEngine(),
    HaproxyEngine(),
    AppEngine(),
    BackupEngine(),
)
