"""What is said of each kind of change: code, how bad it is, what the release before hits, the recipe."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from asbuilt.spec.migrations.change import Act

if TYPE_CHECKING:
    from collections.abc import Mapping


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


class Rule(NamedTuple):
    """What is said of a change. `{release}`, `{table}`, `{column}` and `{to}` are filled in."""

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
RULES: Final[Mapping[Act, Rule]] = {
    Act.DROP: Rule(
        "MIGRATE-001", Weight.BREAKS, "drops {table}", "{release} fails wherever it uses {table}", _LATER
    ),
    Act.DROP_COLUMN: Rule(
        "MIGRATE-002",
        Weight.BREAKS,
        "drops {column}",
        "every query of {release} that names it fails; an ORM names all columns it knows",
        _LATER,
    ),
    Act.RENAME: Rule(
        "MIGRATE-003",
        Weight.BREAKS,
        "renames {table} to {to}",
        "{release} fails wherever it uses {table}",
        _RENAME,
    ),
    Act.RENAME_COLUMN: Rule(
        "MIGRATE-003",
        Weight.BREAKS,
        "renames {column} to {to}",
        "every query of {release} that names it fails",
        _RENAME,
    ),
    Act.RENAME_VALUE: Rule(
        "MIGRATE-003",
        Weight.BREAKS,
        "renames the type {table}, or a value of it",
        "{release} fails wherever it uses the old name",
        _RENAME,
    ),
    Act.RETYPE: Rule(
        "MIGRATE-004",
        Weight.RISKS,
        "changes the type of {column} to {to}",
        "{release} may write values that do not fit any more, or read what it does not expect; most changes "
        "of a type write the whole table again, and nobody else reads or writes it meanwhile",
        _RENAME,
    ),
    Act.ADD_REQUIRED: Rule(
        "MIGRATE-005",
        Weight.BREAKS,
        "adds {column}, NOT NULL without a default in the database",
        "{release} does not know it, so that every row it inserts is refused; the migration itself fails on "
        "a table that has rows",
        _FILL,
    ),
    Act.ADD_DEFAULTED: Rule(
        "MIGRATE-005",
        Weight.RISKS,
        "adds {column}, NOT NULL with a default that only Django knows",
        "Django takes the default out of the database again, so that a row that {release} inserts is refused",
        "db_default keeps it in the database (Django 5); before that null=True now, and required in the "
        "release after",
    ),
    Act.REQUIRE: Rule(
        "MIGRATE-006",
        Weight.BREAKS,
        "makes {column} NOT NULL",
        "a row that {release} writes without it is refused; the whole table is read meanwhile, and writes "
        "wait",
        "first release code that always writes it, then require it",
    ),
    Act.CONSTRAIN: Rule(
        "MIGRATE-007",
        Weight.RISKS,
        "adds a constraint to {table} ({to})",
        "{release} may write rows that violate it, and is refused",
        _VALIDATE,
    ),
    Act.FREE: Rule(
        "MIGRATE-008",
        Weight.RISKS,
        "drops the constraint {to} of {table}",
        "{release} may rely on it, as in ON CONFLICT, and a way back meets rows that it would have refused",
        "drop it in the release after the one that stops relying on it",
    ),
    Act.DROP_DEFAULT: Rule(
        "MIGRATE-008",
        Weight.RISKS,
        "drops the default of {column}",
        "rows that {release} inserts without it get NULL, or are refused",
        "drop it in the release after the one that always writes the column",
    ),
    Act.INDEX: Rule(
        "MIGRATE-009",
        Weight.BLOCKS,
        "makes an index on {table} that writes wait for",
        "{release} can't write to {table} until the index is made: seconds for a million rows",
        "CREATE INDEX CONCURRENTLY, outside of a transaction (Alembic: postgresql_concurrently in an "
        "autocommit_block; Django: AddIndexConcurrently with atomic = False)",
    ),
    Act.REWRITE: Rule(
        "MIGRATE-009",
        Weight.BLOCKS,
        "widens {column} to {to}, which writes the whole table again",
        "{release} can neither read nor write {table} meanwhile",
        "on a large table: a new column that a trigger fills, and a switch in a later release",
    ),
}
