"""Backups: the process that archives the write-ahead log and takes the scheduled backups."""
