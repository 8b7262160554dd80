"""What an error of obstore comes down to: words for people, and whether trying again may help."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_STATUS: Final = re.compile(r"status code: (\d{3})([\w ]*)")
_XML: Final = re.compile(r"<(Code|Message)>([^<]*)</\1>")
_CAUSE: Final = re.compile(r'(?:message|error): "([^"]+)"|\b(InvalidCertificate\([^)]*\)+|TimedOut)')
_KEPT: Final = re.compile(r"DeleteObjects request failed for key .*?: (.*) \(code: (\w+)\)$")
_BUSY: Final = frozenset({"InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout"})
_TIMED_OUT: Final = "TimedOut"
_TOO_BUSY: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500
_WORDS: Final = 300
"""Characters that are kept of what was said."""


class Said(NamedTuple):
    """What a failed request comes down to: words for people, and whether it may pass by itself."""

    words: str
    passing: bool


def parse_said(text: str) -> Said:
    """Read an error of obstore: one line, and the whole structure of the error behind it."""
    line, _, structure = text.partition("\n\nDebug source:")
    found = _STATUS.search(line)
    if found:
        status = int(found.group(1))
        told = " ".join(value for _, value in _XML.findall(line))
        words = f"{status}{found.group(2)}" + (f": {told}" if told else "")
        return Said(words[:_WORDS], passing=status >= _SERVER_ERROR or status in _TOO_BUSY)
    kept = _KEPT.search(line)
    if kept:
        return Said(f"{kept[2]} {kept[1]}".strip()[:_WORDS], passing=kept[2] in _BUSY)
    causes = [first or second for first, second in _CAUSE.findall(structure)]
    if causes and causes[-1] == _TIMED_OUT:
        return Said("no answer in time", passing=True)
    words = causes[-1] if causes else " ".join(line.rpartition(" - ")[2].split())
    return Said(words[:_WORDS], passing="redirect" not in line)
