"""A small shop that uses everything the architecture has."""
