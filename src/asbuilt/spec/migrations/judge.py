"""Changes into findings: what the release before will hit, and the recipe that avoids it. Pure.

Invariant: about a table or a column that is made in the same set nothing is said: no older release uses it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from asbuilt.spec.migrations.change import Act, Change, Script
from asbuilt.spec.migrations.rules import RULES, Weight

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


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
            if change.act in RULES and not made.covers(script, at)
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
    rule = RULES[change.act]
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
