"""Python files as trees, and the few questions that migrations need answered. Nothing of them is executed.

Invariant: nothing raises on any text, and no walk recurses.
"""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from typing import TYPE_CHECKING

from asbuilt.spec.migrations.change import Comment

if TYPE_CHECKING:
    from collections.abc import Iterator


def parse_python(text: str) -> ast.Module | None:
    """The tree; None where it is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in somebody's string is not our talk
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def read_comments(text: str) -> list[Comment]:
    """The comments of a file that has a tree."""
    found: list[Comment] = []
    try:
        found.extend(
            Comment(token.string, token.start[0])
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type == tokenize.COMMENT
        )
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        return found
    return found


def read_call(node: ast.AST) -> tuple[str, str]:
    """Whose method a call is, and its name: `op.drop_table(...)` is `op`, `drop_table`."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            owner = node.func.value
            return (owner.id if isinstance(owner, ast.Name) else ""), node.func.attr
        if isinstance(node.func, ast.Name):
            return "", node.func.id
    return "", ""


def find_value(call: ast.Call, name: str, position: int | None = None) -> ast.expr | None:
    """An argument by its name, or by its position."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if position is not None and position < len(call.args):
        plain = not any(isinstance(one, ast.Starred) for one in call.args[: position + 1])
        return call.args[position] if plain else None
    return None


def read_text(node: ast.AST | None) -> str:
    """A string literal; empty for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def read_texts(node: ast.AST | None) -> tuple[str, ...]:
    """A list of string literals; empty when there is anything else in it."""
    if not isinstance(node, ast.List | ast.Tuple | ast.Set):
        return ()
    texts = tuple(read_text(one) for one in node.elts)
    return texts if all(texts) else ()


def is_constant(node: ast.AST | None, value: object) -> bool:
    """Whether it is `True`, `False` or `None` as given."""
    return isinstance(node, ast.Constant) and node.value is value


def read_name(node: ast.AST | None) -> str:
    """The last word of `a.b.C`, `C`, or of a call of it."""
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def find_literals(node: ast.AST) -> Iterator[tuple[str, int]]:
    """The string literals of SQL in an argument, with the line that each begins in: also in `text("...")`."""
    if text := read_text(node):
        yield text, getattr(node, "lineno", 1)
    elif isinstance(node, ast.Call) and node.args and (text := read_text(node.args[0])):
        yield text, node.args[0].lineno
