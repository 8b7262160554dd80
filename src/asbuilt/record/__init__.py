"""Memory that survives a crash: the journal, the lock, the releases."""
