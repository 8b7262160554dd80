"""What is counted of one release on one route, and how requests are sorted into few routes. Pure.

Invariant: however many addresses users ask for, `Routes` names at most `most` routes and one for the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from asbuilt.plan.histogram import Histogram

OTHER: Final = "other"
"""The route of whatever came after the list of routes was full."""
MOST: Final = 32
"""Routes that are told apart."""
_DEPTH: Final = 3
"""Segments of a path that count; what is deeper is the same route."""
_ID: Final = re.compile(
    r"""
    [0-9]+                                                    # a number
    | [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12} # a UUID
    | (?=[^0-9]*[0-9]) [0-9a-f]{8,}                           # a hash: long, hexadecimal, with a digit
    | (?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z]) [A-Za-z0-9_=-]{20,} # a token: long, letters and digits
    | [A-Za-z]{0,4}[-_]?[0-9]{2,}                             # a number with a short prefix, such as ord-1042
    | .{41,}                                                  # nobody names a route so
    """,
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(slots=True)
class Tally:
    """What was counted of one release: requests, errors, and times to the first byte in ms."""

    requests: int = 0
    errors: int = 0
    times: Histogram = field(default_factory=Histogram)

    def merge(self, other: Tally) -> None:
        """Count everything of another one too."""
        self.requests += other.requests
        self.errors += other.errors
        self.times.merge(other.times)


def route_of(method: str, path: str) -> str:
    """Method and the first segments of the path, each id in it as `*`: `GET /orders/*/items`."""
    plain = path.partition("?")[0].partition("#")[0]
    segments = [segment for segment in plain.split("/") if segment][:_DEPTH]
    shown = ("*" if _ID.fullmatch(segment) else segment for segment in segments)
    return f"{method} /{'/'.join(shown)}"


class Routes:
    """The first so many routes keep their names; all later ones are `other`."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: set[str] = set()

    def name(self, route: str) -> str:
        """The route itself where it is among the first, else `other`."""
        if route in self._known:
            return route
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(route)
        return route
