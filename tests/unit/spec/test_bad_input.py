"""Whatever is in the file: problems with a code, a place and plain words, never another exception."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from asbuilt.spec.codes import CODES
from asbuilt.spec.load import load
from asbuilt.values.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from asbuilt.values.errors import Problem

GOOD = "name: shop\napp: {command: serve}\nenvironments: {production: {}}\n"


def app(line: str) -> str:
    return f"name: shop\napp:\n  command: serve\n  {line}\nenvironments: {{production: {{}}}}\n"


def production(line: str) -> str:
    return f"name: shop\napp: {{command: serve}}\nenvironments:\n  production:\n    {line}\n"


def command(line: str) -> str:
    return f"name: shop\napp:\n  command: {line}\nenvironments: {{production: {{}}}}\n"


CASES: list[tuple[str, str | bytes, str, int, int, str]] = [
    # what, text, code, line, column, words of the message or hint
    ("empty", "", "SPEC-002", 1, 1, "init"),
    ("only a comment", "# nothing\n", "SPEC-002", 1, 1, "empty"),
    ("a word", "hello", "SPEC-003", 1, 1, "keys and values"),
    ("a list", "- a\n- b\n", "SPEC-003", 1, 1, "keys and values"),
    ("tab", "name: shop\napp:\n\tcommand: x\n", "SPEC-003", 3, 1, "spaces"),
    ("open list", "name: [a\n", "SPEC-003", 2, 1, "]"),
    ("open quote", "name: 'shop\n", "SPEC-003", 2, 1, "quote"),
    ("not UTF-8", b"name: shop\nx: \xff\n", "SPEC-003", 2, 4, "UTF-8"),
    ("UTF-16", "name: shop".encode("utf-16"), "SPEC-003", 1, 1, "UTF-8"),
    ("control character", "name: sh\x00op\n", "SPEC-003", 1, 9, "U+0000"),
    ("two documents", GOOD + "---\nname: b\n", "SPEC-003", 4, 1, "second document"),
    ("tag", "name: !!python/object:os.system x\n", "SPEC-003", 1, 7, "tags"),
    ("unknown alias", "name: *x\n", "SPEC-003", 1, 7, "nowhere"),
    ("alias of itself", "name: &x [*x]\n", "SPEC-003", 1, 11, "itself"),
    ("deep", "name: " + "[" * 100_000, "SPEC-003", 1, 30, "deep"),
    ("key is a list", "name: shop\n? [a]\n: b\n", "SPEC-003", 2, 3, "a key must be a word"),
    ("key twice", "name: shop\nname: shop\n", "SPEC-004", 2, 1, "line 1"),
    ("unknown key", GOOD + "databse: {}\n", "SPEC-005", 4, 1, "did you mean database?"),
    ("unknown field", app("helth: /x"), "SPEC-005", 4, 3, "did you mean health?"),
    ("unknown in environment", production("cach: {}"), "SPEC-005", 5, 5, "did you mean cache?"),
    ("no name", "app: {command: x}\nenvironments: {production: {}}\n", "SPEC-006", 1, 1, "name: shop"),
    ("name with slash", GOOD.replace("shop", "../shop"), "SPEC-010", 1, 7, "small letters"),
    ("name too long", GOOD.replace("shop", "a" * 33), "SPEC-010", 1, 7, "at most 32"),
    ("no environments", "name: shop\napp: {command: x}\n", "SPEC-006", 1, 1, "production: {}"),
    (
        "no command",
        "name: shop\napp: {}\nenvironments: {production: {}, staging: {}}\n",
        "SPEC-006",
        2,
        1,
        "started",
    ),
    ("no app", "name: shop\nenvironments: {production: {}, staging: {}}\n", "SPEC-006", 2, 1, "started"),
    ("kind missing", GOOD.replace("production: {}", "prod: {}"), "SPEC-011", 3, 16, "kind: production"),
    ("kind wrong", production("kind: prodution"), "SPEC-011", 5, 11, "did you mean production?"),
    (
        "environment name",
        GOOD.replace("production: {}", '"a/b": {kind: staging}'),
        "SPEC-010",
        3,
        16,
        "small letters",
    ),
    ("environment is a list", GOOD.replace("production: {}", "production: [a]"), "SPEC-007", 3, 28, "block"),
    ("app none", GOOD.replace("{command: serve}", "none"), "SPEC-007", 2, 6, "left out"),
    ("empty component", production("cache:"), "SPEC-007", 5, 5, "cache: none"),
    ("component is a word", production("cache: redis"), "SPEC-007", 5, 12, "block"),
    ("range reversed", app("instances: 5..3"), "SPEC-012", 4, 14, "3..5"),
    ("no instance", app("instances: 0"), "SPEC-008", 4, 14, "between 1 and 200"),
    ("too many", app("instances: 100000"), "SPEC-008", 4, 14, "between 1 and 200"),
    ("no percentage", app("scaling: {cpu: 0.7}"), "SPEC-008", 4, 18, "70%"),
    ("more than all", app("scaling: {cpu: 170%}"), "SPEC-008", 4, 18, "more than 100%"),
    ("no room", app("scaling: {cpu: 96%}"), "SPEC-008", 4, 18, "between 10% and 95%"),
    ("nothing in flight", app("scaling: {in_flight: 0}"), "SPEC-009", 4, 24, "more than 0"),
    ("no time", app("scaling: {down_after: 0s}"), "SPEC-008", 4, 25, "1ms"),
    ("unknown target", app("scaling: {in_flights: 8}"), "SPEC-005", 4, 13, "did you mean in_flight?"),
    ("date", app("memory: 2026-11-22"), "SPEC-008", 4, 11, "16GB"),
    ("sexagesimal", app("start_timeout: 12:30:00"), "SPEC-008", 4, 18, "30s"),
    ("hex", production("database: {replicas: 0x10}"), "SPEC-008", 5, 26, "whole number"),
    ("half", production("database: {replicas: 1.5}"), "SPEC-008", 5, 26, "whole number"),
    ("huge", production(f"database: {{replicas: {'9' * 5000}}}"), "SPEC-008", 5, 26, "too large"),
    ("nan", app("cpu: .nan"), "SPEC-008", 4, 8, "number"),
    ("not a number", app("cpu: nan"), "SPEC-009", 4, 8, "1024"),
    ("infinite", app("cpu: 1e999"), "SPEC-009", 4, 8, "1024"),
    ("huge size", app("memory: 99999999999999TB"), "SPEC-008", 4, 11, "1024PB"),
    ("small size", app("memory: 1B"), "SPEC-008", 4, 11, "at least 16MB"),
    ("long timer", app("stop_timeout: 400d"), "SPEC-008", 4, 17, "20d"),
    ("bool", app("reload: maybe"), "SPEC-008", 4, 11, "true"),
    ("version", production("database: {version: 15}"), "SPEC-020", 5, 25, "16"),
    ("health", app("health: health"), "SPEC-008", 4, 11, "/health"),
    ("health with line break", app('health: "/a\\nb"'), "SPEC-008", 4, 11, "line break"),
    ("path out", app("directory: ../other"), "SPEC-008", 4, 14, "folder"),
    ("path absolute", app("directory: /etc"), "SPEC-008", 4, 14, "folder"),
    ("no folder", app("directory: web"), "SPEC-018", 4, 14, "web"),
    ("nothing to build", app("build: npm"), "SPEC-018", 4, 10, "package.json"),
    ("domain", production('load_balancer: {domains: ["a b"]}'), "SPEC-008", 5, 31, "shop.example"),
    ("address", production("load_balancer: {address: 999.0.0.1}"), "SPEC-008", 5, 30, "127.0.0.1"),
    ("port", production("load_balancer: {http_port: 80}"), "SPEC-009", 5, 32, "1024"),
    ("ports", production("load_balancer: {http_port: 8443, https_port: 8443}"), "SPEC-019", 5, 32, "another"),
    ("literal", production("cache: {eviction: lruu}"), "SPEC-008", 5, 23, "did you mean lru?"),
    ("target", production("target: kubernetes"), "SPEC-020", 5, 13, "not supported yet"),
    ("isolated", GOOD + "network: isolated\n", "SPEC-020", 4, 10, "not supported yet"),
    ("shell and", command("a && b"), "SPEC-013", 3, 12, "sh"),
    ("shell pipe", command('"a | b"'), "SPEC-013", 3, 12, "sh"),
    ("shell substitution", command("echo $(id)"), "SPEC-013", 3, 12, "$("),
    ("shell backtick", command("echo `id`"), "SPEC-013", 3, 12, "`"),
    ("assignment", command("A=b serve"), "SPEC-013", 3, 12, "env"),
    ("quote", command("serve 'x"), "SPEC-013", 3, 12, "quote"),
    ("empty line", command('""'), "SPEC-013", 3, 12, "empty"),
    ("empty words", command("[]"), "SPEC-013", 3, 12, "empty"),
    ("block", command("{a: b}"), "SPEC-007", 3, 12, "list of words"),
    ("two lines", command("|\n    serve\n    rm -rf /"), "SPEC-008", 3, 12, "line break"),
    ("unknown variable", command("serve $PROT"), "SPEC-014", 3, 12, "did you mean PORT?"),
    ("url with password", command("serve postgresql://app:hunter2@db/x"), "SPEC-015", 3, 12, "secrets"),
    ("password by name", app("env: {DB_PASSWORD: hunter2}"), "SPEC-015", 4, 22, "secrets"),
    ("api key", app("env: {stripeApiKey: hunter2}"), "SPEC-015", 4, 23, "secrets"),
    ("password in url", app("env: {UPSTREAM: 'https://me:hunter2@x'}"), "SPEC-015", 4, 19, "secrets"),
    ("secret inline", app("secrets: {KEY: hunter2}"), "SPEC-015", 4, 18, "{env: NAME}"),
    ("secret two ways", app("secrets: {KEY: {env: A, file: hunter2}}"), "SPEC-015", 4, 18, "{env: NAME}"),
    ("secret without command", app("secrets: {KEY: {command: []}}"), "SPEC-006", 4, 28, "empty"),
    ("reserved", app("env: {PORT: 80}"), "SPEC-016", 4, 9, "itself"),
    ("reserved by database", app("env: {DATABASE_URL: x}"), "SPEC-016", 4, 9, "database: none"),
    ("in both", app("env: {A: b}\n  secrets: {A: {env: A}}"), "SPEC-017", 5, 13, "one of them"),
    ("variable name", app("env: {'A=B': b}"), "SPEC-008", 4, 9, "variable"),
    ("empty variable", app("env: {A: }"), "SPEC-006", 4, 9, '""'),
]


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "words"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_a_wrong_file_is_told_with_code_place_and_hint(  # noqa: PLR0917 - the columns of the table
    problems_of: Callable[[str | bytes], tuple[Problem, ...]],
    text: str | bytes,
    code: str,
    line: int,
    column: int,
    words: str,
) -> None:
    problems = problems_of(text)
    assert [(p.code, str(p.place)) for p in problems] == [(code, f"asbuilt.yaml:{line}:{column}")]
    rendered = problems[0].render()
    assert words in rendered
    assert code in CODES
    assert "hunter2" not in rendered
    assert all(len(each) < 250 for each in rendered.splitlines())
    assert "pydantic" not in rendered


def test_every_code_that_a_spec_can_have_is_in_the_table_and_tried() -> None:
    sources = Path(__file__).parents[3] / "src" / "asbuilt" / "spec"
    used = {
        code for f in sources.glob("*.py") if f.name != "codes.py" for code in CODES if code in f.read_text()
    }
    assert used == set(CODES)
    assert {case[2] for case in CASES} | {"SPEC-001"} == set(CODES)


def test_an_alias_bomb_is_refused(problems_of: Callable[[str | bytes], tuple[Problem, ...]]) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert problems_of("\n".join(lines))[0].what.startswith("more than 200000 values")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "none.yaml", "asbuilt init"),
        (tmp_path, "folder"),
        (Path("/dev/zero"), "ordinary"),
    ):
        with pytest.raises(SpecError) as caught:
            load(path)
        assert caught.value.problems[0].code == "SPEC-001"
        assert words in caught.value.render()
        assert str(path) in caught.value.render()


def test_all_problems_come_together_in_the_order_of_the_file(
    problems_of: Callable[[str | bytes], tuple[Problem, ...]],
) -> None:
    text = """\
