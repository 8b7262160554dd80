"""Which Python and Node.js an app's folder asks for, in the files that their own tools read. Runs nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

_PYTHON: Final = re.compile(r"\s*(?:cpython-|python-)?(3\.\d{1,2})(?:\.\d+)?\s*$")
_EXACT_NODE: Final = re.compile(r"\s*[v=^~]?\s*(\d{1,3})(?:\.[\dx*]+){0,2}\s*$")
_LEAST_NODE: Final = re.compile(r">=?\s*v?(\d{1,3})")


def find_wanted_python(folder: Path) -> str:
    """`3.12` where .python-version or runtime.txt name a version of CPython, else nothing."""
    for name in (".python-version", "runtime.txt"):
        try:
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        found = _PYTHON.match(lines[0]) if lines else None
        if found:
            return found[1]
    return ""


def parse_exact_node(package: Mapping[str, Any]) -> str:
    """The one major version that `engines.node` of a package.json allows, else nothing."""
    found = _EXACT_NODE.match(_engines_node(package))
    return str(int(found[1])) if found and int(found[1]) else ""


def parse_least_node(package: Mapping[str, Any]) -> int:
    """The lowest major version of a range like `>=20` in `engines.node`; 0 when it does not say."""
    found = _LEAST_NODE.search(_engines_node(package))
    return int(found[1]) if found else 0


def _engines_node(package: Mapping[str, Any]) -> str:
    engines = package.get("engines")
    return str(engines.get("node", "")) if isinstance(engines, dict) else ""
