"""The safety net of all tests: a home of its own for each, and a proof that nothing is left behind."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from support import leftovers

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

pytest_plugins = ["pytester"]

# a shell that runs us in the background would have every process that we start ignore Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)

# how long one example takes depends on who else uses the machine
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

ALONE = {f"tests/stack/test_{name}.py" for name in ("releases", "canary", "scaling", "sequences")}
"""Files whose tests start an environment each, so that they may run at the same time."""
_HOMES: list[Path] = []
"""Folders in use by this worker's tests, for logs and for the last sweep."""


@contextmanager
def _watched_home() -> Iterator[Path]:
    """A short folder (socket paths end at 107 bytes) that must be left without a process, mount or cgroup."""
    home = Path(tempfile.mkdtemp(prefix="ab-", dir="/tmp")).resolve()
    _HOMES.append(home)
    try:
        yield home
        left = leftovers.find(home)
    finally:
        leftovers.clean(home)
        _HOMES.remove(home)
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """ASBUILT_HOME of this test alone; fails the test when something of it still runs at the end."""
    with _watched_home() as folder:
        monkeypatch.setenv("ASBUILT_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def module_home() -> Iterator[Path]:
    """The same for what a whole file shares; ASBUILT_HOME is set for the module's duration."""
    with _watched_home() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASBUILT_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A stack or fault test leaves nothing in its tmp_path either; set up first, so looked at last."""
    marked = any(request.node.get_closest_marker(m) for m in ("stack", "faults"))
    if not marked or "tmp_path" not in request.fixturenames:
        yield
        return
    folder: Path = request.getfixturevalue("tmp_path")
    _HOMES.append(folder)
    try:
        yield
        left = leftovers.find(folder)
    finally:
        leftovers.clean(folder)
        _HOMES.remove(folder)
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_at_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What wider fixtures started in the session's own folder is gone at its end; also after Ctrl-C."""
    base = tmp_path_factory.getbasetemp()
    yield
    left = leftovers.find(base)
    if left:
        leftovers.clean(base)
        pytest.fail("left behind by this session:\n  " + "\n  ".join(left), pytrace=False)


class _ByFile(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """A file's tests stay together, for they share what they started; those in `ALONE` share nothing."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if file in ALONE else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFile:  # noqa: ANN401 - xdist's own
    """Say which tests may run beside each other."""
    return _ByFile(config, log)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.CallInfo[None], None]:
    """Attach the end of every log to the report of a test that failed."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined] # pluggy's result object
    if not report.failed or not any(item.get_closest_marker(m) for m in ("stack", "faults")):
        return
    base = Path(os.path.realpath(item.config._tmp_path_factory.getbasetemp()))  # type: ignore[attr-defined] # pytest's own
    for folder in dict.fromkeys([*_HOMES, base]):
        report.sections += leftovers.read_log_ends(folder)


def pytest_unconfigure() -> None:
    """The last sweep, whatever ended the session."""
    for folder in (*_HOMES,):
        leftovers.clean(folder)
