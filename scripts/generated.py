"""Writes the generated documents, or with --check tells which of them are not current."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from asbuilt.cli.main import build_parser
from asbuilt.graph.build import build
from asbuilt.spec.load import load
from asbuilt.spec.manual import REFERENCE_FILE, SCHEMA_FILE, render_json_schema, render_reference
from asbuilt.views.drawing import render_svg

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
SHOWN = "name: shop\napp:\n  command: serve --port $PORT\nenvironments:\n  production: {}\n"


def render_production() -> str:
    """The picture of an empty `production`: the architecture that two lines of a spec stand for."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "asbuilt.yaml"
        file.write_text(SHOWN)
        return render_svg(build(load(file).spec, "production"), None)


def _render_verb(name: str, parser: argparse.ArgumentParser) -> list[str]:
    about = parser.description or ""
    lines = [f"## asbuilt {name}", "", f"{about[:1].upper()}{about[1:]}.", ""]
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._HelpAction):  # noqa: SLF001 - the same
            continue
        words = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        if action.choices and not action.option_strings:
            words = " or ".join(action.choices)
        if action.option_strings and action.nargs != 0:
            words += f" {action.metavar or ' or '.join(action.choices or ())}"
        lines.append(f"- `{words}`: {action.help}" if action.help else f"- `{words}`")
    return [*lines, ""]


def render_commands() -> str:
    """Every verb with its words, in the order of `asbuilt --help`."""
    parser = build_parser()
    lines = ["# Commands", "", "Written by `make docs` from the program itself.", "", str(parser.epilog), ""]
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the same
            for name, verb in action.choices.items():
                lines += _render_verb(name, verb)
    return "\n".join(lines).rstrip() + "\n"


DOCUMENTS: dict[str, Callable[[], str]] = {
    "docs/commands.md": render_commands,
    "docs/production.svg": render_production,
    REFERENCE_FILE: render_reference,
    SCHEMA_FILE: lambda: json.dumps(render_json_schema(), indent=2) + "\n",
}


def main(*, check: bool) -> int:
    """Write or check every document; 1 when a checked one is not current."""
    stale = []
    for name, render in sorted(DOCUMENTS.items()):
        path, text = ROOT / name, render()
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {name}")
    if check and stale:
        print(f"not current: {', '.join(stale)}; run: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
