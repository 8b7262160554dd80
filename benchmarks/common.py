"""What all benchmarks share: rows of one table, processes that never outlive the run, waiting, asbuilt."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody runs it so, and every start would compile again

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PEERS = ROOT / ".venv-bench"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Args:
        what: what was measured.
        unit: of the values.
        values: one for each run.
        beside: what the peer or the limit in the same run gave, in words.
        target: in words.
        met: whether the target was reached; None where the row is a peer or has no target.
    """

    what: str
    unit: str
    values: tuple[float, ...]
    beside: str = ""
    target: str = ""
    met: bool | None = None

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def render(self) -> str:
        """A line of a Markdown table."""
        met = {True: "yes", False: "**no**", None: ""}[self.met]
        low, middle, high = (shown(v) for v in (min(self.values), self.median, max(self.values)))
        cells = (
            self.what,
            self.unit,
            low,
            middle,
            high,
            str(len(self.values)),
            self.beside,
            self.target,
            met,
        )
        return f"| {' | '.join(cells)} |"


HEADER = (
    "| what | unit | min | median | max | runs | beside it | target | met |\n"
    "|---|---|---:|---:|---:|---:|---|---|---|"
)


def shown(value: float) -> str:
    """Three significant digits, never an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def middle_ratio(ours: Sequence[float], limit: Sequence[float]) -> float:
    """The middle one of the ratios of each round, the upper one of two."""
    return statistics.median_high(a / b for a, b in zip(ours, limit, strict=True))


def run_alone(rows: Callable[[int], list[Row]], doc: str | None, runs: int) -> NoReturn:
    """The command line of one part: measure, print, and end with 1 when a target was missed."""
    words = argparse.ArgumentParser(description=doc)
    words.add_argument("--runs", type=int, default=runs)
    table = rows(words.parse_args().runs)
    print_rows(table)
    sys.exit(any(row.met is False for row in table))


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


def until(condition: Callable[[], object], what: str, within: float = 60.0, every: float = 0.05) -> None:
    """Wait for `condition`; raises TimeoutError that names `what`."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within:g} s in vain for {what}")
        time.sleep(every)


def answers(address: str, port: int) -> bool:
    """Whether somebody accepts connections there."""
    with suppress(OSError), socket.create_connection((address, port), timeout=0.5):
        return True
    return False


class Bench(ExitStack):
    """A private folder and processes; both are gone at the end, whatever happens."""

    def __enter__(self) -> Self:
        """Make the folder."""
        super().__enter__()
        # being ended from outside unwinds as Ctrl-C does: nothing stays behind
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self.folder = Path(tempfile.mkdtemp(prefix="abm-"))
        self.folder.chmod(0o755)
        self.callback(shutil.rmtree, self.folder, ignore_errors=True)
        return self

    def start(
        self,
        *argv: str | Path,
        core: int | None = None,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program in its own session, on one core if asked, its words into a log."""
        words = [str(word) for word in argv]
        if core is not None:
            words = ["taskset", "-c", str(core), *words]
        log = (self.folder / "log").open("ab")
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=cwd or self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **(env or {})},
        )
        log.close()
        self.callback(stop_session, child)
        return child

    def log_end(self) -> str:
        """The last lines of what was started, for an error."""
        path = self.folder / "log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-15:]) if path.exists() else ""


def stop_session(child: subprocess.Popen[bytes], grace: float = 5.0) -> None:
    """End a program started with `Bench.start` and its children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace)
            break
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Environment:
    """A running environment, reached as everybody reaches it: through the command line."""

    project: Path
    name: str
    home: Path

    def run(
        self, *words: str, prefix: tuple[str, ...] = (), check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `asbuilt WORDS` in the project's folder."""
        with self.begin(*words, prefix=prefix) as child:
            try:
                out, err = child.communicate(timeout=600)
            except BaseException:
                child.kill()
                raise
        if check and child.returncode != 0:
            raise RuntimeError(f"asbuilt {' '.join(words)}: exit status {child.returncode}\n{err[-3000:]}")
        return subprocess.CompletedProcess(child.args, child.returncode, out, err)

    def begin(self, *words: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start `asbuilt WORDS` in the project's folder."""
        return subprocess.Popen(
            [*prefix, str(BIN / "asbuilt"), *words],
            cwd=self.project,
            env={**os.environ, "ASBUILT_HOME": str(self.home), "PATH": f"{BIN}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def status(self) -> dict[str, Any]:
        """The status document (schema 1)."""
        # an environment that is not healthy is an answer too, though with another exit status
        found: dict[str, Any] = json.loads(self.run("status", self.name, "--json", check=False).stdout)
        return found

    def nodes(self, kind: str) -> list[dict[str, Any]]:
        """The nodes of one kind."""
        return [node for node in self.status()["nodes"] if node["kind"] == kind]

    def root(self) -> Path:
        """Its state folder: the one below the home that holds the agent's workloads."""
        found = [
            p.parent.parent for p in self.home.glob("**/agent/workloads") if p.parent.parent.name == self.name
        ]
        if len(found) != 1:
            raise RuntimeError(f"{len(found)} state folders of {self.name} below {self.home}")
        return found[0]


@contextmanager
def environment(
    bench: Bench, project: Path, name: str, prefix: tuple[str, ...] = ()
) -> Iterator[Environment]:
    """An environment of `project` in a home of its own, up inside the block, its data deleted after."""
    one = Environment(project, name, bench.folder / "home")
    try:
        one.run("up", name, prefix=prefix)
        yield one
    finally:
        one.run("down", name, "--delete-data", "--confirm", name, check=False)


def print_rows(rows: Sequence[Row]) -> None:
    """The table on stdout."""
    print(HEADER)
    for row in rows:
        print(row.render(), flush=True)
