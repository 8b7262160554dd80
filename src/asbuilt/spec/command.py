"""Command lines of the spec: split into words, variables filled in. There is no shell to inject into.

Invariant: the number of words never depends on the value of a variable.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_BRACED: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
SHELL_HINT: Final = 'put it into a script and name that, or write ["sh", "-c", "..."]'


class CommandError(ValueError):
    """A command that can't be understood; `hint` says what to write instead."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class UnknownVariableError(CommandError):
    """A command names a variable that there is not; `name` is its name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"${name} is not a variable of the app",
            f"add {name} to env or secrets, or a default: ${{{name}:-value}}; $${name} keeps it as it is",
        )
        self.name = name


def parse_command(command: str | Sequence[str]) -> tuple[str, ...]:
    """The words of a command. A list is taken as it is; a line is split as a shell would.

    Raises:
        CommandError: it is empty, a quote is open, or it needs a shell.
    """
    if not isinstance(command, str):
        words = tuple(command)
    else:
        found = _find_shell_syntax(command)
        if found:
            raise CommandError(f"{found} needs a shell, and a command runs without one", SHELL_HINT)
        try:
            words = tuple(shlex.split(command))
        except ValueError:
            raise CommandError(
                "a quote or a backslash at the end is left open", "close the quote, or write a list of words"
            ) from None
        if words and _ASSIGNMENT.match(words[0]):
            raise CommandError(
                f"a command can't begin with a variable ({words[0].partition('=')[0]}=)",
                "set the variable under env",
            )
    if not words or not words[0]:
        raise CommandError("the command is empty", "write the program and its arguments")
    if any("\0" in word for word in words):
        raise CommandError("a word has a NUL character in it")
    return words


def _find_shell_syntax(line: str) -> str:
    """The first piece of shell syntax outside of quotes (or active inside of double quotes), or nothing."""
    quote = ""
    skip = False
    for position, char in enumerate(line):
        if skip:
            skip = False
        elif char == "\\" and quote != "'":
            skip = True
        elif quote and char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif quote == "'":
            continue
        elif char == "`" or line.startswith("$(", position):
            return "`" if char == "`" else "$("
        elif not quote and char in "|&;<>\n":
            return (
                line[position : position + 2] if line[position : position + 2] in {"&&", "||", ">>"} else char
            )
    return ""


def expand(words: Iterable[str], variables: Mapping[str, str]) -> tuple[str, ...]:
    """`words` with `$NAME`, `${NAME}`, `${NAME:-default}` and `$$` filled in; each word stays one word.

    A `$` before anything else is kept. Values are not expanded again. A default is used when the variable
    is missing or empty, as in a shell.

    Raises:
        UnknownVariableError: a variable that has neither a value nor a default.
        CommandError: a `${` that isn't one of the forms above.
    """
    return tuple(_expand_word(word, variables) for word in words)


def find_variables(words: Iterable[str]) -> tuple[str, ...]:
    """The variables that `expand` would need, each once, in order; not those with a default."""
    needed: dict[str, None] = {}

    class Asked(dict[str, str]):
        def __missing__(self, name: str) -> str:
            needed[name] = None
            return "x"

    expand(words, Asked())
    return tuple(needed)


def _expand_word(word: str, variables: Mapping[str, str]) -> str:
    parts: list[str] = []
    at = 0
    while (dollar := word.find("$", at)) >= 0:
        parts.append(word[at:dollar])
        after = dollar + 1
        if word.startswith("$", after):
            parts.append("$")
            at = after + 1
        elif word.startswith("{", after):
            braced = _BRACED.match(word, after + 1)
            if braced is None:
                raise CommandError(
                    "${ is followed by something that isn't understood",
                    "write ${NAME} or ${NAME:-default}, or $${ for the characters themselves",
                )
            parts.append(_value(braced[1], braced[2], variables))
            at = braced.end()
        elif (name := _NAME.match(word, after)) is not None:
            parts.append(_value(name[0], None, variables))
            at = name.end()
        else:
            parts.append("$")
            at = after
    parts.append(word[at:])
    return "".join(parts)


def _value(name: str, default: str | None, variables: Mapping[str, str]) -> str:
    if default is not None:
        return (variables.get(name) or default) if name in variables else default
    try:
        return variables[name]
    except KeyError:
        raise UnknownVariableError(name) from None
