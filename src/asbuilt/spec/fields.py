"""The kinds of values that a spec is written with: sizes, durations, names, paths, one line of text.

Invariant: a value that passes here cannot add a line to a configuration file nor leave its folder.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from asbuilt.values.units import Count, Duration, Percent, Size, SizeRange

_Value = TypeVar("_Value", Size, Duration, Count, SizeRange, Percent)


def _parser(kind: type[_Value]) -> BeforeValidator:
    def parse(value: Any) -> Any:  # noqa: ANN401 - the raw scalar of the file, whatever it is
        if isinstance(value, kind):
            return value
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise ValueError(f"expected {_EXPECTED[kind]}")  # noqa: TRY004 - pydantic collects ValueErrors only
        return kind.parse(str(value))

    return BeforeValidator(parse)


_EXPECTED: dict[type, str] = {
    Size: "a size like 512MB or 16GB",
    Duration: "a duration like 30s or 5m",
    Count: "a number or a range like 3..20",
    SizeRange: "a size or a range of sizes like 500GB..2TB",
    Percent: "a percentage like 70%",
}

_TEXT = PlainSerializer(str, return_type=str)
SizeField = Annotated[
    Size, _parser(Size), _TEXT, WithJsonSchema({"type": "string", "examples": ["512MB", "16GB"]})
]
DurationField = Annotated[
    Duration, _parser(Duration), _TEXT, WithJsonSchema({"type": "string", "examples": ["500ms", "30s", "5m"]})
]
CountField = Annotated[
    Count,
    _parser(Count),
    _TEXT,
    WithJsonSchema({"type": ["integer", "string"], "examples": [3, "3..20"]}),
]
SizeRangeField = Annotated[
    SizeRange,
    _parser(SizeRange),
    _TEXT,
    WithJsonSchema({"type": "string", "examples": ["500GB", "500GB..2TB"]}),
]

PercentField = Annotated[
    Percent, _parser(Percent), _TEXT, WithJsonSchema({"type": "string", "examples": ["70%"]})
]

NAME_PATTERN = r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$"
"""Names end up in host names, bucket names, roles and paths: the strictest of these decides."""

VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"


class Model(BaseModel):
    """Base of all: frozen, unknown keys refused. Docstrings of attributes become descriptions in `manual`."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        defer_build=True,  # each model is built when it is first used, most as a part of another
    )


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Line = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]*$")]
"""One line of text: no control characters, so that no value can add a line to a configuration file."""
_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4 = rf"^{_OCTET}(\.{_OCTET}){{3}}$"
UrlPath = Annotated[str, Field(max_length=1024, pattern=r"^/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*$")]
HostName = Annotated[
    str,
    Field(
        max_length=253,
        pattern=r"^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    ),
]
_PART = r"(\.|\.?[^./\x00-\x1f\x7f][^/\x00-\x1f\x7f]*|\.\.[^/\x00-\x1f\x7f]+)"
"""A name in a path that is not `..`, written without look-ahead: the schema's expressions have none."""
RelativePath = Annotated[str, Field(max_length=1024, pattern=rf"^{_PART}(/+{_PART})*/*$")]
"""A path inside the project: not absolute and without `..`."""
Port = Annotated[int, Field(ge=1024, le=65535)]
Variable = Annotated[str, Field(pattern=VARIABLE_PATTERN)]
Text = Annotated[str, Field(max_length=65536, pattern=r"^[^\x00]*$")]


def _nothing(value: Any) -> Any:  # noqa: ANN401 - the raw value of the file, whatever it is
    return None if value in ("none", "None") else value


NoneWord = BeforeValidator(_nothing)
"""For fields that may be left out: `none` says so, as `null` does."""


def at_least(least: str) -> AfterValidator:
    """For sizes that must not be smaller."""
    smallest = Size.parse(least)

    def check(size: Size) -> Size:
        if size < smallest:
            raise ValueError(f"{size} is too little: at least {least}")
        return size

    return AfterValidator(check)


def _timer(duration: Duration) -> Duration:
    if not 0.001 <= duration.seconds <= 20 * 86400:  # noqa: PLR2004 - said in the message
        raise ValueError("between 1ms and 20d")
    return duration


TimerField = Annotated[DurationField, AfterValidator(_timer)]
"""A time that an engine counts in milliseconds; some of them use 31 bits for it."""
