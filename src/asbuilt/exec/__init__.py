"""The only door to the operating system: commands as values, one runner, one identity."""
