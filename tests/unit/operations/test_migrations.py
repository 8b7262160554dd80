"""Which files are compared with the release that serves, and how little can stop it."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from asbuilt.cli.main import run
from asbuilt.operations.migrations import Review, compare, render_events, review
from asbuilt.operations.releases import choose_release
from asbuilt.operations.source import walk_files
from asbuilt.record.journal import Journal
from asbuilt.record.releases import Releases
from asbuilt.spec.load import load
from asbuilt.spec.migrations.judge import Finding
from asbuilt.spec.migrations.rules import Weight
from asbuilt.values.errors import EXIT_DONE
from asbuilt.values.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """\
name: shop
app: {command: ./run, directory: web}
environments:
  development: {app: {reload: true}}
  production: {}
"""
DROP = "ALTER TABLE orders DROP COLUMN legacy;\n"
DJANGO = """\
from django.db import migrations, models
class Migration(migrations.Migration):
    operations = [migrations.{}]
"""


def write(folder: Path, name: str, text: str | bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def say(now: Path, before: Path) -> list[str]:
    return [f"{one.where} {one.what}" for one in compare(now, walk_files(now), before, "r7")]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("now", "before"):
        (tmp_path / name).mkdir()
    return tmp_path / "now", tmp_path / "before"


def test_only_new_and_changed_files_count(folders: tuple[Path, Path]) -> None:
    now, before = folders
    for folder in folders:
        write(folder, "migrations/1.sql", DROP)
        write(folder, "migrations/2.sql", "SELECT 1;\n" + ("DROP TABLE a;" if folder is now else ""))
    write(before, "migrations/3.sql", "DROP TABLE moved;")
    write(now, "migrations/0003_moved.sql", "DROP TABLE moved;")
    write(now, "migrations/4.sql", "CREATE TABLE b (x int);\nDROP TABLE c;")
    assert say(now, before) == ["migrations/2.sql:2 drops a", "migrations/4.sql:2 drops c"]
    assert say(now, now) == []


def test_what_a_django_field_was_is_known_from_older_migrations(folders: tuple[Path, Path]) -> None:
    now, before = folders
    for folder in folders:
        write(
            folder, "o/migrations/0001_a.py", DJANGO.format("AddField('x', 'y', models.TextField(null=True))")
        )
    write(now, "o/migrations/0002_b.py", DJANGO.format("AlterField('x', 'y', models.TextField())"))
    write(now, "o/migrations/0003_c.py", DJANGO.format("AlterField('x', 'y', models.TextField(blank=True))"))
    assert say(now, before) == ["o/migrations/0002_b.py:3 makes the column y of o.x NOT NULL"]


def test_links_pipes_and_what_is_no_text_are_passed_over(folders: tuple[Path, Path]) -> None:
    now, before = folders
    write(now, "migrations/1.sql", b"DROP TABLE a;\0")
    write(now, "migrations/2.sql", b"\xef\xbb\xbfDROP TABLE a; -- \xff")
    write(now, "migrations/3.sql", DROP * 150_000)
    (now / "migrations" / "4.sql").symlink_to("2.sql")
    (now / "migrations" / "5.sql").symlink_to("5.sql")
    (now / "migrations" / "loop").symlink_to(".")
    os.mkfifo(now / "migrations" / "6.sql")
    (now / "migrations" / "7.sql").mkdir()
    began = time.monotonic()
    found = compare(now, [*walk_files(now), "migrations/gone.sql", "migrations/7.sql"], before, "r7")
    assert [one.where for one in found] == ["migrations/2.sql:1"]
    assert time.monotonic() - began < 5


def test_of_very_many_files_the_last_are_read(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, before = folders
    for number in range(30):
        write(now, f"migrations/{number:02}.sql", f"DROP TABLE t{number:02};")
    monkeypatch.setattr("asbuilt.operations.migrations._MOST_FILES", 10)
    assert say(now, before) == [f"migrations/{n}.sql:1 drops t{n}" for n in range(20, 30)]
    monkeypatch.setattr("asbuilt.operations.migrations._MOST_BYTES", 3 * len("DROP TABLE t01;"))
    assert say(now, before) == [f"migrations/{n}.sql:1 drops t{n}" for n in range(27, 30)]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A project whose production has r1, with one migration; a second one is new."""
    project = tmp_path / "project"
    write(project, "asbuilt.yaml", SPEC)
    write(project, "web/migrations/1.sql", "DROP TABLE before;")
    monkeypatch.chdir(project)
    monkeypatch.setenv("ASBUILT_HOME", str(tmp_path / "home"))
    made = Stage(project / "asbuilt.yaml", "shop", "production", tmp_path / "home")
    made.root.mkdir(parents=True)
    journal = Journal.open(made.root / "journal.sqlite", clock=lambda: 1.0)
    app = load(made.file).spec.environments["production"].app
    release = choose_release(made, journal, "a" * 16, app)
    Releases(journal).mark_active(release.id)
    journal.close()
    write(made.root, f"releases/{'a' * 16}/one/app/migrations/1.sql", "DROP TABLE before;")
    write(made.root, f"releases/{'a' * 16}/complete.json", json.dumps({"attempt": "one"}))
    write(project, "web/migrations/2.sql", DROP)
    return made


def test_check_warns_and_is_done(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check"]) == EXIT_DONE
    said = capsys.readouterr().err
    assert "warning[MIGRATE-002] drops the column legacy of orders" in said
    assert "  at web/migrations/2.sql:1" in said
    assert "r1" in said
    assert run(["check", "production", "--json"]) == EXIT_DONE
    (found,) = json.loads(capsys.readouterr().out)["migrations"]
    assert (found["environment"], found["release"], found["code"]) == ("production", "r1", "MIGRATE-002")
    assert run(["check", "development", "--json"]) == EXIT_DONE
    assert json.loads(capsys.readouterr().out)["migrations"] == []
    write(stage.project, "web/migrations/2.sql", f"-- asbuilt: contract - unused since r0\n{DROP}")
    assert run(["check"]) == EXIT_DONE
    assert "note[MIGRATE-010] declared as contract: unused since r0" in capsys.readouterr().err


def test_without_a_release_before_nothing_is_said(stage: Stage) -> None:
    loaded = load(stage.file)
    assert review(stage, loaded, release="r1").findings
    assert review(stage, loaded, release="r2") == Review()
    assert review(stage._replace(environment="development"), loaded) == Review()
    (stage.root / "releases" / ("a" * 16) / "complete.json").unlink()
    assert review(stage, loaded) == Review()


def test_what_cannot_be_read_is_said_and_stops_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied", "web/migrations")

    monkeypatch.setattr("asbuilt.operations.migrations.find_names", refuse)
    found = review(stage, load(stage.file))
    assert found.unread == "web/migrations: Permission denied"
    assert [event.text for event in render_events(found, "production")] == [
        "new migrations were not compared with the release before: web/migrations: Permission denied"
    ]
    assert run(["check"]) == EXIT_DONE
    assert "web/migrations: Permission denied" in capsys.readouterr().err


def test_a_release_tells_the_first_of_many() -> None:
    one = Finding("MIGRATE-001", Weight.BREAKS, "m/1.sql", 1, "drops a", "r7 fails", "wait")
    events = list(render_events(Review("r7", (one,) * 23), "production"))
    assert len(events) == 21
    assert events[0].text == one.render()
    assert events[0].data == {"migration": one.to_json()}
    assert events[-1].text == "and 3 more of new migrations: asbuilt check production shows all"
