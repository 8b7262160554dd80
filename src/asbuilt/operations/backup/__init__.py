"""Backups: archiving the write-ahead log, base backups, verification, retention, restore."""
