"""Django's migrations into changes, and the fields as earlier migrations left them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asbuilt.spec.migrations.change import Act, Change
from asbuilt.spec.migrations.pytree import (
    find_literals,
    find_value,
    is_constant,
    read_call,
    read_name,
    read_text,
)
from asbuilt.spec.migrations.sql import parse_sql
from asbuilt.spec.migrations.types import judge_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

_NO_COLUMN: Final = frozenset({"ManyToManyField", "GenericForeignKey", "GenericRelation"})
_BY_ITSELF: Final = frozenset({"AutoField", "BigAutoField", "SmallAutoField", "GeneratedField"})


@dataclass(frozen=True, slots=True)
class Field:
    """What matters of a field: its class with the length, whether it may be null, whether it is unique."""

    type: str
    null: bool
    unique: bool


Fields = dict[tuple[str, str], Field]
"""By model (`app.model`) and field, as migrations up to a point made them."""


def find_operations(tree: ast.Module) -> list[ast.Call] | None:
    """The operations of a migration; None where the file is none."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Migration":
            for part in node.body:
                names = (
                    part.targets
                    if isinstance(part, ast.Assign)
                    else [part.target]
                    if isinstance(part, ast.AnnAssign)
                    else []
                )
                if any(read_name(name) == "operations" for name in names):
                    assert isinstance(part, ast.Assign | ast.AnnAssign)  # noqa: S101 - only these have names
                    return list(_flatten(part.value))
    return None


def _flatten(node: ast.expr | None) -> Iterator[ast.Call]:
    """Calls in a list, and those that change the database in a SeparateDatabaseAndState."""
    todo: list[ast.expr | None] = [node]
    while todo:
        one = todo.pop()
        if isinstance(one, ast.List | ast.Tuple):
            todo += reversed(one.elts)
        elif isinstance(one, ast.Call):
            if read_call(one)[1] == "SeparateDatabaseAndState":
                todo.append(find_value(one, "database_operations", 0))
            else:
                yield one


def read_django(app: str, operations: list[ast.Call], fields: Fields) -> list[Change]:
    """The changes, in order. `fields` is what earlier migrations left, and is brought up to date."""
    changes: list[Change] = []
    for call in operations:
        name = read_call(call)[1]
        if name in _OPERATIONS:
            changes += _OPERATIONS[name](_Operation(app, call, fields))
    return changes


class _Operation:
    """One operation."""

    def __init__(self, app: str, call: ast.Call, fields: MutableMapping[tuple[str, str], Field]) -> None:
        self._app, self.call, self.fields, self.line = app, call, fields, call.lineno

    def value(self, name: str, position: int | None = None) -> ast.expr | None:
        """An argument."""
        return find_value(self.call, name, position)

    def text(self, name: str, position: int) -> str:
        """An argument that is a name."""
        return read_text(self.value(name, position)).lower()

    def model(self, name: str = "model_name") -> str:
        """The model, with its app: two apps may have models of the same name."""
        return f"{self._app}.{self.text(name, 0)}"

    def change(self, act: Act, column: str = "", to: str = "", model: str = "model_name") -> Change:
        """A change that stands here."""
        return Change(act, self.model(model), self.line, column, to)

    def learn(self, model: str, name: str, field: ast.expr | None) -> None:
        """Remember a field."""
        if isinstance(field, ast.Call):
            self.fields[model, name] = _read_field(field)


def _read_field(field: ast.Call) -> Field:
    length = find_value(field, "max_length")
    size = f"({length.value})" if isinstance(length, ast.Constant) and isinstance(length.value, int) else ""
    return Field(
        read_name(field) + size,
        is_constant(find_value(field, "null"), value=True),
        is_constant(find_value(field, "unique"), value=True),
    )


