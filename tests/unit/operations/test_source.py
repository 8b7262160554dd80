from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from asbuilt.exec.identity import Identity
from asbuilt.exec.runner import Runner
from asbuilt.operations.source import Source, copy_source, is_junk, read_source
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from pathlib import Path

RUNNER = Runner(Identity("user", (), os.geteuid(), os.getegid()))


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")


def read(folder: Path) -> Source:
    return read_source(folder, RUNNER)


def test_same_files_have_the_same_digest_anywhere_and_anytime(tmp_path: Path) -> None:
    for name in ("one", "two/deeper"):
        write(tmp_path / name, "a.py", "b/c.py")
    os.utime(tmp_path / "one" / "a.py", (1, 1))
    assert read(tmp_path / "one").digest == read(tmp_path / "two" / "deeper").digest


@pytest.mark.parametrize("change", ["content", "name", "program", "more"])
def test_every_change_of_the_files_changes_the_digest(tmp_path: Path, change: str) -> None:
    write(tmp_path, "a.py", "b.py")
    before = read(tmp_path).digest
    match change:
        case "content":
            (tmp_path / "a.py").write_text("other")
        case "name":
            (tmp_path / "a.py").rename(tmp_path / "c.py")
        case "program":
            (tmp_path / "a.py").chmod(0o755)
        case _:
            write(tmp_path, "d.py")
    assert read(tmp_path).digest != before


def test_junk_secrets_and_the_spec_stay_out(tmp_path: Path) -> None:
    write(tmp_path, "main.py", ".env", ".env.local", ".env.example", "asbuilt.yaml", "x.pyc", "token.txt")
    write(tmp_path, ".venv/bin/python", "node_modules/x/i.js", "p/__pycache__/m.pyc", ".git/HEAD", "sub/.env")
    found = read_source(tmp_path, RUNNER, secret_files=[tmp_path / "token.txt"])
    assert found.files == (".env.example", "main.py")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_git_work_tree_decides_itself(tmp_path: Path) -> None:
    write(tmp_path, "tracked.py", "new.py", "build/out.bin", "dropped.py", ".env", "s p/ü.py")
    (tmp_path / ".gitignore").write_text("build/\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "tracked.py", ".gitignore", "dropped.py"], cwd=tmp_path, check=True)
    (tmp_path / "dropped.py").unlink()
    assert read(tmp_path).files == (".gitignore", "new.py", "s p/ü.py", "tracked.py")


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../outside"])
def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "app"
    write(folder, "a.py")
    (folder / "link").symlink_to(target)
    with pytest.raises(AsbuiltError, match="BUILD-002"):
        read(folder)


def test_a_link_inside_is_kept_as_a_link(tmp_path: Path) -> None:
    write(tmp_path / "app", "a.py", "lib/b.py")
    (tmp_path / "app" / "link").symlink_to("lib")
    source = read(tmp_path / "app")
    copy_source(source, tmp_path / "copy")
    assert (tmp_path / "copy" / "link").readlink().name == "lib"
    assert read(tmp_path / "copy").digest == source.digest


def test_pipes_are_skipped_and_a_missing_folder_is_told(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    os.mkfifo(tmp_path / "pipe")
    assert read(tmp_path).files == ("a.py",)
    with pytest.raises(AsbuiltError, match="BUILD-001"):
        read(tmp_path / "nowhere")


def test_manifests_only_ignores_the_code(tmp_path: Path) -> None:
    write(tmp_path, "main.py", "requirements.txt", "requirements/base.txt", "package.json")
    found = read_source(tmp_path, RUNNER, manifests_only=True)
    assert found.files == ("package.json", "requirements.txt", "requirements/base.txt")


def test_a_name_alone_tells_junk() -> None:
    assert is_junk("a/node_modules/b.js")
    assert is_junk(".env.production")
    assert not is_junk("environment.py")
