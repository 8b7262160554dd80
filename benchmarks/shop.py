"""A production environment of examples/shop in a home of its own, for benchmarks of the whole."""

from __future__ import annotations

import shutil
import ssl
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from common import ROOT, Bench, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from common import Environment


def copy_shop(folder: Path) -> Path:
    """The example, copied: a benchmark never touches a demo that runs."""
    project = folder / "shop"
    if not project.exists():
        ignored = shutil.ignore_patterns("__pycache__", ".venv", "node_modules")
        shutil.copytree(ROOT / "examples" / "shop", project, ignore=ignored)
    return project


@contextmanager
def running_shop() -> Iterator[Environment]:
    """Up inside the block, gone with its data after it."""
    with Bench() as bench, environment(bench, copy_shop(bench.folder), "production") as ours:
        yield ours


def answered(url: str, timeout: float = 1.0) -> bool:
    """Whether one request through the front door is answered well."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError), urllib.request.urlopen(url, timeout=timeout, context=unchecked) as answer:
        return bool(answer.status == 200)
    return False
