"""The tables of the catalogue. Data only; `catalogue` acts."""

from __future__ import annotations

from typing import Final

from asbuilt.record.layout import Layout

CATALOGUE: Final = Layout(
    name="catalogue of backups",
    code="CATALOGUE",
    remedy="the archiver moves it aside and fills a new one from the store when it is started again",
    application=0x61736263,  # "asbc"
    version=2,
    columns={
        "stored": ("key", "size", "sha256", "at", "checked_at"),
        "backups": ("folder", "id", "json"),
        "runs": ("id", "kind", "began", "ended", "result", "said"),
        "facts": ("key", "value"),
    },
    schema=(
        """CREATE TABLE IF NOT EXISTS stored(
            key TEXT PRIMARY KEY,
            size INTEGER NOT NULL,
            sha256 TEXT,
            at REAL NOT NULL,
            checked_at REAL) WITHOUT ROWID""",
        "CREATE INDEX IF NOT EXISTS stored_by_check ON stored(coalesce(checked_at, at))",
        """CREATE TABLE IF NOT EXISTS backups(
            folder TEXT NOT NULL,
            id TEXT NOT NULL,
            json TEXT NOT NULL,
            PRIMARY KEY (folder, id)) WITHOUT ROWID""",
        """CREATE TABLE IF NOT EXISTS runs(
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            began REAL NOT NULL,
            ended REAL,
            result TEXT,
            said TEXT NOT NULL DEFAULT 'null')""",
        "CREATE TABLE IF NOT EXISTS facts(key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    ),
    proof="quick_check",  # half a million objects: the other one takes seconds
)
