"""What a file of this folder is: its tables, and its words in errors. Data only; `store` opens such files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """One kind of file.

    Args:
        name: what it is called in errors, like `journal`.
        code: what its error codes begin with, like `JOURNAL`.
        remedy: what to do when it is damaged.
        application: PRAGMA application_id: tells it from a database of another program.
        version: PRAGMA user_version. Goes up whenever a table changes, so that an older program never writes
            into a newer file.
        columns: columns of each table, in order.
        schema: statements that make the tables.
        proof: the pragma that proves it sound at each opening: `integrity_check`, or `quick_check` where the
            file is large.
    """

    name: str
    code: str
    remedy: str
    application: int
    version: int
    columns: Mapping[str, tuple[str, ...]]
    schema: tuple[str, ...]
    proof: str = "integrity_check"
