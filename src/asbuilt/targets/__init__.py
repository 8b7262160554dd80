"""Where an architecture runs."""
