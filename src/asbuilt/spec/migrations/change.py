"""The vocabulary: what a migration does, whatever language it is written in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Act(StrEnum):
    """What is done to a table, a column, or a rule of them."""

    CREATE = "create"
    """A table is made: what else is done to it concerns no older release."""
    DROP = "drop"
    RENAME = "rename"
    ADD_COLUMN = "add-column"
    """May be left out by those who don't know it."""
    ADD_REQUIRED = "add-required"
    """Must be given, and the database gives no value by itself."""
    ADD_DEFAULTED = "add-defaulted"
    """Must be given, and the default is known to the framework only (Django drops that of the database)."""
    DROP_COLUMN = "drop-column"
    RENAME_COLUMN = "rename-column"
    RETYPE = "retype"
    REWRITE = "rewrite"
    """A wider type: it fits everybody, and the whole table is written again."""
    REQUIRE = "require"
    SET_DEFAULT = "set-default"
    DROP_DEFAULT = "drop-default"
    CONSTRAIN = "constrain"
    FREE = "free"
    """A constraint goes."""
    INDEX = "index"
    """Made while writes wait."""
    RENAME_VALUE = "rename-value"
    """A type, or one of its values, gets another name."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Args:
        act: what is done.
        table: to which table, view, model or type; lower case, without schema; empty where it isn't visible.
        line: where it stands, from 1.
        column: to which column; empty where it is about the table.
        to: the new name, the new type, the kind of constraint; `view` where a view is made or dropped.
        columns: those a constraint or an index is about, where visible.
        defaulted: of an added column: the database has a default for it.
    """

    act: Act
    table: str
    line: int
    column: str = ""
    to: str = ""
    columns: tuple[str, ...] = ()
    defaulted: bool = False


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment and its line."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Script:
    """What was read of one file.

    Args:
        file: its path, for people.
        changes: in the order of the file.
        declared: reason and line of an `asbuilt: contract` comment.
        unreasoned: there is such a comment, without a reason.
    """

    file: str
    changes: tuple[Change, ...]
    declared: Comment | None = None
    unreasoned: bool = False
