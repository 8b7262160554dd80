"""JavaScript and TypeScript migrations into changes: knex, Sequelize, node-pg-migrate, TypeORM.

Only what stands there plainly: a call with its names as strings, inside of `up`. Invariant: linear, and
nothing raises.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from asbuilt.spec.migrations.change import Act, Change, Comment
from asbuilt.spec.migrations.sql import parse_sql
from asbuilt.spec.migrations.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
    |(?P<comment>//[^\n]*|/\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z))
    |(?P<string>"(?:[^"\\\n]++|\\.)*+"?|'(?:[^'\\\n]++|\\.)*+'?|`(?:[^`\\]++|\\.)*+`?)
    |(?P<number>\d[\w.]*)
    |(?P<word>[^\W\d][\w$]*|\$[\w$]*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_AT_WAY: Final = frozenset({".", ",", "{", ";", "}", "function", "async", "public", "const", "let"})
_QUERIES: Final = frozenset({"raw", "query", "sql"})
_TABLE_FIRST: Final = frozenset({"pgm", "queryinterface", "queryrunner"})
"""Receivers whose methods are told the table before the column."""
_DEFINES: Final = frozenset({"altertable", "table"})


def _read_tokens(text: str) -> Iterator[Token]:
    line = 1
    at = 0
    while found := _TOKEN.match(text, at):
        kind = str(found.lastgroup)
        if kind == "string":
            yield Token(kind, found[0][1:].removesuffix(found[0][0]), line)
        elif kind != "space":
            yield Token(kind, found[0], line)
        line += found[0].count("\n")
        at = found.end()


def parse_script(text: str) -> tuple[list[Change], list[Comment]]:
    """The changes that `up` makes, and the comments of the file."""
    comments: list[Comment] = []
    tokens: list[Token] = []
    for token in _read_tokens(text):
        if token.kind == "comment":
            comments.append(Comment(token.text, token.line))
        else:
            tokens.append(token)
    return list(_read(tokens)), comments


def _read(tokens: Sequence[Token]) -> Iterator[Change]:
    up = False
    table = ""
    for at, token in enumerate(tokens):
        if token.kind != "word" or at + 1 == len(tokens):
            continue
        way = _find_way(tokens, at)
        if way:
            up, table = way == "up", ""
        elif up and tokens[at + 1].text == "(" and tokens[at + 1].kind == "other":
            texts = _texts(tokens, at + 2)
            name = token.text.lower()
            if name in _DEFINES and texts:
                table = _plain(texts[0].text)
            receiver = tokens[at - 2].text.lower() if at > 1 and tokens[at - 1].text == "." else ""
            yield from _read_call(name, receiver, texts, table, token.line)


def _find_way(tokens: Sequence[Token], at: int) -> str:
    """`up` or `down` where a function of that name begins."""
    name = tokens[at].text
    if name not in {"up", "down"} or tokens[at + 1].text not in {"=", ":", "("}:
        return ""
    before = tokens[at - 1].text if at else ";"
    if before == "." and (at < 2 or tokens[at - 2].text != "exports"):  # noqa: PLR2004 - the word before the dot
        return ""
    return name if before in _AT_WAY else ""


def _texts(tokens: Sequence[Token], at: int) -> list[Token]:
    """The strings that a call begins with, also those of one list; up to the first that is none."""
    found: list[Token] = []
    while at < len(tokens):
        token = tokens[at]
        if token.kind == "string" and "${" not in token.text:
            found.append(token)
        elif token.text not in {",", "[", "]"}:
            break
        at += 1
    return found


def _plain(name: str) -> str:
    return name.lower().rpartition(".")[2].strip('"')


def _read_call(name: str, receiver: str, texts: list[Token], table: str, line: int) -> Iterator[Change]:
    names = [_plain(token.text) for token in texts]
    if name in _QUERIES:
        for token in texts[:1]:
            yield from parse_sql(token.text, token.line)[0]
    elif not names:
        return
    elif name in {"createtable", "createtableifnotexists", "createview"}:
        yield Change(Act.CREATE, names[0], line, to="view" if "view" in name else "")
    elif name in {"droptable", "droptableifexists", "dropview"}:
        yield Change(Act.DROP, names[0], line, to="view" if "view" in name else "")
    elif name == "renametable" and len(names) > 1:
        yield Change(Act.RENAME, names[0], line, to=names[1])
    elif name in {"dropcolumn", "dropcolumns", "removecolumn"}:
        yield from _drop_columns(name, receiver, names, table, line)
    elif name == "renamecolumn" and len(names) > 1:
        owner, (old, new) = (names[0], names[1:3]) if len(names) > 2 else (table, names[:2])  # noqa: PLR2004
        yield Change(Act.RENAME_COLUMN, owner, line, old, new)
    elif name == "dropnullable":
        yield Change(Act.REQUIRE, table, line, names[0])


def _drop_columns(name: str, receiver: str, names: list[str], table: str, line: int) -> Iterator[Change]:
    first = receiver in _TABLE_FIRST or name == "removecolumn" or (name == "dropcolumn" and len(names) > 1)
    owner, columns = (names[0], names[1:]) if first and len(names) > 1 else (table, names)
    for column in columns:
        yield Change(Act.DROP_COLUMN, owner, line, column)
