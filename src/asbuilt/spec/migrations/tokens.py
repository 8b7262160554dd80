"""SQL into tokens: what is a string, a comment, a name, and in which line.

Invariant: linear in the text, and nothing raises; what is left open goes to the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
    |(?P<line>--[^\n]*)
    |(?P<block>/\*)
    |(?P<string>[eE]'(?:[^'\\]++|\\.|'')*+(?:'|\Z)|'(?:[^']++|'')*+(?:'|\Z))
    |(?P<quoted>"(?:[^"]++|"")*+(?:"|\Z)|`[^`]*(?:`|\Z))
    |(?P<dollar>\$(?:[^\W\d]\w*)?\$)
    |(?P<word>[^\W\d][\w$]*)
    |(?P<number>\d[\w.]*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE: Final = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Token:
    """A word in lower case, a quoted name without its quotes, a string, or one other character."""

    kind: str
    text: str
    line: int

    def says(self, *words: str) -> bool:
        """Whether it is one of these keywords or characters."""
        return self.kind in {"word", "other"} and self.text in words

    @property
    def name(self) -> str:
        """As a name; empty when it can't be one."""
        return self.text.lower() if self.kind in {"word", "quoted"} else ""


def read_tokens(text: str, line: int = 1) -> Iterator[Token]:
    """The tokens, comments among them; blanks left out."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:  # not reached: the last branch takes any character
            return
        kind, end = str(found.lastgroup), found.end()
        if kind == "block":
            end = _end_of_block(text, at)
        elif kind == "dollar":
            close = text.find(found[0], end)
            end = len(text) if close < 0 else close + len(found[0])
        whole = text[at:end]
        if kind != "space":
            yield _token(kind, whole, found[0], line)
        line += whole.count("\n")
        at = end


def _token(kind: str, whole: str, opening: str, line: int) -> Token:
    if kind in {"line", "block"}:
        return Token("comment", whole, line)
    if kind == "dollar":
        return Token("body", whole[len(opening) :].removesuffix(opening), line)
    if kind == "quoted":
        return Token(kind, whole[1:].removesuffix(whole[0]), line)
    return Token(kind, whole.lower() if kind == "word" else whole, line)


def _end_of_block(text: str, at: int) -> int:
    depth = 0
    for edge in _BLOCK_EDGE.finditer(text, at):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)