name: Shop
app:
  comand: a && b
  instances: 5..3
  env: {DB_PASSWORD: hunter2, bad name: x}
databse: {}
environments:
  development: {}
  prod: {}
  production:
    cache: {eviction: lruu, memory: 16 gigs}
"""
    got = [f"{p.place.line}:{p.place.column} {p.code} {p.path}" for p in problems_of(text)]
    assert got == [
        "1:7 SPEC-010 name",
        "2:1 SPEC-006 app.command",
        "3:3 SPEC-005 app.comand",
        "4:14 SPEC-012 app.instances",
        "5:22 SPEC-015 app.env.DB_PASSWORD",
        "5:31 SPEC-008 app.env.bad name",
        "6:1 SPEC-005 databse",
        "9:3 SPEC-011 environments.prod",
        "11:23 SPEC-008 environments.production.cache.eviction",
        "11:37 SPEC-008 environments.production.cache.memory",
    ]


def test_a_rendered_error_reads_well(load_text: Callable[[str], object]) -> None:
    with pytest.raises(SpecError) as caught:
        load_text(app("instances: 5..3"))
    assert caught.value.render() == (
        "error[SPEC-012] app.instances: minimum 5 is above maximum 3\n"
        "  at asbuilt.yaml:4:14\n"
        "  hint: write the range as 3..5\n"
        "\n"
        "1 problem in asbuilt.yaml"
    )
