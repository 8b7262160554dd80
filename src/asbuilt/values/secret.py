"""Secrets are a type: they print as stars and leave only through `reveal()`."""

from __future__ import annotations

from dataclasses import dataclass

MASK = "********"


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A value that must never be seen in argv, logs, errors or world-readable files."""

    _value: str

    def reveal(self) -> str:
        """The real value, for the one place that hands it to an engine or an app."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)


def mask(text: str, secrets: tuple[Secret, ...]) -> str:
    """`text` with every occurrence of every secret replaced by stars (longest first, so parts don't leak)."""
    for value in sorted({s.reveal() for s in secrets if s.reveal()}, key=len, reverse=True):
        text = text.replace(value, MASK)
    return text
