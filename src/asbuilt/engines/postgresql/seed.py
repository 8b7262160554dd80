"""The first contents of the database: one initdb, roles, and stopped copies for the replicas.

Invariant: existing data is never initialised again. Everything is built beside its place, synced, and moved
by rename; a marker says that it was done. Killed anywhere, a second run ends with the same result.
"""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asbuilt.engines.folders import give, make_folder
from asbuilt.engines.postgresql.config import APP, MONITOR, REPLICATOR, REWIND, SUPERUSER, quote
from asbuilt.engines.postgresql.sizing import RESERVED
from asbuilt.exec.runner import Command, Runner
from asbuilt.plan.site import Site
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from pathlib import Path


_REWIND_FUNCTIONS: Final = (
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
)
"""All that pg_rewind needs of its source, from PostgreSQL's manual."""
_SINGLE_USER: Final = ("-c", "exit_on_error=on", "-c", "fsync=off", "-c", "shared_buffers=8MB")
"""The first error ends it; the one flush at the end of the seeding makes it durable."""
_TIMEOUT = 300.0


@dataclass(frozen=True, slots=True)
class Seed:
    """The seeding of one environment's database.

    Args:
        site: the place.
        nodes: ids of the database nodes; the first becomes the primary.
        max_connections: of the spec, for the app's own limit.
        runner: runs initdb and postgres.
    """

    site: Site
    nodes: tuple[str, ...]
    max_connections: int
    runner: Runner

    @property
    def marker(self) -> Path:
        """Exists once the database was seeded."""
        return self.site.root / "database.seeded"

    @property
    def built(self) -> Path:
        """Exists while complete seeds wait to be moved into place."""
        return self.site.root / "database.seed-built"

    def data(self, node: str) -> Path:
        """A node's data directory."""
        return self.site.node_dir(node) / "data"

    def has_data(self, node: str) -> bool:
        """Whether there is a database in it."""
        return (self.data(node) / "PG_VERSION").exists()

    def satisfied(self) -> bool:
        """Whether it was done and something of it is still there. Changes nothing."""
        return self.marker.exists() and any(self.has_data(node) for node in self.nodes)

    def run(self) -> None:
        """Do it. Raises AsbuiltError DATABASE-001 when data that was there is gone from every node."""
        if not self.marker.exists():
            if not self.built.exists() and not any(self.has_data(node) for node in self.nodes):
                self._build()
                _write_marker(self.built)
            self._place()
            _write_marker(self.marker)
        self.built.unlink(missing_ok=True)
        if not any(self.has_data(node) for node in self.nodes):
            raise AsbuiltError(
                "DATABASE-001",
                "the data of every database node is gone, and an empty database would hide that",
                where=", ".join(str(self.data(node)) for node in self.nodes),
                hint="put the data back, or start anew with: asbuilt down --delete-data",
            )

    def _seed_of(self, node: str) -> Path:
        return self.site.node_dir(node) / "data.seed"

    def _build(self) -> None:
        first, *others = self.nodes
        for node in self.nodes:
            make_folder(self.runner.identity, self.site.node_dir(node))
            shutil.rmtree(self._seed_of(node), ignore_errors=True)
        seed = self._seed_of(first)
        self._initialise(seed)
        self._make_roles(seed)
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(lambda node: self._copy(seed, self._seed_of(node)), others))
        # one flush for the whole file system: initdb and cp left everything to the kernel so far
        self._run("sync", "-f", str(seed))

    def _copy(self, seed: Path, target: Path) -> None:
        self._run("cp", "-a", "--reflink=auto", "--", str(seed), str(target))
        self._run("touch", "--", str(target / "standby.signal"))

    def _place(self) -> None:
        for node in self.nodes:
            seed = self._seed_of(node)
            if (seed / "PG_VERSION").exists() and not self.has_data(node):
                seed.rename(self.data(node))
                _sync_folder(self.site.node_dir(node))

    def _initialise(self, data: Path) -> None:
        password_file = data.with_name("data.seed-password")
        try:
            descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(self.site.secret("database.superuser").reveal() + "\n")
            give(self.runner.identity, data.parent)
            self._run(
                self._program("initdb"),
                f"--pgdata={data}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--data-checksums",
                "--no-sync",
                "--no-instructions",
            )
        finally:
            password_file.unlink(missing_ok=True)

    def _make_roles(self, data: Path) -> None:
        secrets = {role: self.site.secret(f"database.{role}") for role in (REPLICATOR, REWIND, APP, MONITOR)}
        statements = render_roles(
            {role: value.reveal() for role, value in secrets.items()}, self.max_connections - RESERVED
        )
        for database, text in (("postgres", statements), (APP, render_app_grants())):
            said = self.runner.run(
                Command(
                    (
                        self._program("postgres"),
                        "--single",
                        "-D",
                        str(data),
                        *_SINGLE_USER,
                        database,
                    ),
                    env=tuple(self.site.tools["postgresql"].env.items()),
                    stdin=text,
                    cwd=str(data),
                    timeout=_TIMEOUT,
                )
            )
            # the statement that failed may hold a password, so only the codes of the message are told
            if re.search(r"\b(ERROR|FATAL|PANIC):", said.stderr):
                raise AsbuiltError(
                    "DATABASE-002", "the roles of the database could not be made", where=str(data)
                )

    def _program(self, name: str) -> str:
        return self.site.tools["postgresql"].programs[name]

    def _run(self, *argv: str) -> None:
        env = tuple(self.site.tools["postgresql"].env.items())
        self.runner.run(Command(argv, env=env, timeout=_TIMEOUT))


def render_roles(passwords: dict[str, str], app_connections: int) -> str:
    """SQL for the single-user mode of database postgres: one statement a line, without semicolons needed."""
    attributes = {
        REPLICATOR: "REPLICATION LOGIN",
        REWIND: "LOGIN",
        MONITOR: f"LOGIN CONNECTION LIMIT {RESERVED // 2}",
        APP: f"LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT {app_connections}",
    }
    lines = [
        f"CREATE ROLE {role} {attributes[role]} PASSWORD {quote(passwords[role])};" for role in attributes
    ]
    lines += [f"GRANT EXECUTE ON FUNCTION {function} TO {REWIND};" for function in _REWIND_FUNCTIONS]
    lines += [
        f"GRANT pg_monitor TO {MONITOR};",
        f"CREATE DATABASE {APP} OWNER {APP} STRATEGY FILE_COPY;",
        "REVOKE ALL ON DATABASE postgres FROM PUBLIC;",
        "REVOKE ALL ON DATABASE template1 FROM PUBLIC;",
        f"GRANT CONNECT ON DATABASE postgres TO {REWIND}, {MONITOR};",
        f"REVOKE ALL ON DATABASE {APP} FROM PUBLIC;",
        f"GRANT CONNECT ON DATABASE {APP} TO {MONITOR};",
    ]
    return "".join(f"{line}\n" for line in lines)


def render_app_grants() -> str:
    """SQL for the single-user mode of the app's database: its schema is the app's own."""
    return f"ALTER SCHEMA public OWNER TO {APP};\n"


def _write_marker(path: Path) -> None:
    with path.open("w") as file:
        file.write("1\n")
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
