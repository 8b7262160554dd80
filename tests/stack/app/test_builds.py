from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Command, Runner
from asbuilt.operations.build import read_mark
from asbuilt.spec.schema import App
from asbuilt.values.errors import AsbuiltError
from support import until
from support.builds import build_release

pytestmark = pytest.mark.stack
RUNNER = Runner(find_identity())
BUILDER = """
import sys
from pathlib import Path
from asbuilt.exec.identity import find_identity
from asbuilt.exec.runner import Runner
from asbuilt.operations.build import find_build
from asbuilt.spec.schema import App
app = App.model_validate_json(sys.argv[3])
runner = Runner(find_identity())
find_build(Path(sys.argv[1]), app, Path(sys.argv[2]), runner).make(lambda m: print(m, flush=True))
"""


def app(build: str) -> App:
    return App.model_validate(
        {"command": "x", "build": build, "instances": 1, "cpu": 1, "memory": "1GB", "disk": "1GB"}
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "requirements.txt").write_text("idna==3.10\n")
    (folder / "main.py").write_text("import idna\nprint(idna.__version__)\n")
    return folder


def test_pip_build_runs_unprivileged_and_cannot_be_written(project: Path, tmp_path: Path) -> None:
    said: list[str] = []
    made = build_release(project, app("pip"), tmp_path / "releases", RUNNER, said.append)
    assert "install Python packages" in said
    env = (("PATH", ":".join(made.path)), *made.env)
    result = RUNNER.run(Command((f"{made.path[0]}/python", "main.py"), env=env, cwd=made.folder))
    assert result.stdout == "3.10\n"
    assert list(Path(made.folder).glob("__pycache__/main.*.pyc")), "compiled at build"
    refused = RUNNER.ask(Command(("/usr/bin/touch", "new"), cwd=made.folder))
    assert refused.status != 0


def test_a_failed_build_shows_what_pip_said_and_leaves_nothing_usable(project: Path, tmp_path: Path) -> None:
    (project / "requirements.txt").write_text("./no-such-folder-here\n")
    with pytest.raises(AsbuiltError) as refused:
        build_release(project, app("pip"), tmp_path / "releases", RUNNER, lambda _: None)
    assert refused.value.code == "BUILD-010"
    assert any("no-such-folder-here" in line for line in refused.value.evidence)
    assert not list((tmp_path / "releases").glob("*/complete.json"))


def test_npm_build_from_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "greeter").mkdir(parents=True)
    (folder / "greeter" / "package.json").write_text('{"name":"greeter","version":"1.0.0","main":"i.js"}')
    (folder / "greeter" / "i.js").write_text("module.exports = 'hello';")
    (folder / "package.json").write_text(
        '{"name":"x","version":"1.0.0","dependencies":{"greeter":"file:./greeter"}}'
    )
    (folder / "main.js").write_text("console.log(require('greeter'));")
    made = build_release(folder, app("npm"), tmp_path / "releases", RUNNER, lambda _: None)
    env = (("PATH", ":".join((*made.path, "/usr/bin:/bin"))), *made.env)
    result = RUNNER.run(Command((f"{made.path[-1]}/node", "main.js"), env=env, cwd=made.folder))
    assert result.stdout == "hello\n"


def test_npm_runs_the_build_script_with_tools_that_are_gone_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "maker").mkdir(parents=True)
    (folder / "maker" / "package.json").write_text('{"name":"maker","version":"1.0.0","main":"i.js"}')
    (folder / "maker" / "i.js").write_text("module.exports = 'made';")
    (folder / "package.json").write_text(
        '{"name":"x","version":"1.0.0","scripts":{"build":"node build.js"},'
        '"devDependencies":{"maker":"file:./maker"}}'
    )
    (folder / "build.js").write_text("require('fs').writeFileSync('made.txt', require('maker'));")
    made = build_release(folder, app("npm"), tmp_path / "releases", RUNNER, lambda _: None)
    assert (Path(made.folder) / "made.txt").read_text() == "made"
    assert not (Path(made.folder) / "node_modules" / "maker").exists()
    (folder / "build.js").write_text("console.error('no such page'); process.exit(3);")
    with pytest.raises(AsbuiltError) as refused:
        build_release(folder, app("npm"), tmp_path / "releases", RUNNER, lambda _: None)
    assert refused.value.code == "BUILD-012"
    assert "no such page" in "\n".join(refused.value.evidence)


def test_a_killed_builder_is_followed_by_a_whole_build(project: Path, tmp_path: Path) -> None:
    releases = tmp_path / "releases"
    words = [sys.executable, "-c", BUILDER, str(project), str(releases), app("pip").model_dump_json()]
    builder = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
    assert builder.stdout is not None
    with builder.stdout as said:
        for line in said:
            if b"install Python packages" in line:
                break
    builder.kill()
    builder.wait()
    (home,) = (path for path in releases.iterdir() if path.is_dir() and path.name != "cache")
    assert read_mark(home) is None
    made = build_release(project, app("pip"), releases, RUNNER, lambda _: None)
    result = RUNNER.run(Command((f"{made.path[0]}/python", "main.py"), cwd=made.folder))
    assert result.stdout == "3.10\n"
    until(lambda: not _alive(builder.pid), what="the killed builder's pip to end")


def _alive(session: int) -> bool:
    """Whether a process of that session is left; what is left is killed so that it ends soon."""
    try:
        os.killpg(session, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
