"""What became of each release: its record, the runs that brought it or took it back, and the change itself.

Reads only. A run is told by its file, also one whose controller died; a line that is not understood is left
out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from asbuilt.engines.app.config import BUILD
from asbuilt.engines.app.migrate import MIGRATE
from asbuilt.operations.follow import find_running
from asbuilt.operations.origin import build_diff_link, find_remote
from asbuilt.operations.releases import list_releases
from asbuilt.operations.runs import END, list_paths
from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from asbuilt.values.stage import Stage

_MOST_BYTES: Final = 16 * 2**20
"""Of one run."""
_RESULTS: Final = {"DEPLOY-003": "taken back", "DEPLOY-004": "aborted"}
_REFUSED: Final = 3
_STEPS: Final = (BUILD, MIGRATE)


@dataclass(slots=True)
class Run:
    """One run.

    Args:
        run: its name.
        verb: `deploy`, `rollback` or `scale`.
        release: the release that it brings; empty when it was refused before that was known.
        before: the one that served when it began.
        strategy: how the servers were exchanged.
        owner: who asked for it.
        began: UTC.
        ended: UTC; empty when it did not end.
        seconds: how long it took, as far as it came.
        result: `done`, `taken back`, `aborted`, `refused`, `failed`, `under way`, or `died`.
        requests: requests of users meanwhile; None where they were not counted.
        lost: how many of them got no answer.
        scale: number of servers that was asked for.
        phases: moves from fleet to fleet: `what`, `seconds`.
        steps: build and migration, which are part of the first phase: `what`, `seconds`.
        verdicts: what the gate said at each step, with its evidence.
        migrations: what was warned of.
        error: in the one shape of errors.
    """

    run: str
    verb: str = ""
    release: str = ""
    before: str = ""
    strategy: str = ""
    owner: str = ""
    began: str = ""
    ended: str = ""
    seconds: float = 0.0
    result: str = "died"
    requests: int | None = None
    lost: int | None = None
    scale: str = ""
    phases: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    migrations: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None

    def concerns(self, release: str) -> bool:
        """Whether it brought a release, or took it back."""
        return self.release == release or (self.before == release and self.verb == "rollback")


@dataclass(frozen=True, slots=True)
class History:
    """Releases and runs, newest first, as JSON values and as runs."""

    releases: list[dict[str, Any]]
    runs: list[Run]

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {"releases": self.releases, "runs": [asdict(run) for run in self.runs]}


def read_history(stage: Stage, release: str | None = None) -> History:
    """All of an environment, or of one release. Raises AsbuiltError RELEASE-001 where there is none of it."""
    rows = list_releases(stage)
    runs = [tell_run(path.stem, _read_lines(path)) for path in list_paths(stage.root)]
    running = find_running(stage)
    for run in runs:
        if running is not None and run.run == running.run and not run.ended:
            run.result = "under way"
    _add_links(rows, runs, stage.project)
    if release is None:
        return History(rows, runs)
    rows = [row for row in rows if row["id"] == release]
    if not rows:
        raise AsbuiltError(
            "RELEASE-001",
            f"there is no release {release}",
            hint=f"asbuilt releases {stage.environment} lists those there are",
        )
    return History(rows, [run for run in runs if run.concerns(release)])


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file.read(_MOST_BYTES).splitlines():
            if b'"kind": "waiting"' in line[:120]:  # most lines, and nothing to learn of them
                continue
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found


def tell_run(name: str, lines: Iterable[dict[str, Any]]) -> Run:
    """What a run's lines say of it. Pure."""
    run = Run(name)
    moves: list[tuple[str, float]] = []
    since = 0.0
    for line in lines:
        since = float(line.get("since", since))
        kind = line.get("kind")
        if kind == "begin":
            order = line.get("order", {})
            run.verb, run.owner = str(line.get("verb", "")), str(line.get("owner", ""))
            run.began, run.scale = str(line.get("at", "")), str(order.get("scale") or "")
            run.strategy = str(order.get("strategy") or "")
        elif kind == "note":
            _hear_note(run, line, moves)
        elif kind == "done" and line.get("subject") in _STEPS:
            run.steps.append({"what": str(line.get("text", "")), "seconds": line.get("seconds", 0.0)})
        elif kind == END:
            _hear_end(run, line)
    run.seconds = run.seconds or since
    if not run.phases:  # it did not get through: the moves it made are on record one by one
        until = [at for _, at in moves[1:]] + [since]
        run.phases = (
            [
                {"what": what, "seconds": round(end - at, 3)}
                for (what, at), end in zip(moves, until, strict=True)
            ]
            if moves
            else []
        )
    return run


def _hear_note(run: Run, line: dict[str, Any], moves: list[tuple[str, float]]) -> None:
    if "release" in line and "before" in line and not run.release:
        run.release, run.before = str(line["release"]), str(line["before"])
        run.strategy = str(line.get("strategy") or run.strategy)
    if "move" in line:
        moves.append((str(line["move"]), float(line.get("since", 0.0))))
    if "migration" in line:
        run.migrations.append(line["migration"])
    if "requests" in line:
        run.requests, run.lost = line["requests"], line.get("lost")
        run.verdicts = list(line.get("verdicts", ()))


def _hear_end(run: Run, line: dict[str, Any]) -> None:
    run.ended, run.verb = str(line.get("at", "")), run.verb or str(line.get("verb", ""))
    outcome, run.error = line.get("outcome"), line.get("error")
    if outcome is None:
        code = str((run.error or {}).get("code", ""))
        run.result = _RESULTS.get(code) or ("refused" if line.get("exit") == _REFUSED else "failed")
        return
    run.result = "done"
    run.release, run.before = str(outcome["release"]), str(outcome["before"])
    run.seconds, run.requests, run.lost = outcome["seconds"], outcome["requests"], outcome["lost"]
    run.phases = [{"what": what, "seconds": seconds} for what, seconds in outcome["phases"]]
    run.verdicts = list(outcome["verdicts"])


def _add_links(rows: Sequence[dict[str, Any]], runs: Sequence[Run], project: Path) -> None:
    """`before` and `diff` of every release: what it followed, and where the difference can be read."""
    commits = {row["id"]: row["git_commit"] for row in rows}
    remote = find_remote(project) if any(commits.values()) else ""
    for at, row in enumerate(rows):
        first = next((run for run in reversed(runs) if _brought(run, row["id"])), None)
        older = rows[at + 1]["id"] if at + 1 < len(rows) else ""
        row["before"] = first.before if first else older
        row["diff"] = build_diff_link(remote, commits.get(row["before"], ""), row["git_commit"])


def _brought(run: Run, release: str) -> bool:
    return run.verb == "deploy" and run.release == release != run.before != ""
