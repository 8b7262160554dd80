"""The one error tree of the program.

    AsbuiltError          failed: exit 1
    |- UsageError         wrong words on the command line, or a wrong spec: exit 2
    |  `- SpecError       every problem of a spec at once
    |- RefusedError       a safety rule said no: exit 3
    `- ResumableError     stopped part-way, running the command again goes on: exit 4

Invariant: every error a user sees has a stable code, says what and where, and ends with a hint that
helps. Nothing secret is ever put into one.

Named tuples, not dataclasses: `asbuilt --help` imports this, and dataclasses cost it a third of its time.
"""

from __future__ import annotations

from typing import NamedTuple

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_RESUMABLE = 4
EXIT_INTERRUPTED = 130


class Place(NamedTuple):
    """A position in a file the owner wrote: `file:line:column`, both counted from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class AsbuiltError(Exception):
    """Something failed, told so that the reader can act.

    Args:
        code: stable and searchable, like `LOCAL-003`.
        what: one sentence, what happened to which thing.
        hint: what to do now; empty only where nothing useful can be said.
        where: the file position, node or address it is about.
        evidence: lines that show it (the request and answer of a failed probe, last log lines).
    """

    exit_status = EXIT_FAILED

    def __init__(
        self,
        code: str,
        what: str,
        *,
        hint: str = "",
        where: Place | str = "",
        evidence: tuple[str, ...] = (),
    ) -> None:
        super().__init__(f"[{code}] {what}")
        self.code = code
        self.what = what
        self.hint = hint
        self.where = where
        self.evidence = evidence

    def render(self) -> str:
        """The error as text for a person, without a trailing newline."""
        lines = [f"error[{self.code}] {self.what}"]
        if self.where:
            lines.append(f"  at {self.where}")
        lines += [f"  | {line}" for line in self.evidence]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """The one JSON shape of an error."""
        return {
            "code": self.code,
            "what": self.what,
            "where": str(self.where),
            "hint": self.hint,
            "evidence": list(self.evidence),
        }


class UsageError(AsbuiltError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_status = EXIT_USAGE


class Problem(NamedTuple):
    """One thing wrong with a spec. `path` is the dotted path of the field, like `app.instances`."""

    code: str
    path: str
    what: str
    place: Place
    hint: str = ""

    def render(self) -> str:
        """The problem as text for a person."""
        lines = [
            f"error[{self.code}] {self.path + ': ' if self.path else ''}{self.what}",
            f"  at {self.place}",
        ]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """The same shape as `AsbuiltError.to_json`, with the field's path."""
        return {
            "code": self.code,
            "path": self.path,
            "what": self.what,
            "where": str(self.place),
            "hint": self.hint,
            "evidence": [],
        }


class SpecError(UsageError):
    """All problems of a spec at once, in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        ordered = tuple(sorted(problems, key=lambda p: (p.place, p.code, p.path, p.what)))
        first = ordered[0]
        super().__init__(first.code, f"{len(ordered)} problem(s) in {first.place.file}", where=first.place)
        self.problems = ordered

    def render(self) -> str:
        """Every problem, then the count."""
        count = len(self.problems)
        tail = f"{count} problem{'s' if count != 1 else ''} in {self.problems[0].place.file}"
        return "\n\n".join([*(p.render() for p in self.problems), tail])

    def to_json(self) -> dict[str, object]:
        """The first problem's shape plus all of them under `problems`."""
        return {**self.problems[0].to_json(), "problems": [p.to_json() for p in self.problems]}


class RefusedError(AsbuiltError):
    """A safety rule said no; nothing was touched."""

    exit_status = EXIT_REFUSED


class ResumableError(AsbuiltError):
    """Stopped part-way; what was done is recorded and the same command goes on from there."""

    exit_status = EXIT_RESUMABLE
