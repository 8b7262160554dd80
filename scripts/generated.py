"""Writes the generated documents, or with --check tells which of them are not current."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
# document: the pure function that renders it
DOCUMENTS: dict[str, str] = {}


def render(where: str) -> str:
    """The text that the function named `module:function` renders."""
    module, function = where.split(":")
    call: Callable[[], str] = getattr(importlib.import_module(module), function)
    return call()


def main(*, check: bool) -> int:
    """Write or check every document; 1 when a checked one is not current."""
    stale = []
    for name, where in sorted(DOCUMENTS.items()):
        path, text = ROOT / name, render(where)
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
