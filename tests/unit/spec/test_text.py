# ruff: noqa: PT017 - a refusal is one of two good outcomes of these properties
"""Spec -> text -> spec, and what hostile values may do: be refused, or stay one harmless value."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asbuilt.spec.load import load
from asbuilt.spec.schema import Spec
from asbuilt.spec.text import quote, render_spec
from asbuilt.values.errors import SpecError

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
LINE = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="$"),
    min_size=1,
    max_size=30,
)
VARIABLE = st.from_regex(r"X_[A-Za-z0-9]{0,10}_ID", fullmatch=True)
SIZES = st.integers(2**27, 2**50).map(lambda n: f"{n >> 20}MB")
TIMES = st.integers(1, 10**6).map(lambda n: f"{n}ms")
REFERENCE = st.one_of(
    st.fixed_dictionaries({"env": VARIABLE}),
    st.fixed_dictionaries({"file": LINE}),
    st.fixed_dictionaries({"command": st.lists(LINE, min_size=1, max_size=3)}),
)
PORTS = st.sampled_from([(None, None), (8443, 8080), (1024, 65535)])


@st.composite
def apps(draw: st.DrawFn) -> dict[str, Any]:
    env = draw(
        st.dictionaries(VARIABLE.map(lambda v: f"E{v}"), TEXT.filter(lambda t: "://" not in t), max_size=4)
    )
    return {
        "command": draw(
            st.lists(LINE.filter(lambda t: "=" not in t and "://" not in t), min_size=1, max_size=4)
        ),
        "health": draw(st.from_regex(r"/[A-Za-z0-9._~/?=&-]{0,20}", fullmatch=True)),
        "instances": draw(st.sampled_from(["1", "3..20", "200"])),
        "cpu": draw(st.floats(0.1, 64)),
        "memory": draw(SIZES),
        "disk": draw(SIZES),
        "start_timeout": draw(TIMES),
        "reload": draw(st.booleans()),
        "env": env,
        "secrets": draw(st.dictionaries(VARIABLE, REFERENCE, max_size=3)),
    }


@st.composite
def environments(draw: st.DrawFn) -> dict[str, Any]:
    https, http = draw(PORTS)
    balancer = {
        "connections": draw(st.integers(100, 10**6)),
        "health_check": {"interval": draw(TIMES)},
        "domains": draw(st.lists(st.sampled_from(["shop.example", "*.a.b", "no", "1.2"]), max_size=3)),
        "https_port": https,
        "http_port": http,
    }
    database = {
        "replicas": draw(st.integers(0, 8)),
        "storage": draw(st.sampled_from(["1GB", "500GB..2TB"])),
        "backup": draw(st.sampled_from([None, {}, {"retention": "7d"}])),
    }
    cache = {
        "replicas": draw(st.integers(0, 8)),
        "memory": draw(SIZES),
        "eviction": draw(st.sampled_from(["lru", "none"])),
    }
    return {
        "kind": draw(st.sampled_from(["development", "staging", "production"])),
        "app": draw(apps()),
        "load_balancer": draw(st.sampled_from([None, balancer])),
        "database": draw(st.sampled_from([None, database])),
        "cache": draw(st.sampled_from([None, cache])),
        "objects": draw(st.sampled_from([None, {}, {"bucket": "none"}])),
        "files": draw(st.sampled_from([None, {}])),
        "engines": draw(st.sampled_from([{}, {"redis": {"path": "/opt/a b"}}])),
    }


SPECS = st.fixed_dictionaries(
    {"name": NAMES, "environments": st.dictionaries(NAMES, environments(), min_size=1, max_size=2)}
)


def load_text(text: str) -> Spec:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "asbuilt.yaml"
        file.write_text(text, encoding="utf-8", newline="")
        return load(file).spec


@settings(max_examples=30, deadline=None)
@given(SPECS)
def test_spec_to_text_to_spec(data: dict[str, Any]) -> None:
    spec = Spec.model_validate(data)
    text = render_spec(spec)
    assert text.isascii()
    assert load_text(text) == spec
    assert render_spec(load_text(text)) == text


HOSTILE = st.one_of(
    st.sampled_from(
        [
            "; rm -rf /",
            "$(id)",
            "`id`",
            "a\nb: c",
            "../../etc/passwd",
            "/etc/passwd",
            "x\0y",
            "a\r\nb",
            "\x1b[2J",
            "9" * 400,
            "-1",
            "1e400",
            "<<",
            "*a",
            "&a",
            "!x",
            "{{ x }}",
            "%s",
            "' or 1=1",
            "\u2028",
            "\x85",
            "|",
            "~",
        ]
    ),
    TEXT,
)
FIELDS = [
    "health",
    "directory",
    "python",
    "node",
    "instances",
    "memory",
    "build",
    "command",
    "migrate",
    "cpu",
]


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(FIELDS), HOSTILE)
def test_a_hostile_value_is_refused_or_stays_one_line(field: str, value: str) -> None:
    text = f"name: shop\napp:\n  {field}: {quote(value)}\nenvironments: {{staging: {{}}}}\n"
    text = text if field == "command" else text.replace("app:\n", "app:\n  command: serve\n")
    try:
        spec = load_text(text)
    except SpecError as error:
        assert all(problem.code and problem.place.line for problem in error.problems)
        assert all(line.isprintable() for line in error.render().splitlines())
        return
    got = getattr(spec.environments["staging"].app, field)
    assert len(str(got).splitlines()) <= 1
    assert str(got).isprintable() or not any(ord(c) < 32 and c != "\t" for c in str(got))
    if field == "directory":
        assert not got.startswith("/")
        assert ".." not in got.split("/")


@settings(max_examples=50, deadline=None)
@given(HOSTILE, HOSTILE)
def test_hostile_keys_and_names(key: str, value: str) -> None:
    for text in (
        f"name: {quote(value)}\napp: {{command: x}}\nenvironments: {{{quote(key)}: {{kind: staging}}}}\n",
        f"name: a\napp: {{command: x, env: {{{quote(key)}: {quote(value)}}}}}\nenvironments: {{staging: }}\n",
        f"name: a\n{quote(key)}: {quote(value)}\n",
        value,
    ):
        try:
            spec = load_text(text)
        except SpecError as error:
            assert error.render()
            continue
        assert all(name.isascii() and "/" not in name for name in (spec.name, *spec.environments))
        if "staging" in spec.environments:
            assert set(spec.environments["staging"].app.env) <= {key}


@settings(max_examples=80, deadline=None)
@given(st.text(alphabet=" \n\t:-[]{}&*!|>'\"%@`#,?<~nameop1.", max_size=60))
def test_any_text_gives_a_spec_or_problems(text: str) -> None:
    with pytest.raises(SpecError):
        load_text(text)
