"""The application itself: what its processes are given."""
