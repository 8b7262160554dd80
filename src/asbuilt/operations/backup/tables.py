"""Copies tables of the restored copy back into the database.

Invariant: nothing that is in the database is replaced. What is there already can be copied beside it under
another name, to be compared and merged by who knows the data.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from asbuilt.engines.backup.engine import sidecar_dir
from asbuilt.engines.postgresql.config import APP, SUPERUSER
from asbuilt.exec.runner import Command
from asbuilt.operations.backup.context import Backups, fail
from asbuilt.operations.backup.sidecar import SUBJECT, SideCar
from asbuilt.operations.progress import told
from asbuilt.values.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TIMEOUT: Final = 24 * 3600.0
_OWNED: Final = (
    "SELECT c.relname FROM pg_depend d JOIN pg_class c ON c.oid = d.objid"
    " WHERE d.refobjid = to_regclass(%s) AND c.relkind = 'S' AND d.deptype IN ('a', 'i')"
)
"""Sequences that belong to columns of a table."""


def copy_tables(backups: Backups, tables: tuple[str, ...], suffix: str = "") -> tuple[str, ...]:
    """Copy each under its name, or with a suffix (then without its indexes and constraints).

    Returns their names in the database. Raises RefusedError RESTORE-031 for one that is there, and
    AsbuiltError RESTORE-033 for one that is not in the copy.
    """
    site = backups.prepared.site
    sidecar = SideCar(backups, sidecar_dir(site), site.addresses["backup-1"], site.ports["postgresql"])
    plans = [_split(table, suffix) for table in tables]
    for schema, name, new in plans:
        _refuse(backups, sidecar, schema, name, new)
    for schema, name, new in plans:
        with told(backups.tell, SUBJECT, f"copy {schema}.{new} back"):
            _copy(backups, sidecar, schema, name, new)
    return tuple(f"{schema}.{new}" for schema, _, new in plans)


def _split(table: str, suffix: str) -> tuple[str, str, str]:
    schema, _, name = table.rpartition(".")
    return schema or "public", name, f"{name}{suffix}"


def _refuse(backups: Backups, sidecar: SideCar, schema: str, name: str, new: str) -> None:
    with sidecar.connect(APP) as copy:
        if not _has(copy, schema, name):
            raise fail(
                "RESTORE-033",
                f"there is no table {schema}.{name} in the restored copy",
                hint="asbuilt connect psql --sidecar -- -c '\\dt *.*' lists them",
            )
    with backups.admin.connect_primary(database=APP) as primary:
        if _has(primary, schema, new):
            raise RefusedError(
                "RESTORE-031",
                f"{schema}.{new} is in the database, and nothing that is there is replaced",
                hint="--suffix _restored copies it beside under another name",
            )


def _has(connection: Any, schema: str, name: str) -> bool:  # noqa: ANN401 - a psycopg connection
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (_quoted(schema, name),)).fetchone()
    return bool(row and row[0])


def _quoted(schema: str, name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in (schema, name))


def _copy(backups: Backups, sidecar: SideCar, schema: str, name: str, new: str) -> None:
    folder = backups.stage.root / "table-copy"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        with _renamed(sidecar, schema, name, new):
            sections = () if new == name else ("--section=pre-data", "--section=data")
            words = ("-Fc", "-Z0", *sections, "-t", _quoted(schema, new), "-f", str(folder / "table"))
            _run(backups, "pg_dump", sidecar.host, sidecar.port, words)
        _restore(backups, folder / "table")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _restore(backups: Backups, dump: Path) -> None:
    site, leader = backups.prepared.site, backups.admin.leader()
    if leader is None:
        raise fail("DATABASE-010", "there is no primary now", hint="asbuilt status shows what runs")
    words = ("--single-transaction", "--exit-on-error", str(dump))
    _run(backups, "pg_restore", site.addresses[leader], site.ports["postgresql"], words)


def _run(backups: Backups, program: str, host: str, port: int, words: tuple[str, ...]) -> None:
    tools = backups.prepared.site.tools["postgresql"]
    if program not in tools.programs:
        raise fail("ENGINE-001", f"{program} is not installed", hint="apt install postgresql-client")
    command = Command(
        (tools.programs[program], "-h", host, "-p", str(port), "-U", SUPERUSER, "-d", APP, "-w", *words),
        env=tuple(tools.env.items()),
        secret_env=(("PGPASSWORD", backups.secret("database.superuser")),),
        timeout=_TIMEOUT,
        unprivileged=False,
    )
    backups.prepared.runner.run(command)


@contextmanager
def _renamed(sidecar: SideCar, schema: str, name: str, new: str) -> Iterator[None]:
    """Under its new name in the copy, which is ours, so that the dump has it; with its sequences."""
    if new == name:
        yield
        return
    from psycopg import sql  # noqa: PLC0415 - slow to import

    suffix = new.removeprefix(name)
    with sidecar.connect(APP) as copy:
        owned = [str(row[0]) for row in copy.execute(_OWNED, (_quoted(schema, name),)).fetchall()]
        moves = [("TABLE", name, new), *(("SEQUENCE", one, f"{one}{suffix}") for one in owned)]

        def rename(kind: str, before: str, after: str) -> None:
            words = sql.SQL("ALTER {} {} RENAME TO {}").format(
                sql.SQL(kind), sql.Identifier(schema, before), sql.Identifier(after)
            )
            copy.execute(words)

        for kind, before, after in moves:
            rename(kind, before, after)
        try:
            yield
        finally:
            for kind, before, after in reversed(moves):
                rename(kind, after, before)
