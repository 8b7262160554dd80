from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asbuilt.spec.command import CommandError, UnknownVariableError, expand, find_variables, parse_command

WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def test_a_line_is_split_as_a_shell_would() -> None:
    assert parse_command("""serve 'a b' "c;d" e\\ f --x="1|2" """) == (
        "serve",
        "a b",
        "c;d",
        "e f",
        "--x=1|2",
    )
    assert parse_command(["sh", "-c", "a && b"]) == ("sh", "-c", "a && b")


@pytest.mark.parametrize(
    "line",
    [
        "a && b",
        "a || b",
        "a | b",
        "a; b",
        "a > f",
        "a < f",
        "a & ",
        "a `b`",
        "a $(b)",
        'a "$(b)"',
        "a\nb",
        "'",
    ],
)
def test_shell_syntax_is_refused_with_a_way_out(line: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse_command(line)
    assert caught.value.hint


def test_variables_are_filled_in() -> None:
    words = ("$A", "${A}b", "${B:-d}", "${C:-d}", "$$A", "$", "a$", "$1", "100%")
    assert expand(words, {"A": "x y", "C": ""}) == ("x y", "x yb", "d", "d", "$A", "$", "a$", "$1", "100%")
    assert find_variables(["$A ${B} ${C:-x} $$D $A"]) == ("A", "B")
    with pytest.raises(UnknownVariableError) as caught:
        expand(("$NOPE",), {})
    assert caught.value.name == "NOPE"
    with pytest.raises(CommandError):
        expand(("${A%%x}",), {"A": "b"})


@given(st.lists(WORD, min_size=1))
def test_quoting_and_splitting_are_inverse(words: list[str]) -> None:
    if words[0] and "=" not in words[0]:
        assert parse_command(shlex.join(words)) == tuple(words)


@given(st.lists(WORD, min_size=1), st.dictionaries(st.sampled_from("ABC"), WORD))
def test_values_never_change_the_number_of_words_nor_are_expanded_again(
    words: list[str], values: dict[str, str]
) -> None:
    try:
        assert len(expand(words, values)) == len(words)
    except CommandError:
        return
    assert expand(["$A"], {"A": "$B $$ ${C}"}) == ("$B $$ ${C}",)


@given(WORD)
def test_a_doubled_dollar_keeps_any_text(text: str) -> None:
    assert expand([text.replace("$", "$$")], {}) == (text,)


@given(st.text(max_size=40))
def test_a_line_gives_words_or_a_problem(line: str) -> None:
    try:
        assert parse_command(line)[0]
    except CommandError as error:
        assert error.what  # noqa: PT017 - an error is one of two good outcomes


def test_plain_lines_mean_what_they_mean_to_a_shell() -> None:
    line = """printf '%s\\n' a "b c" 'd"e' f\\ g ${X:-h} $Y"""
    ours = expand(parse_command(line), {"Y": "y"})
    shell = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, env={"Y": "y"})
    assert list(ours[2:]) == shell.stdout.splitlines()
