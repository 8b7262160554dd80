"""Alembic's revisions into changes: `upgrade()`, and the functions of the same file that it calls."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from asbuilt.spec.migrations.change import Act, Change
from asbuilt.spec.migrations.pytree import (
    find_literals,
    find_value,
    is_constant,
    read_call,
    read_name,
    read_text,
    read_texts,
)
from asbuilt.spec.migrations.sql import parse_sql
from asbuilt.spec.migrations.types import judge_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DEFAULTS: Final = frozenset({"Identity", "Computed", "FetchedValue"})
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_alembic(tree: ast.Module) -> bool:
    """Whether a file has an `upgrade` and takes `op` from somewhere."""
    return any(_is_upgrade(node) for node in tree.body) and bool(_find_op(tree))


def _is_upgrade(node: ast.AST) -> bool:
    # several databases: upgrade_engine1, upgrade_engine2
    return isinstance(node, _Function) and (node.name == "upgrade" or node.name.startswith("upgrade_"))


def _find_op(tree: ast.Module) -> set[str]:
    """The names that `op` goes by in this file."""
    return {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "alembic"
        for alias in node.names
        if alias.name == "op"
    }


def read_alembic(tree: ast.Module) -> list[Change]:
    """The changes of `upgrade()`, in the order of the file."""
    functions = {node.name: node for node in tree.body if isinstance(node, _Function)}
    wanted = [node for node in functions.values() if _is_upgrade(node)]
    seen: set[str] = set()
    changes: list[Change] = []
    ops = _find_op(tree)
    while wanted:
        function = wanted.pop()
        if function.name in seen:
            continue
        seen.add(function.name)
        for call, table in _find_calls(function, ops):
            owner, name = read_call(call)
            if not owner and name in functions and isinstance(call.func, ast.Name):
                wanted.append(functions[name])
            elif name in {"execute", "exec_driver_sql"} and call.args:
                for text, line in find_literals(call.args[0]):
                    changes += parse_sql(text, line)[0]
            elif name in _OPERATIONS and (owner in ops or table is not None):
                changes += _OPERATIONS[name](_Call(call, table))
    return sorted(changes, key=lambda change: change.line)


def _find_calls(function: _Function, ops: set[str]) -> Iterator[tuple[ast.Call, str | None]]:
    """Every call, with the table when it is one of a batch."""
    todo: list[tuple[ast.AST, dict[str, str]]] = [(function, {})]
    while todo:
        node, batches = todo.pop()
        if isinstance(node, ast.With):
            batches = {**batches, **_find_batches(node, ops)}
        if isinstance(node, ast.Call):
            yield node, batches.get(read_call(node)[0])
        todo += [(child, batches) for child in ast.iter_child_nodes(node)]


def _find_batches(node: ast.With, ops: set[str]) -> dict[str, str]:
    found = {}
    for item in node.items:
        owner, name = read_call(item.context_expr)
        if owner in ops and name == "batch_alter_table" and isinstance(item.optional_vars, ast.Name):
            assert isinstance(item.context_expr, ast.Call)  # noqa: S101 - read_call says so
            found[item.optional_vars.id] = read_text(find_value(item.context_expr, "table_name", 0))
    return found


class _Call:
    """One operation; in a batch the table isn't among its arguments."""

    def __init__(self, call: ast.Call, batch: str | None) -> None:
        self.call, self.batch, self.line = call, batch, call.lineno

    def value(self, name: str, position: int | None = None, *, after_table: bool = True) -> ast.expr | None:
        """An argument; `position` counts the table that a batch leaves out."""
        if position is not None and self.batch is not None and after_table:
            position -= 1
        return find_value(self.call, name, position)

    def text(self, name: str, position: int, *, after_table: bool = True) -> str:
        """An argument that is a name."""
        return read_text(self.value(name, position, after_table=after_table)).lower()

    def table(self, name: str = "table_name", position: int = 0) -> str:
        """The table."""
        found = self.batch if self.batch is not None else read_text(find_value(self.call, name, position))
        return found.lower().rpartition(".")[2]

    def change(self, act: Act, table: str, column: str = "", to: str = "") -> Change:
        """A change that stands here."""
        return Change(act, table, self.line, column, to)