def _create_model(one: _Operation) -> Iterator[Change]:
    fields = one.value("fields", 1)
    if isinstance(fields, ast.List | ast.Tuple):
        for pair in fields.elts:
            if isinstance(pair, ast.Tuple) and len(pair.elts) == 2:  # noqa: PLR2004 - name and field
                one.learn(one.model("name"), read_text(pair.elts[0]).lower(), pair.elts[1])
    yield one.change(Act.CREATE, model="name")


def _delete_model(one: _Operation) -> Iterator[Change]:
    yield one.change(Act.DROP, model="name")


def _rename_model(one: _Operation) -> Iterator[Change]:
    yield one.change(Act.RENAME, to=one.text("new_name", 1), model="old_name")


def _alter_table(one: _Operation) -> Iterator[Change]:
    yield one.change(Act.RENAME, to=one.text("table", 1), model="name")


def _remove_field(one: _Operation) -> Iterator[Change]:
    yield one.change(Act.DROP_COLUMN, one.text("name", 1))


def _rename_field(one: _Operation) -> Iterator[Change]:
    yield one.change(Act.RENAME_COLUMN, one.text("old_name", 1), one.text("new_name", 2))


def _add_field(one: _Operation) -> Iterator[Change]:
    name, field = one.text("name", 1), one.value("field", 2)
    one.learn(one.model(), name, field)
    if not isinstance(field, ast.Call) or read_name(field) in _NO_COLUMN:
        return
    known = find_value(field, "db_default") is not None
    free = known or _read_field(field).null or read_name(field) in _BY_ITSELF
    if free:
        yield Change(Act.ADD_COLUMN, one.model(), one.line, name, defaulted=known)
    else:
        given = find_value(field, "default") is not None
        yield one.change(Act.ADD_DEFAULTED if given else Act.ADD_REQUIRED, name)


def _alter_field(one: _Operation) -> Iterator[Change]:
    model, name, field = one.model(), one.text("name", 1), one.value("field", 2)
    before = one.fields.get((model, name))
    one.learn(model, name, field)
    after = one.fields.get((model, name))
    if before is None or after is None or not isinstance(field, ast.Call):
        return  # what it was isn't visible
    act = judge_types(before.type, after.type)
    if act:
        yield one.change(act, name, after.type)
    if before.null and not after.null:
        yield one.change(Act.REQUIRE, name)
    if after.unique and not before.unique:
        yield Change(Act.CONSTRAIN, model, one.line, to="unique", columns=(name,))


def _alter_together(one: _Operation) -> Iterator[Change]:
    given = one.value("unique_together", 1)
    if isinstance(given, ast.Set | ast.List | ast.Tuple) and given.elts:
        yield one.change(Act.CONSTRAIN, to="unique", model="name")


def _add_constraint(one: _Operation) -> Iterator[Change]:
    kind = read_name(one.value("constraint", 1)).removesuffix("Constraint").lower()
    yield one.change(Act.CONSTRAIN, to=kind or "new")


def _add_index(one: _Operation) -> Iterator[Change]:
    yield one.change(Act.INDEX)


def _run_sql(one: _Operation) -> Iterator[Change]:
    given = one.value("sql", 0)
    parts = given.elts if isinstance(given, ast.List | ast.Tuple) else [given] if given else []
    for part in parts:
        # some come with their parameters
        first = part.elts[0] if isinstance(part, ast.Tuple | ast.List) and part.elts else part
        for text, line in find_literals(first):
            yield from parse_sql(text, line)[0]


_OPERATIONS: Final[dict[str, Callable[[_Operation], Iterator[Change]]]] = {
    "CreateModel": _create_model,
    "DeleteModel": _delete_model,
    "RenameModel": _rename_model,
    "AlterModelTable": _alter_table,
    "RemoveField": _remove_field,
    "RenameField": _rename_field,
    "AddField": _add_field,
    "AlterField": _alter_field,
    "AlterUniqueTogether": _alter_together,
    "AddConstraint": _add_constraint,
    "AddIndex": _add_index,
    "RunSQL": _run_sql,
}
