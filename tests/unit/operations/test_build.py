from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from asbuilt.exec.identity import Identity
from asbuilt.exec.runner import Runner
from asbuilt.operations.build import Artifact, find_build, read_mark, remove_build
from asbuilt.operations.install import build_owner_settings, find_node, find_pip_target, find_python
from asbuilt.spec.schema import App
from asbuilt.values.errors import AsbuiltError
from support.builds import build_release

RUNNER = Runner(Identity("user", (), os.geteuid(), os.getegid()))


def app(**over: Any) -> App:  # noqa: ANN401
    given = {"command": "run", "instances": 1, "cpu": 1, "memory": "1GB", "disk": "1GB"}
    return App.model_validate({**given, **over})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "sub").mkdir(parents=True)
    (folder / "main.py").write_text("1")
    (folder / "sub" / "x.sh").write_text("2")
    (folder / "sub" / "x.sh").chmod(0o700)
    return folder


def build(project: Path, **over: Any) -> Artifact:  # noqa: ANN401
    return build_release(project, app(**over), project.parent / "releases", RUNNER, lambda _: None)


def test_a_build_is_made_once_and_is_read_only(project: Path) -> None:
    first = build(project)
    written = (Path(first.folder) / "main.py").stat().st_ino
    assert build(project) == first
    assert (Path(first.folder) / "main.py").stat().st_ino == written
    modes = [p.stat().st_mode for p in Path(first.folder).rglob("*")]
    assert modes
    assert not any(mode & 0o222 for mode in modes)
    assert (Path(first.folder) / "sub" / "x.sh").stat().st_mode & 0o100


def test_a_foreseen_build_is_the_one_that_is_made_and_writes_nothing(project: Path) -> None:
    releases = project.parent / "releases"
    foreseen = find_build(project, app(), releases, RUNNER)
    assert not foreseen.finished
    assert not releases.exists()
    foreseen.make(lambda _: None)
    found = find_build(project, app(), releases, RUNNER)
    assert found.finished
    assert found.artifact == foreseen.artifact
    assert (Path(found.artifact.folder) / "main.py").exists()


def test_changed_files_make_another_build_and_the_old_one_stays(project: Path) -> None:
    first = build(project)
    (project / "main.py").write_text("changed")
    second = build(project)
    assert first.id != second.id
    assert (Path(first.folder) / "main.py").read_text() == "1"


def test_configuration_does_not_change_the_build(project: Path) -> None:
    first = build(project)
    (project / "asbuilt.yaml").write_text("name: x")
    assert build(project, instances="3..20", env={"A": "b"}) == first


@pytest.mark.parametrize("mark", [None, "", "{}", '{"attempt": "gone"}', '{"attempt": 5}', "[]"])
def test_an_unfinished_build_is_wiped_and_made_again(project: Path, mark: str | None) -> None:
    first = build(project)
    home = project.parent / "releases" / first.id
    if mark is None:
        (home / "complete.json").unlink()
    else:
        (home / "complete.json").write_text(mark)
    assert read_mark(home) is None
    again = build(project)
    assert again.id == first.id
    assert not Path(first.folder).exists()
    assert (Path(again.folder) / "main.py").read_text() == "1"


def test_remove_build_deletes_read_only_trees(project: Path) -> None:
    made = build(project)
    home = project.parent / "releases" / made.id
    remove_build(home)
    assert not home.exists()


def test_missing_tools_and_manifests_are_told(project: Path) -> None:
    for wanted, code in (
        ({"build": "pip"}, "BUILD-005"),
        ({"build": "npm"}, "BUILD-005"),
        ({"build": "pip", "python": "/no/such/python"}, "BUILD-004"),
        ({"build": "npm", "node": "3"}, "BUILD-006"),
    ):
        with pytest.raises(AsbuiltError) as refused:
            build(project, **wanted)
        assert refused.value.code == code
        assert refused.value.hint
    assert not list((project.parent / "releases").glob("*/complete.json"))


def test_pip_target(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname="x"\ndependencies=["a>1", "b"]\n')
    assert find_pip_target(tmp_path, dependencies_only=False) == ("a>1", "b")
    with (tmp_path / "pyproject.toml").open("a") as file:
        file.write('[build-system]\nrequires=["hatchling"]\n')
    assert find_pip_target(tmp_path, dependencies_only=False) == (".",)
    assert find_pip_target(tmp_path, dependencies_only=True) == ("a>1", "b")
    (tmp_path / "requirements.txt").touch()
    assert find_pip_target(tmp_path, dependencies_only=False) == ("-r", "requirements.txt")


def test_python_and_node_are_found() -> None:
    assert Path(find_python(None)).is_file()
    assert find_node(RUNNER, None).version


def test_owner_settings_for_package_indexes_are_passed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".npmrc").write_text("fund=false")
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:hush@index.example/simple")
    monkeypatch.setenv("PIP_NO_INPUT", "1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    found = build_owner_settings()
    assert dict(found.plain)["PIP_NO_INPUT"] == "1"
    assert dict(found.plain)["npm_config_userconfig"] == str(tmp_path / ".npmrc")
    assert dict(found.secret)["PIP_INDEX_URL"].reveal().startswith("https://me:hush@")
    assert "AWS_SECRET_ACCESS_KEY" not in {**dict(found.plain), **dict(found.secret)}
