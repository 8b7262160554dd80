"""Which files are migrations, by their names, and what is read of each. Pure."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

from asbuilt.spec.migrations.alembic import is_alembic, read_alembic
from asbuilt.spec.migrations.change import Change, Comment, Script
from asbuilt.spec.migrations.django import Fields, find_operations, read_django
from asbuilt.spec.migrations.pytree import parse_python, read_comments
from asbuilt.spec.migrations.script import parse_script
from asbuilt.spec.migrations.sql import parse_sql


class Kind(StrEnum):
    """The language of a file."""

    PYTHON = "python"
    SQL = "sql"
    SCRIPT = "script"


LARGEST: Final = {Kind.PYTHON: 256 * 1024, Kind.SQL: 2**20, Kind.SCRIPT: 512 * 1024}
"""Bytes of a file that is read. Larger ones are data, and would take seconds."""
_KINDS: Final = {
    ".py": Kind.PYTHON,
    ".sql": Kind.SQL,
    **dict.fromkeys((".js", ".cjs", ".mjs", ".ts", ".cts", ".mts"), Kind.SCRIPT),
}
_FOLDERS: Final = frozenset({"migrations", "migration", "migrate", "drizzle"})
_REVISIONS: Final = "versions"
_DOWN_FOLDERS: Final = frozenset({"down", "rollback", "rollbacks", "undo"})
_DOWN: Final = re.compile(r"(?:.*[._-])?down\.\w+|U\d[\w.]*__.*")
"""Also Flyway's undo migrations."""
_CONTRACT: Final = re.compile(r"\basbuilt:\s*contract\b[\s:,(-]*(.*)", re.IGNORECASE)


def find_kind(path: str) -> Kind | None:
    """What a file of the app is, by its relative path; None where it is no migration forward."""
    parts = PurePosixPath(path).parts
    kind = _KINDS.get(PurePosixPath(path).suffix)
    if kind is None or path.endswith(".d.ts"):
        return None
    folders = {part.lower() for part in parts[:-1]}
    if folders.isdisjoint(_FOLDERS) and not (kind is Kind.PYTHON and _REVISIONS in folders):
        return None
    if not folders.isdisjoint(_DOWN_FOLDERS) or _DOWN.fullmatch(parts[-1]):
        return None
    return kind


def read_script(path: str, text: str, fields: Fields) -> Script:
    """What a migration does. Never raises; what isn't understood makes no change.

    `fields` are those of Django, as the migrations before left them; it is brought up to date.
    """
    kind = find_kind(path)
    if kind is Kind.SQL:
        changes, comments = parse_sql(text)
    elif kind is Kind.SCRIPT:
        changes, comments = parse_script(text)
    elif kind is Kind.PYTHON:
        changes, comments = _read_python(path, text, fields)
    else:
        changes, comments = [], []
    declared = next((found for one in comments if (found := _find_contract(one))), None)
    if declared is not None and not declared.text:
        return Script(path, tuple(changes), unreasoned=True)
    return Script(path, tuple(changes), declared)


def _read_python(path: str, text: str, fields: Fields) -> tuple[list[Change], list[Comment]]:
    tree = parse_python(text)
    if tree is None:
        return [], []
    comments = read_comments(text) if "asbuilt:" in text else []
    operations = find_operations(tree)
    if operations is not None:
        return read_django(PurePosixPath(path).parent.parent.name.lower(), operations, fields), comments
    return (read_alembic(tree) if is_alembic(tree) else []), comments


def _find_contract(comment: Comment) -> Comment | None:
    """The reason of an `asbuilt: contract`, empty where none is given; None where it is another comment."""
    for number, line in enumerate(comment.text.splitlines()):
        found = _CONTRACT.search(line)
        if found:
            reason = found[1].removesuffix("*/").strip(" \t)-*/")
            return Comment(reason, comment.line + number)
    return None
