"""What pydantic finds, in plain words. Pure; a value of `env` or `secrets` is never repeated in a message."""

from __future__ import annotations

import difflib
import typing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import BaseModel

from asbuilt.spec import fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]
ANY_WAY: Final = "{env: NAME}, {file: PATH} or {command: [WORDS]}"


class Finding(NamedTuple):
    """Something wrong at a location inside a component. `at_key`: the key itself is wrong."""

    location: Location
    code: str
    what: str
    hint: str = ""
    at_key: bool = False


_FORMS: Final[dict[str, tuple[str, str]]] = {
    fields.NAME_PATTERN: ("can't be a name", "small letters, digits and dashes, at most 32, a letter first"),
    fields.VARIABLE_PATTERN: ("can't be the name of a variable", "letters, digits and _, like DATABASE_POOL"),
}
_FIELD_FORMS: Final[dict[str, tuple[str, str]]] = {
    "health": ("is not a path", "write a path that begins with /, like /health"),
    "path": ("is not a path", "write a path that begins with /, like /health"),
    "directory": ("leads out of the project's folder", "write a path below the folder of asbuilt.yaml"),
    "domains": ("is not a host name", "write small letters, digits, dots and dashes, like shop.example"),
    "address": ("is not an IPv4 address", "write 127.0.0.1 or 0.0.0.0"),
    "bucket": ("can't be the name of a bucket", "small letters, digits and dashes, 3 to 63"),
    "endpoint": (
        "is not the address of a service",
        "like https://s3.eu-central-1.amazonaws.com, without a path",
    ),
    "recipients": ("is not a public key of age", "a line that begins with age1, as age-keygen -y prints it"),
    "node": ("is not a major version of Node.js", 'write a number like "22"'),
}
_SHAPES: Final[dict[str, str]] = {
    "string_type": "expected text",
    "list_type": "expected a list, like [a, b]",
    "dict_type": "expected a block of keys and values",
    "model_type": "expected a block of keys and values",
    "int_type": "expected a whole number",
    "int_parsing": "is not a whole number",
    "int_from_float": "is not a whole number",
    "int_parsing_size": "is far too large a number",
    "float_type": "expected a number",
    "float_parsing": "is not a number",
    "bool_type": "expected true or false",
    "bool_parsing": "is neither true nor false",
}
_LIMITS: Final[dict[str, tuple[str, str]]] = {
    "greater_than": ("gt", "must be more than"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be less than"),
    "less_than_equal": ("le", "must be at most"),
}


def suggest(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown key."""
    names = sorted(known)
    near = difflib.get_close_matches(word[:64], names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"known here: {', '.join(names)}" if names else ""


def explain(model: type[BaseModel], error: ErrorDetails) -> Finding:  # noqa: C901, PLR0911, PLR0912 - a flat table of cases
    """One error of pydantic as a finding."""
    location = error["loc"]
    given = error["input"]
    kind = error["type"]
    context: dict[str, Any] = error.get("ctx", {})
    shown = "" if {"env", "secrets", "command", "migrate"} & set(location) else show(given)
    name = next((str(p) for p in reversed(location) if isinstance(p, str) and p[:1] not in "<["), "")
    if kind == "extra_forbidden":
        key = str(location[-1])
        return Finding(
            location,
            "SPEC-005",
            "there is no such key",
            suggest(key, fields_at(model, location[:-1])),
            at_key=True,
        )
    if kind == "missing":
        return Finding(location, "SPEC-006", "is missing", _EXAMPLES.get(name, ""))
    if kind in {"union_tag_not_found", "union_tag_invalid"}:
        if "secrets" in location:
            return Finding(
                location, "SPEC-015", "a secret is given by reference, never itself", f"write {ANY_WAY}"
            )
        return Finding(location, "SPEC-007", "expected a line or a list of words")
    if given is None and kind != "value_error":
        hint = 'write "" for an empty text' if "env" in location else ""
        return Finding(location, "SPEC-006", "has no value", hint)
    if kind == "value_error":
        what = str(context.get("error", "is not understood"))
        return Finding(location, "SPEC-012" if " is above " in what else "SPEC-008", *_split_hint(what))
    if kind == "string_pattern_mismatch":
        return _explain_pattern(location, given, str(context.get("pattern", "")), name, shown)
    if kind in {"string_too_long", "too_long"}:
        return Finding(location, "SPEC-009", f"is too long: at most {context.get('max_length')}")
    if kind in {"string_too_short", "too_short"}:
        return Finding(location, "SPEC-006", "is empty")
    if kind == "literal_error":
        expected = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ")
        what = (
            f"{shown or 'the value'} is not one of {expected}"
            if "," in expected
            else f"{shown} is not {expected}"
        )
        return Finding(
            location, "SPEC-008", what, suggest(given, expected.split(", ")) if isinstance(given, str) else ""
        )
    if kind in _LIMITS:
        key, words = _LIMITS[kind]
        if name == "version":
            return Finding(
                location, "SPEC-020", f"not supported yet: version {shown}", f"write {context[key]}"
            )
        return Finding(location, "SPEC-009", f"{words} {int(context[key])}")
    if kind in _SHAPES:
        words = _SHAPES[kind]
        scalar = words.startswith("is ")
        return Finding(
            location,
            "SPEC-008" if scalar else "SPEC-007",
            f"{shown or 'the value'} {words}" if scalar else words,
        )
    return Finding(location, "SPEC-008", "is not understood")


def _explain_pattern(location: Location, given: object, pattern: str, name: str, shown: str) -> Finding:
    at_key = location[-1] == "[key]"
    if at_key and len(location) > 1:
        shown = show(location[-2])
    if isinstance(given, str) and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in given):  # noqa: PLR2004 - controls
        what = "has a line break in it" if "\n" in given else "has a control character in it"
        hint = "write it on one line, or with >- in front" if "\n" in given else "remove it"
        return Finding(location, "SPEC-008", what, hint, at_key)
    what, hint = _FORMS.get(pattern) or _FIELD_FORMS.get(name) or ("has characters that can't be here", "")
    return Finding(location, "SPEC-008", f"{shown} {what}".strip(), hint, at_key)


_EXAMPLES: Final = {
    "command": "write how the app is started, like: command: gunicorn shop:app --bind $HOST:$PORT",
    "path": "name the folder that holds the programs",
}


def show(value: object) -> str:
    """A value for a message: quoted, on one line, short."""
    if not isinstance(value, (str, int, float)):
        return ""
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")  # noqa: PLR2004 - fits a line


def _split_hint(what: str) -> tuple[str, str]:
    first, _, rest = what.partition("; ")
    if first.startswith("'") and len(first) > 120:  # noqa: PLR2004 - a hostile value would fill the screen
        first = first[:57] + "...'" + first[first.rfind("' is ") + 1 :]
    return first, rest


def models_in(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - any type there is
    """The models that an annotation is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in models_in(part)]


def fields_at(model: type[BaseModel], location: Location) -> set[str]:
    """The keys that are known at a location."""
    models = [model]
    for part in location:
        fields = [m.model_fields[part] for m in models if isinstance(part, str) and part in m.model_fields]
        if fields:
            models = [each for field in fields for each in models_in(field.annotation)]
    return {name for m in models for name in m.model_fields}
