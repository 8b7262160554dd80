"""What is really there, as data."""
