"""SQL into changes: the statements of PostgreSQL that change tables.

Invariant: linear in the text, and nothing raises. Strings and comments are skipped; the body of a DO block is
read, because it runs. What stands after a mark of the way back (`-- migrate:down`) is not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from asbuilt.spec.migrations.change import Act, Change, Comment
from asbuilt.spec.migrations.tokens import Token, read_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_DOWN: Final = re.compile(r"--\s*(?:migrate:down|\+\s*(?:goose|migrate)\s+down)\b", re.IGNORECASE)
_UP: Final = re.compile(r"--\s*(?:migrate:up|\+\s*(?:goose|migrate)\s+up)\b", re.IGNORECASE)
_BODY_STARTS: Final = frozenset({"begin", "then", "else", "loop"})
_RULES: Final = frozenset({"unique", "check", "foreign", "primary", "exclude"})
_NOT_A_COLUMN: Final = frozenset({*_RULES, "constraint", "index", "key"})
_SERIAL: Final = frozenset({"serial", "bigserial", "smallserial", "serial4", "serial8", "serial2"})
_DEEPEST: Final = 3
"""DO blocks in DO blocks that are read."""


def parse_sql(text: str, line: int = 1) -> tuple[list[Change], list[Comment]]:
    """The changes that a script makes, and its comments."""
    comments: list[Comment] = []
    return list(_read(text, line, comments, 0)), comments


def _read(text: str, line: int, comments: list[Comment], depth: int) -> Iterator[Change]:
    for statement in _split(read_tokens(text, line), comments, inner=depth > 0):
        yield from _read_statement(statement)
        if statement[0].says("do") and depth < _DEEPEST:
            for token in statement:
                if token.kind == "body":
                    yield from _read(token.text, token.line, [], depth + 1)


def _split(tokens: Iterable[Token], comments: list[Comment], *, inner: bool) -> Iterator[list[Token]]:
    """Statements, without comments; those of the way down left out."""
    statement: list[Token] = []
    down = False
    for token in tokens:
        if token.kind == "comment":
            comments.append(Comment(token.text, token.line))
            down = not _UP.match(token.text) if down else bool(_DOWN.match(token.text))
        elif token.says(";") or (inner and token.says(*_BODY_STARTS)):
            if statement:
                yield statement
            statement = []
        elif not down:
            statement.append(token)
    if statement:
        yield statement


class _Words:
    """The tokens of one statement, read from left to right; past the end everything is empty."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self.line = tokens[0].line if tokens else 0

    def take(self, *words: str) -> bool:
        """Step over these words when they are next, all of them in this order."""
        ahead = self._tokens[self._at : self._at + len(words)]
        if len(ahead) < len(words) or not all(t.says(w) for t, w in zip(ahead, words, strict=True)):
            return False
        self._at += len(words)
        return True

    def skip(self, *words: str) -> None:
        """Step over any of these words."""
        while self._at < len(self._tokens) and self._tokens[self._at].says(*words):
            self._at += 1

    def name(self) -> str:
        """A name, its schema left out."""
        name = self._one()
        while self.take("."):
            name = self._one()
        return name

    def _one(self) -> str:
        if self._at >= len(self._tokens) or not self._tokens[self._at].name:
            return ""
        self._at += 1
        return self._tokens[self._at - 1].name

    def rest(self) -> Sequence[Token]:
        """What is not read yet."""
        return self._tokens[self._at :]

    def has(self, *words: str) -> bool:
        """Whether these words come one after the other, at any place that is not read yet."""
        rest = self.rest()
        return any(
            all(token.says(word) for token, word in zip(rest[at:], words, strict=False))
            for at in range(len(rest) - len(words) + 1)
        )

    def type_name(self) -> str:
        """The words of a type, as they are written."""
        said: list[str] = []
        for token in self.rest():
            if token.says("using", "collate") or len(said) > 8:  # noqa: PLR2004 - longer is no type
                break
            said.append(token.text)
        return re.sub(r" ?([(),.\[\]]) ?", r"\1", " ".join(said))


def _read_statement(tokens: list[Token]) -> Iterator[Change]:
    words = _Words(tokens)
    if words.take("alter"):
        yield from _read_alter(words)
    elif words.take("drop"):
        words.skip("materialized")
        kind = "view" if words.take("view") else "table" if words.take("table") else ""
        if kind:
            words.skip("if", "exists")
            to = kind if kind == "view" else ""
            yield from (Change(Act.DROP, name, words.line, to=to) for name in _names(words))
    elif words.take("create"):
        yield from _read_create(words)


def _names(words: _Words) -> Iterator[str]:
    while name := words.name():
        yield name
        if not words.take(","):
            return


