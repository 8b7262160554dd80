"""The documentation says what is true: its commands parse, its specs load, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from asbuilt.cli.main import VERBS, build_parser
from asbuilt.spec.load import load

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
_DOOR = re.compile(r"`make ([a-z][a-z-]*)`|^    make ([a-z][a-z-]*)$", re.MULTILINE)
_PATH = re.compile(r"`((?:src|tests|docs|scripts|examples|benchmarks)/[\w./-]+)`")
# built of parts, so that this file does not find itself
_NEVER = re.compile(
    "|".join(
        (
            "/" + "work/",
            "/" + r"opt/(?:wheels|py)",
            "/root/" + r"\w",
            "py" + r"pi\.org",
            "python" + r"hosted",
            "npm" + r"js\.(?:org|com)",
        )
    )
)


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git work tree")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")])


def _page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in _FENCE.findall(page.read_text()) if language in languages]


def _commands(page: Path) -> list[str]:
    lines = (line for text in _blocks(page, "console") for line in text.splitlines())
    return [line[2:] for line in lines if line.startswith("$ asbuilt ")]


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_every_command_parses(page: Path) -> None:
    for command in _commands(page):
        words = shlex.split(command)[1:]
        own = words[: words.index("--")] if "--" in words else words
        assert build_parser().parse_args(own).verb in VERBS, command


def test_every_verb_is_shown_in_the_guide() -> None:
    shown = {shlex.split(command)[1] for command in _commands(ROOT / "docs" / "guide.md")}
    assert shown == set(VERBS)


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_every_part_of_a_spec_loads(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(_blocks(page, "yaml")):
        part = yaml.safe_load(text)
        if "name" in part:
            continue
        whole = {"name": "part", "environments": {"production": {}}, **part}
        whole["app"] = {"command": "./run", **part.get("app", {})}
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(whole))
        assert load(file).spec.name == "part"


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_every_spec_loads(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SECRET_KEY", "x")
    for number, text in enumerate(t for t in _blocks(page, "yaml") if t.startswith("name:")):
        folder = tmp_path / str(number)
        (folder / "secrets").mkdir(parents=True)
        (folder / "secrets" / "mail").write_text("x")
        for needed in ("requirements.txt", "package.json"):
            (folder / needed).write_text("{}" if needed.endswith("json") else "")
        (folder / "asbuilt.yaml").write_text(text)
        assert load(folder / "asbuilt.yaml").spec.environments


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_every_link_and_path_exists(page: Path) -> None:
    text = page.read_text()
    links = [target for target in _LINK.findall(text) if "://" not in target]
    missing = [target for target in links if not (page.parent / target).exists()]
    missing += [path for path in _PATH.findall(text) if not (ROOT / path).exists()]
    assert not missing


def test_every_door_exists() -> None:
    doors = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {a or b for page in PAGES for a, b in _DOOR.findall(page.read_text())}
    assert named
    assert named <= doors


def _layers() -> list[list[str]]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = config["tool"]["importlinter"]["contracts"]
    return [re.findall(r"asbuilt\.(\w+)", layer) for layer in contract["layers"]]


def test_the_architecture_page_has_the_layers_of_the_linter() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("| layer | place |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert [re.findall(r"`(\w+)`", row) for row in rows] == _layers()


def test_every_part_of_the_package_is_in_a_layer() -> None:
    package = ROOT / "src" / "asbuilt"
    there = {path.parent.name for path in package.glob("*/__init__.py")}
    there |= {path.stem for path in package.glob("[a-z]*.py")}
    assert there == {name for layer in _layers() for name in layer}


def test_nothing_names_a_registry_or_this_machine() -> None:
    found = []
    for path in _tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        lines = enumerate(text.splitlines(), 1)
        found += [f"{path.relative_to(ROOT)}:{n}: {line[:120]}" for n, line in lines if _NEVER.search(line)]
    assert not found, "\n".join(found)


def test_locked_dependencies_have_hashes_and_no_origin() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock", "benchmarks/requirements.lock"):
        text = (ROOT / lock).read_text()
        assert "://" not in text
        assert not re.search(r"^\s*(-i|-f|--(extra-)?index|--find-links)", text, re.MULTILINE)
        for entry in re.split(r"\n(?=[a-z])", text)[1:]:
            assert "==" in entry
            assert "--hash=sha256:" in entry


def test_the_locks_hold_every_dependency_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "requirements.lock": project["dependencies"],
        "requirements-dev.lock": [*project["dependencies"], *extras["dev"], *extras["node"]],
    }
    for lock, requirements in wanted.items():
        locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / lock).read_text(), re.MULTILINE))
        names = {re.split(r"[^\w.-]", one)[0].lower().replace("_", "-") for one in requirements}
        assert names <= locked, lock
