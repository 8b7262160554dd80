"""What the spec means: immutable nodes and edges. Everything else is a view of it."""