def _create_table(one: _Call) -> Iterator[Change]:
    yield one.change(Act.CREATE, one.table())


def _drop_table(one: _Call) -> Iterator[Change]:
    yield one.change(Act.DROP, one.table())


def _rename_table(one: _Call) -> Iterator[Change]:
    yield one.change(Act.RENAME, one.table("old_table_name"), to=one.text("new_table_name", 1))


def _drop_column(one: _Call) -> Iterator[Change]:
    yield one.change(Act.DROP_COLUMN, one.table(), one.text("column_name", 1))


def _add_column(one: _Call) -> Iterator[Change]:
    column = one.value("column", 1)
    if not isinstance(column, ast.Call):
        return
    name = read_text(find_value(column, "name", 0)).lower()
    nullable = find_value(column, "nullable")
    required = is_constant(nullable, value=False) or is_constant(
        find_value(column, "primary_key"), value=True
    )
    given = find_value(column, "server_default")
    defaulted = (given is not None and not is_constant(given, None)) or any(
        read_name(argument) in _DEFAULTS for argument in column.args
    )
    act = Act.ADD_REQUIRED if required and not defaulted else Act.ADD_COLUMN
    yield Change(act, one.table(), one.line, name, defaulted=defaulted)


def _alter_column(one: _Call) -> Iterator[Change]:
    table, column = one.table(), one.text("column_name", 1)
    if new := one.text("new_column_name", 99):
        yield one.change(Act.RENAME_COLUMN, table, column, new)
    if (after := one.value("type_")) is not None:
        before = one.value("existing_type")
        act = judge_types(_render_type(before), _render_type(after)) if before is not None else Act.RETYPE
        if act:
            yield one.change(act, table, column, _render_type(after))
    default = one.value("server_default")
    if default is not None:
        gone = is_constant(default, None) or is_constant(default, value=False)
        yield one.change(Act.DROP_DEFAULT if gone else Act.SET_DEFAULT, table, column)
    if is_constant(one.value("nullable"), value=False):
        yield one.change(Act.REQUIRE, table, column)


def _render_type(node: ast.expr | None) -> str:
    name = read_name(node).lower()
    if isinstance(node, ast.Call):
        length = find_value(node, "length", 0)
        if isinstance(length, ast.Constant) and isinstance(length.value, int):
            return f"{name}({length.value})"
    return name


def _constrain(kind: str, table_name: str, columns: int | None) -> Callable[[_Call], Iterator[Change]]:
    names = {"foreign key": "local_cols"}

    def read(one: _Call) -> Iterator[Change]:
        given = one.value(names.get(kind, "columns"), columns)
        yield Change(
            Act.CONSTRAIN,
            one.table(table_name, 1),
            one.line,
            to=kind,
            columns=tuple(name.lower() for name in read_texts(given)),
        )

    return read


def _drop_constraint(one: _Call) -> Iterator[Change]:
    yield one.change(Act.FREE, one.table(position=1), to=one.text("constraint_name", 0, after_table=False))


def _create_index(one: _Call) -> Iterator[Change]:
    columns = tuple(name.lower() for name in read_texts(one.value("columns", 2)))
    table = one.table(position=1)
    if not is_constant(one.value("postgresql_concurrently"), value=True):
        yield Change(Act.INDEX, table, one.line, columns=columns)
    if is_constant(one.value("unique"), value=True):
        yield Change(Act.CONSTRAIN, table, one.line, to="unique", columns=columns)


_OPERATIONS: Final[dict[str, Callable[[_Call], Iterator[Change]]]] = {
    "create_table": _create_table,
    "drop_table": _drop_table,
    "rename_table": _rename_table,
    "drop_column": _drop_column,
    "add_column": _add_column,
    "alter_column": _alter_column,
    "create_unique_constraint": _constrain("unique", "table_name", 2),
    "create_check_constraint": _constrain("check", "table_name", None),
    "create_foreign_key": _constrain("foreign key", "source_table", 3),
    "create_primary_key": _constrain("primary key", "table_name", 2),
    "create_exclude_constraint": _constrain("exclude", "table_name", None),
    "drop_constraint": _drop_constraint,
    "create_index": _create_index,
}