def _read_create(words: _Words) -> Iterator[Change]:
    words.skip("or", "replace", "global", "local", "temporary", "temp", "unlogged", "foreign", "recursive")
    words.skip("materialized")
    kind = "view" if words.take("view") else "table" if words.take("table") else ""
    if kind:
        words.skip("if", "not", "exists")
        yield Change(Act.CREATE, words.name(), words.line, to=kind if kind == "view" else "")
        return
    unique = words.take("unique")
    if not words.take("index"):
        return
    at_leisure = words.take("concurrently")
    words.skip("if", "not", "exists")
    if not words.take("on"):
        words.name()
        words.take("on")
    words.skip("only")
    table = words.name()
    columns = _columns(words.rest())
    if not at_leisure:
        yield Change(Act.INDEX, table, words.line, columns=columns)
    if unique:
        yield Change(Act.CONSTRAIN, table, words.line, to="unique", columns=columns)


def _columns(tokens: Sequence[Token]) -> tuple[str, ...]:
    """The names in the first parentheses; empty when there is anything but names."""
    names: list[str] = []
    inside = False
    for token in tokens:
        if token.says("("):
            if inside:
                return ()
            inside = True
        elif inside and token.says(")"):
            return tuple(names)
        elif inside and token.name:
            if not token.says("asc", "desc", "nulls", "first", "last"):
                names.append(token.name)
        elif inside and not token.says(","):
            return ()
    return ()


def _read_alter(words: _Words) -> Iterator[Change]:
    if words.take("type"):
        name = words.name()
        if words.take("rename"):
            yield Change(Act.RENAME_VALUE, name, words.line)
        return
    words.skip("materialized", "foreign")
    if not (words.take("table") or words.take("view")):
        return
    words.skip("if", "exists", "only")
    table = words.name()
    words.skip("*")
    for action in _actions(words.rest()):
        yield from _read_action(_Words(action), table)


def _actions(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Split at the commas that are in no parentheses."""
    action: list[Token] = []
    depth = 0
    for token in tokens:
        if token.says("("):
            depth += 1
        elif token.says(")"):
            depth -= 1
        if token.says(",") and depth <= 0:
            if action:
                yield action
            action = []
        else:
            action.append(token)
    if action:
        yield action


def _read_action(words: _Words, table: str) -> Iterator[Change]:
    if words.take("drop"):
        yield from _read_drop(words, table)
    elif words.take("rename"):
        yield from _read_rename(words, table)
    elif words.take("alter"):
        words.skip("column")
        yield from _read_column(words, table, words.name())
    elif words.take("set", "schema"):
        yield Change(Act.RENAME, table, words.line, to=f"{words.name()}.{table}")
    elif words.take("add"):
        yield from _read_add(words, table)


def _read_drop(words: _Words, table: str) -> Iterator[Change]:
    if words.take("constraint"):
        words.skip("if", "exists")
        yield Change(Act.FREE, table, words.line, to=words.name())
        return
    words.skip("column")
    words.skip("if", "exists")
    if column := words.name():
        yield Change(Act.DROP_COLUMN, table, words.line, column)


def _read_rename(words: _Words, table: str) -> Iterator[Change]:
    if words.take("to"):
        yield Change(Act.RENAME, table, words.line, to=words.name())
        return
    if words.take("constraint"):
        return
    words.skip("column")
    column = words.name()
    if words.take("to"):
        yield Change(Act.RENAME_COLUMN, table, words.line, column, words.name())


def _read_column(words: _Words, table: str, column: str) -> Iterator[Change]:
    if words.take("set", "not", "null"):
        yield Change(Act.REQUIRE, table, words.line, column)
    elif words.take("drop", "default"):
        yield Change(Act.DROP_DEFAULT, table, words.line, column)
    elif words.take("set", "default"):
        yield Change(Act.SET_DEFAULT, table, words.line, column)
    elif words.take("type") or words.take("set", "data", "type"):
        yield Change(Act.RETYPE, table, words.line, column, words.type_name())


def _read_add(words: _Words, table: str) -> Iterator[Change]:
    if words.take("constraint"):
        words.name()
    rest = words.rest()
    if rest and rest[0].says(*_NOT_A_COLUMN):
        if rest[0].says(*_RULES) and not words.has("using", "index"):
            kind = " ".join(token.text for token in rest[: 2 if rest[0].says("foreign", "primary") else 1])
            yield Change(Act.CONSTRAIN, table, words.line, to=kind, columns=_columns(rest))
        return
    words.skip("column")
    words.skip("if", "not", "exists")
    column = words.name()
    if not column:
        return
    said = _Words(_outside(words.rest()))
    given = said.has("default") or said.has("generated") or any(t.says(*_SERIAL) for t in said.rest())
    required = said.has("not", "null") or said.has("primary", "key")
    act = Act.ADD_REQUIRED if required and not given else Act.ADD_COLUMN
    yield Change(act, table, words.line, column, defaulted=given)


def _outside(tokens: Sequence[Token]) -> list[Token]:
    """Those that are in no parentheses."""
    found: list[Token] = []
    depth = 0
    for token in tokens:
        if token.says(")"):
            depth -= 1
        elif depth <= 0 and not token.says("("):
            found.append(token)
        if token.says("("):
            depth += 1
    return found
