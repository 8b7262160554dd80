"""`asbuilt completion SHELL`: a script made from the parser itself, so that it can't be out of date."""

from __future__ import annotations

import argparse
from argparse import Namespace

from asbuilt.cli.main import build_parser
from asbuilt.values.errors import EXIT_DONE

_ENVIRONMENTS = (
    "sed -n '/^environments:/,/^[^ ]/s/^  \\([a-z][a-z0-9-]*\\):.*/\\1/p' asbuilt.yaml 2>/dev/null"
)


def run(arguments: Namespace) -> int:
    """Print the script; `eval "$(asbuilt completion bash)"` turns it on."""
    words = _words(build_parser())
    print({"bash": _render_bash, "zsh": _render_zsh, "fish": _render_fish}[arguments.shell](words))
    return EXIT_DONE


def _words(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    verbs = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))  # noqa: SLF001 - argparse has no public list
    return {
        verb: sorted(
            word
            for action in sub._actions  # noqa: SLF001 - the same
            for word in action.option_strings
            if word.startswith("--")
        )
        for verb, sub in sorted(verbs.choices.items())
    }


def _render_bash(words: dict[str, list[str]]) -> str:
    cases = "\n".join(
        f'    {verb}) words="{" ".join(options)} $({_ENVIRONMENTS})" ;;' for verb, options in words.items()
    )
    return f"""_asbuilt() {{
  local words
  if [ "$COMP_CWORD" -eq 1 ]; then words="{" ".join(words)}"
  else case "${{COMP_WORDS[1]}}" in
{cases}
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _asbuilt asbuilt"""


def _render_zsh(words: dict[str, list[str]]) -> str:
    return "autoload -U +X bashcompinit && bashcompinit\n" + _render_bash(words)


def _render_fish(words: dict[str, list[str]]) -> str:
    lines = [f"complete -c asbuilt -n __fish_use_subcommand -f -a '{' '.join(words)}'"]
    for verb, options in words.items():
        seen = f"'__fish_seen_subcommand_from {verb}'"
        lines.append(f'complete -c asbuilt -n {seen} -f -a "({_ENVIRONMENTS})"')
        lines += [f"complete -c asbuilt -n {seen} -l {option[2:]}" for option in options]
    return "\n".join(lines)
