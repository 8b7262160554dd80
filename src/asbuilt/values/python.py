"""The interpreter that runs asbuilt, under one name."""

from __future__ import annotations

import sys
from pathlib import Path


def own_python() -> str:
    """Absolute path of the interpreter of this installation, for commands of our own.

    The same however asbuilt was called: `sys.executable` is `python` or `python3` of the same folder, and a
    workload whose words change is restarted.
    """
    usual = Path(sys.prefix, "bin", "python3")
    return str(usual) if usual.exists() else sys.executable
