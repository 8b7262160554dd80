"""Backups for real: taken, tried, restored beside and in place; the log archived to the last second."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from asbuilt.engines.redis.resp import Client
from asbuilt.engines.seaweedfs.admin import Gateway
from asbuilt.engines.seaweedfs.contents import Contents
from asbuilt.engines.seaweedfs.names import REGION
from asbuilt.plan.manifest import Entry
from asbuilt.values.secret import Secret
from support import until
from support.live import TINY_APP, Live, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.exec.streams import Readable

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

SPEC = """\
name: kept
app: {{command: {python} app.py, build: none, instances: 1, memory: 256MB, disk: 1GB}}
database: {{storage: 10GB, replicas: {replicas}, memory: 128MB, backup: {{folder: {folder}, verify: false}}}}
cache: {{replicas: 1, memory: 64MB}}
objects: {{storage: 1GB}}
files: {{storage: 1GB}}
environments: {{production: {{}}}}
"""

CREATE = ("backup", "production", "create", "--only", "database")


def sql(live: Live, text: str, *words: str) -> str:
    """What psql says, one value a line."""
    done = live.run("connect", "production", "psql", *words, "--", "-qAt", "-c", text)
    return done.stdout.strip()


def stored(live: Live) -> dict[str, Any]:
    archive: dict[str, Any] = live.json("backup", "production", "list")["archive"]
    return archive


def archived(live: Live) -> None:
    """Wait until everything that is committed by now is in the store."""
    now = datetime.now(UTC).timestamp()
    until(
        lambda: json.loads((live.root / "backup.json").read_text())["stored_at"] >= now,
        what="the log to be archived",
        within=60,
    )


@pytest.fixture(scope="module")
def live(module_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    project = tmp_path_factory.mktemp("kept")
    (project / "app.py").write_text(TINY_APP)
    folder = module_home / "vault"
    folder.mkdir()
    text = SPEC.format(python=sys.executable, replicas=1, folder=folder)
    (project / "asbuilt.yaml").write_text(text)
    with running(project, "production") as one:
        sql(one, "CREATE TABLE orders(id serial PRIMARY KEY, what text NOT NULL)")
        yield one


@pytest.fixture(scope="module")
def backup(live: Live) -> str:
    """A first backup, with two orders before it and two after."""
    sql(live, "INSERT INTO orders(what) VALUES ('one'), ('two')")
    one = str(live.json(*CREATE, "--label", "first")["backup"]["id"])
    sql(live, "INSERT INTO orders(what) VALUES ('three'), ('four')")
    return one


def test_a_backup_is_listed_and_can_be_tried(live: Live, backup: str) -> None:
    archived(live)
    found = live.json("backup", "production", "list")
    assert [one["id"] for one in found["backups"]] == [backup]
    assert found["backups"][0]["label"] == "first"
    assert len(found["windows"]) == 1
    assert found["archive"]["problem"] == ""
    assert found["archive"]["receiving"] is True
    tried = live.json("backup", "production", "verify", "first")["backup"]["verified"]
    assert tried["good"] is True
    text = live.run("backup", "production", "list")
    assert "good" in text.stdout
    assert "any moment from" in text.stderr


def test_a_copy_beside_has_the_past_and_changes_nothing(live: Live, backup: str) -> None:
    before = sql(live, "SELECT now()")
    archived(live)
    sql(live, "INSERT INTO orders(what) VALUES ('five')")
    archived(live)
    done = live.json("restore", "production", "--to", before)
    assert done["backup"] == backup
    assert sql(live, "SELECT count(*) FROM orders", "--sidecar") == "4"
    assert sql(live, "SELECT count(*) FROM orders") == "5"
    assert live.up()["changed"] is False, "the copy stays"
    files = sorted(path.name for path in (live.root / "nodes" / "backup-1" / "spool").iterdir())
    latest = live.json("restore", "production", "--to", "latest")
    assert sql(live, "SELECT count(*) FROM orders", "--sidecar") == "5"
    assert latest["last_transaction"]
    names = {path.name for path in (Path(os.environ["ASBUILT_HOME"]) / "vault").rglob("*.history.zst.age")}
    assert len(names) <= 1, "the copy's own timeline is not archived"
    assert files
    live.run("restore", "production", "--drop")
    assert "no restored copy" in live.run("connect", "production", "psql", "--sidecar", check=False).stderr


def test_a_dropped_table_comes_back(live: Live, backup: str) -> None:
    assert backup
    sql(
        live,
        "CREATE TABLE lost AS SELECT generate_series(1, 1000) AS id; ALTER TABLE lost ADD PRIMARY KEY (id)",
    )
    sql(live, "INSERT INTO orders(what) VALUES ('six')")
    archived(live)
    good = sql(live, "SELECT now()")
    archived(live)
    sql(live, "DROP TABLE lost; DELETE FROM orders WHERE what = 'six'")
    archived(live)
    done = live.json("restore", "production", "--to", good, "--table", "lost")
    assert done["tables"] == ["public.lost"]
    assert sql(live, "SELECT count(*), max(id) FROM lost") == "1000|1000"
    refused = live.run("restore", "production", "--to", good, "--table", "orders", check=False)
    assert "RESTORE-031" in refused.stderr
    assert refused.returncode == 3
    done = live.json("restore", "production", "--to", good, "--table", "orders", "--suffix", "_then")
    assert done["tables"] == ["public.orders_then"]
    assert sql(live, "SELECT what FROM orders_then EXCEPT SELECT what FROM orders") == "six"
    live.run("restore", "production", "--drop")


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("yesterday", "RESTORE-001"),
        ("2020-01-01T00:00:00Z", "RESTORE-004"),
        ("2999-01-01T00:00:00Z", "RESTORE-005"),
        ("F/0", "RESTORE-005"),
        ("20200101T000000Z", "RESTORE-007"),
    ],
)
def test_what_cannot_be_restored_is_refused_with_what_can(
    live: Live, backup: str, target: str, code: str
) -> None:
    assert backup
    done = live.run("restore", "production", "--to", target, check=False)
    assert code in done.stderr, done.stderr
    assert done.returncode in {2, 3}
    assert not (live.root / "sidecar").exists()


def test_in_place_takes_the_database_back_and_the_present_is_kept(live: Live, backup: str) -> None:
    assert backup
    good = sql(live, "SELECT now()")
    archived(live)
    sql(live, "UPDATE orders SET what = 'broken'")
    archived(live)
    refused = live.run("restore", "production", "--to", good, "--in-place", check=False)
    assert "CONFIRM-001" in refused.stderr
    live.json("restore", "production", "--to", good, "--in-place", "--confirm", "production")
    assert sql(live, "SELECT count(*) FROM orders WHERE what = 'broken'") == "0"
    live.healthy()
    assert live.up()["changed"] is False
    sql(live, "INSERT INTO orders(what) VALUES ('after')")
    assert (live.root / "nodes" / "db-1" / "data.before-restore" / "PG_VERSION").exists()
    labels = [one["label"] for one in live.json("backup", "production", "list")["backups"]]
    assert labels[0] == "before-restore"
    # and the archive goes on, on the timeline that came of it
    live.json(*CREATE, "--label", "after")
    archived(live)
    live.json("restore", "production", "--to", "latest")
    assert sql(live, "SELECT count(*) FROM orders WHERE what = 'after'", "--sidecar") == "1"
    live.run("restore", "production", "--drop")


def test_the_archive_survives_its_process_and_a_failover(live: Live, backup: str) -> None:
    assert backup
    for pid in live.tree("backup-1"):
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    sql(live, "INSERT INTO orders(what) VALUES ('meanwhile')")
    archived(live)
    primary = live.primary("database")
    pid = next(node["pid"] for node in live.status()["nodes"] if node["id"] == primary)
    os.kill(pid, 9)
    until(lambda: _writes(live), what="a primary that takes writes", within=60)
    archived(live)
    live.json("restore", "production", "--to", "latest")
    assert sql(live, "SELECT count(*) FROM orders WHERE what = 'meanwhile'", "--sidecar") == "1"
    assert sql(live, "SELECT count(*) > 0 FROM orders WHERE what = 'again'", "--sidecar") == "t"
    live.run("restore", "production", "--drop")
    live.healthy()


def _writes(live: Live) -> bool:
    words = ("connect", "production", "psql", "--", "-qAt", "-c")
    return live.run(*words, "INSERT INTO orders(what) VALUES ('again')", check=False).returncode == 0


def test_damage_is_found(live: Live, backup: str) -> None:
    """C5: flipped bytes in a stored backup; the next verification says so and names the last good one."""
    vault = Path(os.environ["ASBUILT_HOME"]) / "vault"
    second = str(live.json(*CREATE)["backup"]["id"])
    (path,) = vault.rglob(f"base/{second}/base.tar.zst.age")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    done = live.run("backup", "production", "verify", second, check=False)
    assert "BACKUP-006" in done.stderr
    assert backup in done.stderr
    listed = {one["id"]: one for one in live.json("backup", "production", "list")["backups"]}
    assert listed[second]["verified"]["good"] is False


class Stored:
    """The cache, the bucket and the files of an environment, as its app has them."""

    def __init__(self, live: Live) -> None:
        self.secrets = json.loads((live.root / "secrets.json").read_text())
        self.place = json.loads((live.root / "place.json").read_text())
        self.files = live.root / "files"
        self.live = live
        key = Secret(self.secrets["objects.app.access"]), Secret(self.secrets["objects.app.secret"])
        gateway = Gateway(self.place["addresses"]["objects-1"], self.place["ports"]["s3"], REGION, *key)
        self.bucket = Contents(gateway, "kept-production")

    def cache(self) -> Client:
        """A connection to the primary of the cache."""
        host = self.place["addresses"][self.live.primary("cache")]
        return Client(host, self.place["ports"]["redis"], self.secrets["cache.password"])

    def put(self, key: str, content: bytes, **headers: str) -> None:
        """An object."""
        more = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        self.bucket.write(Entry(key, "object", len(content), headers=more), [content])

    def seen(self) -> dict[str, Any]:
        """Everything that is stored."""
        found: dict[str, Any] = {}
        for entry in self.bucket.walk():
            content: list[bytes] = []

            def keep(reader: Readable, to: list[bytes] = content) -> tuple[tuple[str, ...], int]:
                to.append(b"".join(iter(lambda: reader.read(2**20), b"")))
                return (), len(to[0])

            read = self.bucket.read(entry, keep)
            assert read is not None
            found[f"object {entry.path}"] = (read.headers, content)
        for path in sorted(self.files.rglob("*")):
            status = path.lstat()
            about = (status.st_mode, path.readlink() if path.is_symlink() else status.st_mtime_ns)
            found[f"file {path.relative_to(self.files)}"] = (about, path.is_file() and path.read_bytes())
        with self.cache() as client:
            keys = client.ask("KEYS", "*")
            assert isinstance(keys, list)
            found |= {f"key {key}": client.ask("GET", str(key)) for key in keys}
        return found


@pytest.fixture(scope="module")
def things(live: Live) -> Stored:
    """Something in each of them."""
    stored = Stored(live)
    with stored.cache() as client:
        for number in range(500):
            client.ask("SET", f"k{number}", f"value {number}")
    more = {"content_type": "application/pdf", "x_amz_meta_who": "me"}
    stored.put("invoices/2026/1 + 1.pdf", os.urandom(100_000), **more)
    stored.put("big", os.urandom(9_000_000), content_type="video/mp4", cache_control="max-age=60")
    stored.put("ü", b"")
    (stored.files / "avatars").mkdir(mode=0o750)
    (stored.files / "avatars" / "1.png").write_bytes(os.urandom(3000))
    (stored.files / "link").symlink_to("/etc/passwd")
    return stored


PARTS = ("--only", "cache", "--only", "objects", "--only", "files")


def test_cache_objects_and_files_come_back(live: Live, things: Stored, tmp_path: Path) -> None:
    then = things.seen()
    taken = live.json("backup", "production", "create", "--label", "parts", *PARTS)["backups"]
    assert [(one["part"], one["count"]) for one in taken] == [("cache", 500), ("objects", 3), ("files", 2)]
    again = live.json("backup", "production", "create", "--only", "objects", "--only", "files")["backups"]
    assert all(one["size"] < 5000 for one in again), "nothing is stored twice"
    tried = live.json("backup", "production", "verify", "parts")["backups"]
    assert [one["verified"]["good"] for one in tried] == [True] * 3
    for part in ("cache", "objects"):
        live.json("restore", "production", f"--{part}", "--to", "backup:parts", "--into", str(tmp_path))
    assert (tmp_path / "dump.rdb").read_bytes()[:5] in {b"REDIS", b"VALKE"}
    assert [(tmp_path / "objects" / "big").read_bytes()] == then["object big"][1]
    with things.cache() as client:
        client.ask("DEL", "k1")
        client.ask("SET", "k2", "broken")
        client.ask("SET", "new", "1")
    things.bucket.remove("big")
    things.put("ü", b"broken")
    things.put("new", b"1")
    (things.files / "avatars" / "1.png").write_text("broken")
    (things.files / "new").touch()
    (things.files / "link").unlink()
    for part in ("cache", "objects", "files"):
        words = ("restore", "production", f"--{part}", "--to", "backup:parts", "--in-place")
        done = live.json(*words, "--confirm", "production")
        assert done["problems"] == []
        assert done["before"]
    assert things.seen() == then
    assert live.up()["changed"] is False
    live.healthy()


def test_a_backup_that_is_killed_does_not_stand_in_the_way(live: Live, things: Stored) -> None:
    (things.files / "large").write_bytes(os.urandom(60_000_000))
    vault = Path(os.environ["ASBUILT_HOME"]) / "vault"

    def pieces() -> int:
        return len(list(vault.rglob("blobs/*/*")))

    before = pieces()
    words = [sys.executable, "-m", "asbuilt", "backup", "production", "create", "--only", "files"]
    with subprocess.Popen(words, cwd=live.project, stderr=subprocess.DEVNULL) as one:
        until(lambda: pieces() > before + 4, what="some pieces to be stored", within=60, every=0.005)
        one.kill()
    assert one.returncode == -9, "it was not done yet"
    (taken,) = live.json("backup", "production", "create", "--only", "files")["backups"]
    assert taken["size"] < taken["clear_size"] - 10_000_000, "what the killed one stored is used"
    live.run("backup", "production", "prune")
    (tried,) = live.json("backup", "production", "verify", taken["id"])["backups"]
    assert tried["verified"]["good"] is True


def test_a_lost_catalogue_is_made_again(live: Live, backup: str) -> None:
    before = live.json("backup", "production", "list")
    for pid in live.tree("backup-1"):
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    for path in (live.root / "backup").iterdir():
        path.unlink()
    archived(live)
    after = live.json("backup", "production", "list")
    for part in ("backups", "copies"):
        assert [one["id"] for one in after[part]] == [one["id"] for one in before[part]]
    assert backup in {one["id"] for one in after["backups"]}


@pytest.mark.skipif(shutil.which("zstd") is None or shutil.which("age") is None, reason="needs age and zstd")
def test_standard_tools_open_a_backup(live: Live, backup: str, tmp_path: Path) -> None:
    """The README in the store says `age -d | zstd -d | tar -x`, and that is enough."""
    vault = Path(os.environ["ASBUILT_HOME"]) / "vault"
    (path,) = vault.rglob(f"base/{backup}/base.tar.zst.age")
    key = tmp_path / "key"
    key.write_text(live.json("backup", "production", "key")["identity"] + "\n")
    words = f"age -d -i {key} {path} | zstd -d | tar -x -C {tmp_path}"
    subprocess.run(["sh", "-c", words], check=True)
    assert (tmp_path / "PG_VERSION").read_text().strip() == "16"
