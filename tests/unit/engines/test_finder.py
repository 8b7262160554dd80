from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from asbuilt.engines.finder import Candidate, find_tools, from_spec, system_folder, wheel_folder
from asbuilt.exec.identity import Identity
from asbuilt.exec.runner import Runner
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from pathlib import Path

    from asbuilt.plan.site import Tools

RUNNER = Runner(Identity("user", (), 0, 0))


def program(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)
    return folder


def parse(said: str) -> str | None:
    match = re.search(r"thing (\d+)", said)
    return match[1] if match else None


def find(*candidates: Candidate) -> Tools:
    return find_tools(
        RUNNER,
        engine="thing",
        programs=("thing",),
        optional=("thing-cli",),
        candidates=candidates,
        parse_version=parse,
        accept=lambda version: version == "16",
        wanted="Thing 16",
        hint="apt install thing",
    )


def test_the_first_with_the_wanted_version_is_taken_and_why_tells_the_rest(tmp_path: Path) -> None:
    old = Candidate("system", program(tmp_path / "old", "thing", "thing 15"))
    new = Candidate("wheel", program(tmp_path / "new", "thing", "thing 16"), env={"A": "b"})
    tools = find(old, new)
    assert (tools.version, tools.source, tools.env) == ("16", "wheel", {"A": "b"})
    assert "version 15 is not Thing 16" in tools.why
    assert tools.programs == {"thing": str(tmp_path / "new" / "thing")}


def test_optional_programs_and_other_names(tmp_path: Path) -> None:
    folder = program(program(tmp_path, "other", "thing 16"), "thing-cli", "")
    tools = find(Candidate("system", folder, names={"thing": "other"}))
    assert tools.programs == {"thing": str(folder / "other"), "thing-cli": str(folder / "thing-cli")}


def test_a_folder_of_the_spec_is_taken_with_or_without_its_bin(tmp_path: Path) -> None:
    program(tmp_path / "bin", "thing", "thing 16")
    for path in (tmp_path, tmp_path / "bin"):
        assert find(*from_spec(str(path))).programs["thing"] == str(tmp_path / "bin" / "thing")


@pytest.mark.parametrize(
    ("says", "code"), [("thing 15", "ENGINE-002"), ("", "ENGINE-002"), (None, "ENGINE-001")]
)
def test_a_folder_of_the_spec_is_never_passed_over(tmp_path: Path, says: str | None, code: str) -> None:
    good = Candidate("wheel", program(tmp_path / "good", "thing", "thing 16"))
    named = tmp_path / "named"
    if says is not None:
        program(named, "thing", says)
    with pytest.raises(AsbuiltError) as caught:
        find(*from_spec(str(named)), good)
    assert caught.value.code == code
    assert str(named) in caught.value.render()


def test_nowhere_and_only_wrong_versions(tmp_path: Path) -> None:
    with pytest.raises(AsbuiltError) as caught:
        find(Candidate("system", None), Candidate("wheel", tmp_path))
    assert caught.value.code == "ENGINE-001"
    assert caught.value.hint == "apt install thing"
    with pytest.raises(AsbuiltError) as caught:
        find(Candidate("system", program(tmp_path, "thing", "thing 14")), Candidate("wheel", None))
    assert caught.value.code == "ENGINE-002"
    assert "version 14" in caught.value.render()


def test_a_program_that_cannot_start_counts_as_unknown_version(tmp_path: Path) -> None:
    (tmp_path / "thing").write_bytes(b"\x00\x01")
    (tmp_path / "thing").chmod(0o755)
    with pytest.raises(AsbuiltError) as caught:
        find(Candidate("system", tmp_path))
    assert caught.value.code == "ENGINE-002"


def test_system_folders_and_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "thing-of-this-test", "")
    monkeypatch.setenv("PATH", f"relative::{tmp_path}")
    assert system_folder("thing-of-this-test") == tmp_path
    assert system_folder("no-such-thing") is None
    assert system_folder("sh") is not None
    monkeypatch.setattr("sys.prefix", str(tmp_path.parent))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert system_folder("thing-of-this-test") is None
    assert wheel_folder("asbuilt", "engines") is not None
    assert wheel_folder("asbuilt", "nowhere") is None
    assert wheel_folder("no_such_package_at_all") is None
