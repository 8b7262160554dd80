"""What to do about an app server that does not become ready. Pure: words in, a hint out.

Invariant: advice is given for what was seen (an answer, an exit, a line of the log), never guessed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_ANSWER: Final = re.compile(r"answered 'HTTP/1\.[01] (\d{3})")
_LOG: Final = (
    (
        re.compile(r"DisallowedHost|Invalid HTTP_HOST header|ALLOWED_HOSTS"),
        (
            "checks call the app {name}: let it accept that name (Django: ALLOWED_HOSTS), or set "
            "load_balancer.domains to the names that it does accept"
        ),
    ),
    (
        re.compile(
            r"Read-only file system|\bEROFS\b|PermissionError: \[Errno 13\]|\bEACCES\b"
            r"|readonly database|unable to open database file"
        ),
        (
            "an app can't write into its own folder, because a release never changes: write to $HOME or "
            "$TMPDIR (of each instance), $FILES_DIR (shared), the database in $DATABASE_URL or the bucket"
        ),
    ),
    (
        re.compile(r"Address already in use|EADDRINUSE|Errno 98"),
        (
            "the app listens on a port of its own choice: it must listen on $PORT, which is another one for "
            "each instance"
        ),
    ),
    (
        re.compile(
            r"ModuleNotFoundError: No module named '?([\w.]+)|Cannot find (?:module|package) '([^']+)'"
        ),
        "{0} is not installed: name it among the app's requirements, not only those for development",
    ),
)

_PROCESS: Final = (
    (
        re.compile(r"exited with status 0\b"),
        (
            "the command ended without an error, and a server must not: app.command has to stay in the "
            "foreground (no --daemon, no &)"
        ),
    ),
    (
        re.compile(r"was killed by SIGKILL\b|\bMemoryError\b|heap out of memory"),
        "it may want more memory than app.memory allows",
    ),
    (
        re.compile(r"Connect call failed|Connection refused"),
        (
            "nothing listens there: the app must listen on $PORT of its environment, on $HOST or 0.0.0.0 "
            "({address}); if it is slow to start, raise app.start_timeout"
        ),
    ),
    (
        re.compile(r"no answer within|closed without an answer"),
        ("it takes the connection and does not answer: does it wait for a service, or not speak plain HTTP?"),
    ),
)


def render_advice(evidence: Iterable[str], *, address: str, health: str, name: str) -> str:
    """A hint for the owner, empty when nothing is known.

    Args:
        evidence: what was asked and answered, how the process ended, the last lines of its log.
        address: where it should listen.
        health: the path of the spec.
        name: what checks call it in the Host header.
    """
    text = "\n".join(evidence)
    told = render_log_advice(text, name)
    if told:
        return told
    answer = _ANSWER.search(text)
    if answer:
        return _advise_on_status(answer[1], health, name)
    for pattern, words in _PROCESS:
        if pattern.search(text):
            return words.format(address=address)
    return ""


def render_log_advice(text: str, name: str = "localhost") -> str:
    """A hint for what a program said, empty when it is not known."""
    for pattern, words in _LOG:
        found = pattern.search(text)
        if found:
            groups = [group for group in found.groups() if group] or [""]
            return words.format(*groups, name=name)
    return ""


def _advise_on_status(status: str, health: str, name: str) -> str:
    if status == "404":
        return f"set app.health to a path that the app answers with 2xx or 3xx; it has no {health}"
    if status in ("401", "403"):
        return f"{health} asks for a login, and a check has none: set app.health to an open path"
    if status == "405":
        return f"{health} takes no GET: set app.health to a path that does"
    if status in ("400", "421"):
        return (
            f"checks call the app {name}: let it accept that name, or set load_balancer.domains to the names "
            "that it does accept"
        )
    return f"the app itself fails at {health}: its log says why; app.health names another path"
