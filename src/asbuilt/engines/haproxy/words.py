"""Words of HAProxy's configuration language.

Invariant: whatever a value holds, it stays one word of one line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.values.errors import AsbuiltError

if TYPE_CHECKING:
    from asbuilt.values.units import Duration

_MAX_MILLISECONDS = 2**31 - 1
"""HAProxy refuses longer times."""


def quote(value: object) -> str:
    """`value` as one word in strong quotes. Raises AsbuiltError LB-001 for control characters."""
    text = str(value)
    if any(ord(sign) < ord(" ") or ord(sign) == 0x7F for sign in text):  # noqa: PLR2004 - DEL
        raise AsbuiltError(
            "LB-001",
            f"a value for the load balancer's configuration holds a control character: {text!r}",
            hint="remove line breaks and other control characters from it",
        )
    return "'" + text.replace("'", "'\\''") + "'"


def quote_format(value: object) -> str:
    """Like `quote`, where HAProxy expands `%` as well."""
    return quote(str(value).replace("%", "%%"))


def milliseconds(duration: Duration | float) -> str:
    """A time as HAProxy writes it; a bare number is in seconds."""
    seconds = duration if isinstance(duration, (int, float)) else duration.seconds
    return f"{min(_MAX_MILLISECONDS, max(1, round(seconds * 1000)))}ms"
