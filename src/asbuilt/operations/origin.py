"""Where people read the difference between two commits, worked out from the remote of the project.

Invariant: a remote may hold a password; nothing of it but host, port and path gets into a link, and only when
these are plain characters. Whatever is not understood makes no link.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
_HOST: Final = (
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*)"
)
_URL: Final = re.compile(
    rf"(?P<scheme>https|ssh|git)://(?:[^/\s]*@)?{_HOST}(?P<port>:\d{{1,5}})?/(?P<path>[\w.~/+-]+)", re.ASCII
)
_SHORT: Final = re.compile(rf"(?:[^@/:\s]+@)?{_HOST}:(?P<path>[\w.~+-][\w.~/+-]*)", re.ASCII)
"""`git@host:owner/name.git`."""
_LONGEST: Final = 500
_FORMS: Final = {
    "github.com": "/compare/{before}...{after}",
    "codeberg.org": "/compare/{before}...{after}",
    "gitlab.com": "/-/compare/{before}...{after}",
    "bitbucket.org": "/branches/compare/{after}%0D{before}#diff",
}


def build_diff_link(remote: str, before: str, after: str) -> str:
    """The page with the difference between two commits; empty where none is known.

    A host that is not known is linked to only when the remote is https: then it has pages, most likely of the
    form that most hosts share.
    """
    before, after = before.removesuffix("+"), after.removesuffix("+")
    if before == after or not (_COMMIT.fullmatch(before) and _COMMIT.fullmatch(after)):
        return ""
    if len(remote) > _LONGEST:
        return ""
    found = _URL.fullmatch(remote.strip()) or _SHORT.fullmatch(remote.strip())
    if found is None:
        return ""
    parts = found.groupdict()
    host = parts["host"].lower()
    path = parts["path"].strip("/").removesuffix(".git")
    if not path or any(not part.strip(".") for part in path.split("/")):
        return ""
    encrypted = parts.get("scheme") == "https"
    form = _FORMS.get(host)
    if form is None:
        if host.startswith("gitlab."):
            form = _FORMS["gitlab.com"]
        elif encrypted:
            form = _FORMS["github.com"]
        else:
            return ""
    # the port of ssh is not that of the pages
    port = parts.get("port") or "" if encrypted else ""
    return f"https://{host}{port}/{path}{form.format(before=before, after=after)}"


def find_remote(folder: Path) -> str:
    """The remote `origin` of the project, as git has it; empty where there is none. May hold a password."""
    try:
        said = subprocess.run(
            ["git", "-C", str(folder), "config", "--get", "remote.origin.url"],  # noqa: S607 - the owner's git
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip()
