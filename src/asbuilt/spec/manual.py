"""The reference manual and the editors' schema, both from the docstrings of `schema`."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import typing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asbuilt.spec import schema
from asbuilt.spec.check import ALWAYS_SET, SET_BY
from asbuilt.spec.codes import CODES
from asbuilt.spec.explain import models_in
from asbuilt.spec.fields import NAME_PATTERN, Model
from asbuilt.spec.load import MODELS, WORDS
from asbuilt.spec.merge import NEEDED
from asbuilt.spec.presets import PRESETS
from asbuilt.spec.schema import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

KINDS: Final = ("development", "staging", "production")
REFERENCE_FILE: Final = "docs/reference/spec.md"
SCHEMA_FILE: Final = "schema/asbuilt.schema.json"


def describe_models() -> None:
    """Give the models' fields the docstrings below them. Reading them takes 40 ms: only the manual does."""
    for node in ast.parse(inspect.getsource(schema)).body:
        if not isinstance(node, ast.ClassDef) or not hasattr(getattr(schema, node.name), "model_fields"):
            continue
        model: type[BaseModel] = getattr(schema, node.name)
        for field, below in pairwise(node.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                model.model_fields[field.target.id].description = ast.get_docstring(ast.Module([below], []))
        model.model_rebuild(force=True)


def render_json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the file as it is written: blocks may be partial, unknown keys are refused."""
    describe_models()
    complete = Environment.model_json_schema()
    definitions: dict[str, Any] = {}
    for name, definition in complete["$defs"].items():
        partial = {key: value for key, value in definition.items() if key != "title"}
        if not name.startswith("SecretFrom"):
            partial.pop("required", None)
        definitions[name] = _tidy(partial)
    written = {component: _component_schema(component, model) for component, model in MODELS.items()}
    for word in WORDS:
        written[word] = _tidy(complete["properties"][word])
    environment = {
        "type": ["object", "null"],
        "additionalProperties": False,
        "description": "One environment: what is different from its preset and from the shared blocks.",
        "properties": {"kind": _tidy(complete["properties"]["kind"]), **written},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "asbuilt.yaml",
        "description": "What asbuilt runs: one application and its environments.",
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "environments"],
        "properties": {
            "name": {"type": "string", "pattern": NAME_PATTERN, "description": "Name of the system."},
            **written,
            "environments": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": NAME_PATTERN},
                "description": "The environments by name.",
                "additionalProperties": {"$ref": "#/$defs/WrittenEnvironment"},
            },
        },
        "$defs": {**definitions, "WrittenEnvironment": environment},
    }


def _component_schema(component: str, model: type[BaseModel]) -> dict[str, Any]:
    reference = {"$ref": f"#/$defs/{model.__name__}"}
    described = _line(model.__doc__ or "")
    if component in NEEDED:
        return {"description": described, **reference}
    return {"description": described, "anyOf": [reference, {"enum": ["none", None, False]}]}


def _tidy(value: Any) -> Any:  # noqa: ANN401, PLR0911 - a JSON document, a flat list of cases
    """Without titles and defaults (those are the presets'); numbers where a text may look like one."""
    if isinstance(value, list):
        return [_tidy(each) for each in value]
    if not isinstance(value, dict):
        return value
    tidy = {
        key: _tidy(each)
        for key, each in value.items()
        if not (key == "title" and isinstance(each, str)) and key != "default"
    }
    if isinstance(tidy.get("description"), str):
        tidy["description"] = _line(tidy["description"])
    if tidy.get("type") == "null":
        return {"enum": ["none", None]}
    if tidy.get("enum") == ["1.3"] or tidy.get("const") == "1.3":
        return {**{k: v for k, v in tidy.items() if k not in {"const", "type"}}, "enum": ["1.3", 1.3]}
    if tidy.get("type") == "string" and tidy.get("maxLength") == 65536:  # noqa: PLR2004 - a variable's value
        return {**tidy, "type": ["string", "number", "boolean"]}
    if tidy.get("pattern") == "^[1-9][0-9]{0,2}$":
        return {**tidy, "type": ["string", "integer"]}
    return tidy


def render_reference() -> str:
    """The manual of asbuilt.yaml as Markdown."""
    describe_models()
    lines = [
        "# The spec: asbuilt.yaml",
        "",
        "<!-- Generated by `python -m asbuilt.spec.manual`; the text stands in src/asbuilt/spec/. -->",
        "",
        "A spec names an application and its environments. An environment begins as the preset of its kind",
        "(its own name, or what `kind` says); the blocks above `environments` change it for all of them, the",
        "environment's own block for itself. Blocks are merged key by key; lists are replaced.",
        "`database: none` leaves a component out, `database: {}` takes it as the preset has it. A component",
        "that the preset lacks, as development lacks the load balancer, is added by the own block and then",
        "starts as production has it. Editors complete and check the file with `schema/asbuilt.schema.json`:",
        "",
        "    # yaml-language-server: $schema=schema/asbuilt.schema.json",
        "",
        "| key | meaning |",
        "|---|---|",
        "| `name` | Name of the system: small letters, digits and dashes, at most 32. Needed. |",
        "| `environments` | The environments by name. Needed. |",
    ]
    for component, model in MODELS.items():
        lines.append(f"| `{component}` | {_cell(model.__doc__ or '')} |")
    for word in ("kind", *WORDS):
        where = " Only inside an environment." if word == "kind" else ""
        lines.append(f"| `{word}` | {_cell(Environment.model_fields[word].description or '')}{where} |")
    for component, model in MODELS.items():
        lines += ["", f"## `{component}`", "", _line(model.__doc__ or ""), "", *_table(component, model)]
    lines += [
        "",
        "## Values",
        "",
        "| form | like | |",
        "|---|---|---|",
        "| size | `512MB`, `16GB` | binary: 1 GB is 1024 MB |",
        "| duration | `500ms`, `30s`, `5m`, `12h`, `30d` | |",
        "| range | `3..20`, `500GB..2TB` | least and most |",
        "| percentage | `70%` | with its sign |",
        "| command | `serve --port $PORT` or `[serve, --port, $PORT]` | no shell; see below |",
        "",
        "Values are taken as they are written: `no` is the text no, `1.30` stays 1.30, `010` stays 010.",
        "In a command `$NAME`, `${NAME}` and `${NAME:-default}` are filled in, `$$` is a `$`; a value",
        'never becomes more than one word. Where a shell is needed: `["sh", "-c", "..."]`.',
        "",
        "## Variables of the app",
        "",
        f"Always: {', '.join(f'`{name}`' for name in sorted(ALWAYS_SET))}.",
        "",
        "| with | variables |",
        "|---|---|",
    ]
    lines += [
        f"| `{each}` | {', '.join(f'`{n}`' for n in sorted(names))} |" for each, names in SET_BY.items()
    ]
    lines += ["", "## Problems", "", "| code | meaning | what to do |", "|---|---|---|"]
    lines += [f"| {code} | {_cell(meaning)} | {_cell(remedy)} |" for code, (meaning, remedy) in CODES.items()]
    return "\n".join(lines) + "\n"


def _table(component: str, model: type[BaseModel]) -> list[str]:
    lines = ["| key | meaning | development | staging | production |", "|---|---|---|---|---|"]
    for path, info in _fields(model, ()):
        values = [_cell(f"`{_default(kind, component, path, info)}`") for kind in KINDS]
        lines.append(f"| `{'.'.join(path)}` | {_cell(info.description or '')} | {' | '.join(values)} |")
    return lines


def _fields(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    for name, info in model.model_fields.items():
        below = models_in(info.annotation)
        if len(below) == 1 and typing.get_origin(info.annotation) is not dict:
            yield from _fields(below[0], (*above, name))
        else:
            yield (*above, name), info


def _default(kind: str, component: str, path: tuple[str, ...], info: FieldInfo) -> str:
    value: Any = PRESETS[kind].get(component, {})
    for part in path:
        if value is None or (len(path) > 1 and part == path[-1] and value == {} and component == "engines"):
            return "none"
        value = value.get(part, ...)
        if value is ...:
            above = MODELS[component].model_fields[part].default if part == path[0] else None
            nested = len(path) > 1 and part == path[0] and not isinstance(above, Model)
            return "none" if nested else _plain(info)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(info: FieldInfo) -> str:
    if info.is_required():
        return "needed"
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def write_manual(root: Path) -> None:
    """Write both files below a folder, the root of the repository."""
    for name, text in (
        (REFERENCE_FILE, render_reference()),
        (SCHEMA_FILE, json.dumps(render_json_schema(), indent=2) + "\n"),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def main() -> None:
    """Write the manual and the schema."""
    parser = argparse.ArgumentParser(description="Write the manual and the schema of asbuilt.yaml.")
    parser.add_argument("root", nargs="?", default=".", help="root of the repository")
    write_manual(Path(parser.parse_args().root))


if __name__ == "__main__":
    main()
