"""The tables of the journal. Data only; `journal` acts.

Invariant: VERSION goes up whenever a table changes, so that an older program never writes into a newer file.
"""

from __future__ import annotations

from typing import Final

from asbuilt.record.layout import Layout

VERSION: Final = 1
"""PRAGMA user_version of the file."""

APPLICATION: Final = 0x61736274
"""PRAGMA application_id of the file ("asbt"): tells a journal from a database of another program."""

COLUMNS: Final = {
    "operations": ("id", "epoch", "verb", "owner", "started", "ended", "outcome", "plan", "error"),
    "steps": ("operation", "step", "intent_at", "done_at", "outcome", "detail"),
    "setups": ("id", "key", "done_at"),
    "releases": (
        "id",
        "number",
        "artifact",
        "created",
        "created_by",
        "git_commit",
        "config_digest",
        "detail",
        "state",
    ),
    "facts": ("key", "value"),
    "lock": (
        "one",
        "epoch",
        "held",
        "owner",
        "host",
        "boot",
        "pid",
        "pid_start",
        "verb",
        "since",
        "expires",
    ),
}
"""Columns of each table, in order."""

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS operations(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        epoch INTEGER NOT NULL,
        verb TEXT NOT NULL,
        owner TEXT NOT NULL,
        started REAL NOT NULL,
        ended REAL,
        outcome TEXT,
        plan TEXT NOT NULL,
        error TEXT)""",
    """CREATE TABLE IF NOT EXISTS steps(
        operation INTEGER NOT NULL REFERENCES operations(id),
        step TEXT NOT NULL,
        intent_at REAL NOT NULL,
        done_at REAL,
        outcome TEXT,
        detail TEXT NOT NULL DEFAULT '',
        PRIMARY KEY(operation, step))""",
    "CREATE TABLE IF NOT EXISTS setups(id TEXT PRIMARY KEY, key TEXT NOT NULL, done_at REAL NOT NULL)",
    """CREATE TABLE IF NOT EXISTS releases(
        id TEXT PRIMARY KEY,
        number INTEGER NOT NULL UNIQUE,
        artifact TEXT NOT NULL,
        created REAL NOT NULL,
        created_by TEXT NOT NULL,
        git_commit TEXT NOT NULL,
        config_digest TEXT NOT NULL,
        detail TEXT NOT NULL,
        state TEXT NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS facts(key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS lock(
        one INTEGER PRIMARY KEY CHECK (one = 1),
        epoch INTEGER NOT NULL,
        held INTEGER NOT NULL,
        owner TEXT NOT NULL,
        host TEXT NOT NULL,
        boot TEXT NOT NULL,
        pid INTEGER NOT NULL,
        pid_start INTEGER NOT NULL,
        verb TEXT NOT NULL,
        since REAL NOT NULL,
        expires REAL NOT NULL)""",
)

JOURNAL: Final = Layout(
    name="journal",
    code="JOURNAL",
    remedy="run the command again: the damaged file is moved aside and rebuilt from what really runs",
    application=APPLICATION,
    version=VERSION,
    columns=COLUMNS,
    schema=SCHEMA,
)
