"""Changes into findings: what the release before will hit, and the recipe that avoids it. Pure.

Invariant: about a table or a column that is made in the same set nothing is said: no older release uses it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from asbuilt.spec.migrations.change import Act, Change, Script

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Weight(StrEnum):
    """How bad it is."""

    BREAKS = "breaks"
    """The release before fails where it uses what changed."""
    RISKS = "risks"
    """It fails for some data, or depends on what isn't visible here."""
    BLOCKS = "blocks"
    """It waits while the migration runs."""
    DECLARED = "declared"
    """The owner says that the release before can live with it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the owner should know of a migration.

    Args:
        code: stable, `MIGRATE-001` and so on.
        weight: how bad it is.
        file: path below the folder of the spec.
        line: from 1.
        what: what the migration does.
        effect: what the release before will hit.
        hint: how to avoid it.
    """

    code: str
    weight: Weight
    file: str
    line: int
    what: str
    effect: str
    hint: str

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"

    def render(self) -> str:
        """As text for a person."""
        word = "note" if self.weight is Weight.DECLARED else "warning"
        lines = [f"{word}[{self.code}] {self.what}", f"  at {self.where}", f"  {self.effect}"]
        return "\n".join([*lines, *([f"  hint: {self.hint}"] if self.hint else [])])

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "code": self.code,
            "weight": str(self.weight),
            "where": self.where,
            "what": self.what,
            "effect": self.effect,
            "hint": self.hint,
        }


class _Rule(NamedTuple):
    code: str
    weight: Weight
    what: str
    effect: str
    hint: str


_LATER: Final = (
    "stop using it in this release, and drop it in the next; or say why it is safe in a comment "
    "`asbuilt: contract` with the reason"
)
_RENAME: Final = (
    "add the new one beside it and write both (a trigger, or the app), let the next release use only the new "
    "one, and drop the old one in the one after"
)
_FILL: Final = "give it a default in the database, or allow NULL now and require it in the release after"
_VALIDATE: Final = (
    "first release code that keeps to it, then add it; NOT VALID and a later VALIDATE CONSTRAINT keep "
    "writes from waiting"
)
_RULES: Final[Mapping[Act, _Rule]] = {
    Act.DROP: _Rule(
        "MIGRATE-001", Weight.BREAKS, "drops {table}", "{release} fails wherever it uses {table}", _LATER
    ),
    Act.DROP_COLUMN: _Rule(
        "MIGRATE-002",
        Weight.BREAKS,
        "drops {column}",
        "every query of {release} that names it fails; an ORM names all columns it knows",
        _LATER,
    ),
    Act.RENAME: _Rule(
        "MIGRATE-003",
        Weight.BREAKS,
        "renames {table} to {to}",
        "{release} fails wherever it uses {table}",
        _RENAME,
    ),
    Act.RENAME_COLUMN: _Rule(
        "MIGRATE-003",
        Weight.BREAKS,
        "renames {column} to {to}",
        "every query of {release} that names it fails",
        _RENAME,
    ),
    Act.RENAME_VALUE: _Rule(
        "MIGRATE-003",
        Weight.BREAKS,
        "renames the type {table}, or a value of it",
        "{release} fails wherever it uses the old name",
        _RENAME,
    ),
    Act.RETYPE: _Rule(
        "MIGRATE-004",
        Weight.RISKS,
        "changes the type of {column} to {to}",
        "{release} may write values that do not fit any more, or read what it does not expect; most changes "
        "of a type write the whole table again, and nobody else reads or writes it meanwhile",
        _RENAME,
    ),
    Act.ADD_REQUIRED: _Rule(
        "MIGRATE-005",
        Weight.BREAKS,
        "adds {column}, NOT NULL without a default in the database",
        "{release} does not know it, so that every row it inserts is refused; the migration itself fails on "
        "a table that has rows",
        _FILL,
    ),
    Act.ADD_DEFAULTED: _Rule(
        "MIGRATE-005",
        Weight.RISKS,
        "adds {column}, NOT NULL with a default that only Django knows",
        "Django takes the default out of the database again, so that a row that {release} inserts is refused",
        "db_default keeps it in the database (Django 5); before that null=True now, and required in the "
        "release after",
    ),
    Act.REQUIRE: _Rule(
        "MIGRATE-006",
        Weight.BREAKS,
        "makes {column} NOT NULL",
        "a row that {release} writes without it is refused; the whole table is read meanwhile, and writes "
        "wait",
        "first release code that always writes it, then require it",
    ),
    Act.CONSTRAIN: _Rule(
        "MIGRATE-007",
        Weight.RISKS,
        "adds a constraint to {table} ({to})",
        "{release} may write rows that violate it, and is refused",
        _VALIDATE,
    ),
    Act.FREE: _Rule(
        "MIGRATE-008",
        Weight.RISKS,
        "drops the constraint {to} of {table}",
        "{release} may rely on it, as in ON CONFLICT, and a way back meets rows that it would have refused",
        "drop it in the release after the one that stops relying on it",
    ),
    Act.DROP_DEFAULT: _Rule(
        "MIGRATE-008",
        Weight.RISKS,
        "drops the default of {column}",
        "rows that {release} inserts without it get NULL, or are refused",
        "drop it in the release after the one that always writes the column",
    ),
    Act.INDEX: _Rule(
        "MIGRATE-009",
        Weight.BLOCKS,
        "makes an index on {table} that writes wait for",
        "{release} can't write to {table} until the index is made: seconds for a million rows",
        "CREATE INDEX CONCURRENTLY, outside of a transaction (Alembic: postgresql_concurrently in an "
        "autocommit_block; Django: AddIndexConcurrently with atomic = False)",
    ),
    Act.REWRITE: _Rule(
        "MIGRATE-009",
        Weight.BLOCKS,
        "widens {column} to {to}, which writes the whole table again",
        "{release} can neither read nor write {table} meanwhile",
        "on a large table: a new column that a trigger fills, and a switch in a later release",
    ),
}
_DECLARED: Final = "MIGRATE-010"


_ADDS: Final = frozenset({Act.ADD_COLUMN, Act.ADD_REQUIRED, Act.ADD_DEFAULTED})
_Column = tuple[str, str]


def judge(
    scripts: Sequence[Script], release: str, *, known: Mapping[str, Sequence[Change]] | None = None
) -> list[Finding]:
    """The findings, in the order of the files and lines.

    Args:
        scripts: the migrations that are new or changed since `release`.
        release: the release that serves.
        known: the changes that a changed file made before already.
    """
    fresh = [_leave_out(script, (known or {}).get(script.file, ())) for script in scripts]
    made = _Made(fresh)
    findings: list[Finding] = []
    for script in fresh:
        found = {
            _find(script, change, release): None
            for at, change in enumerate(script.changes)
            if change.act in _RULES and not made.covers(script, at)
        }
        findings += _declare(script, list(found), release)
    return findings


def _leave_out(script: Script, known: Sequence[Change]) -> Script:
    """Without the changes that were made before; lines may have moved."""
    before = Counter(_identity(change) for change in known)
    kept = []
    for change in script.changes:
        if before[_identity(change)]:
            before[_identity(change)] -= 1
        else:
            kept.append(change)
    return replace(script, changes=tuple(kept))


def _identity(change: Change) -> tuple[Act, str, str, str]:
    return change.act, change.table, change.column, change.to


class _Made:
    """What is made in the set of new migrations: no older release can be using it."""

    def __init__(self, scripts: Sequence[Script]) -> None:
        self._tables: dict[str, dict[str, int]] = {}
        self._views: set[str] = set()
        self._columns: set[_Column] = set()
        self._defaulted: set[_Column] = set()
        for script in scripts:
            for at, change in enumerate(script.changes):
                place = (change.table, change.column)
                if change.act is Act.CREATE and change.to == "view":
                    self._views.add(change.table)
                elif change.act is Act.CREATE and change.table:
                    self._tables.setdefault(change.table, {}).setdefault(script.file, at)
                if change.act in _ADDS:
                    self._columns.add(place)
                if change.act is Act.SET_DEFAULT or change.defaulted:
                    self._defaulted.add(place)

    def covers(self, script: Script, at: int) -> bool:
        """Whether a change of a script is about something that is new."""
        change = script.changes[at]
        place = (change.table, change.column)
        if self._is_new_table(script.file, at, change.table):
            return True
        if change.act is Act.REQUIRE:
            return place in self._columns and place in self._defaulted
        if change.act in _ADDS:
            return False
        if change.act is Act.CONSTRAIN and change.columns:
            return all((change.table, column) in self._columns for column in change.columns)
        if change.act is Act.DROP and change.to == "view":
            return change.table in self._views  # it is made again
        return bool(change.column) and place in self._columns

    def _is_new_table(self, by: str, at: int, table: str) -> bool:
        """Made by another file (their order isn't always that of their names), or further up in this one."""
        return any(file != by or made <= at for file, made in self._tables.get(table, {}).items())


def _find(script: Script, change: Change, release: str) -> Finding:
    rule = _RULES[change.act]
    table = change.table or "a table"
    names = {
        "release": release,
        "table": table,
        "column": f"the column {change.column or '(not visible)'} of {table}",
        "to": change.to or "another one",
    }
    hint = rule.hint
    if script.unreasoned:
        hint = "the file says `asbuilt: contract` without a reason: write the reason after it"
    return Finding(
        rule.code,
        rule.weight,
        script.file,
        change.line,
        _shorten(rule.what.format(**names)),
        _shorten(rule.effect.format(**names), 300),
        hint,
    )


def _shorten(text: str, most: int = 160) -> str:
    """Names come from files of others: no control character gets to a terminal, and no novel."""
    plain = "".join(char if char.isprintable() else "?" for char in text)
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def _declare(script: Script, found: list[Finding], release: str) -> Iterator[Finding]:
    """The findings themselves, or the one note that they are declared as a contract."""
    if script.declared is None:
        yield from found
        return
    breaking = [one.what for one in found if one.weight is not Weight.BLOCKS]
    if breaking:
        yield Finding(
            _DECLARED,
            Weight.DECLARED,
            script.file,
            script.declared.line,
            _shorten(f"declared as contract: {script.declared.text}"),
            _shorten(
                f"the rollout, and a rollback to {release}, are safe only if {release} can live with: "
                + "; ".join(breaking),
                600,
            ),
            "",
        )
