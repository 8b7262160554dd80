"""What is asked of `deploy`, `rollback` and `scale`, in words that fit on a command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class Order:
    """What the owner asks for.

    Args:
        verb: `deploy`, `rollback`, `scale`, or `cool`: the warm servers of the release before may go.
        release: rollback: the release to go to; None for the last good one.
        strategy: how; None as the spec says.
        surge: rolling: a server more while servers are replaced; None as the spec says.
        abort: leave what is on its way.
        scale: scale: app servers wanted, or `auto`.
        why: scale: the load wants it, for this reason; empty: the owner wants it.
        broken: deploy: a release that never becomes healthy, for a drill; nothing of it is migrated.
    """

    verb: str = "deploy"
    release: str | None = None
    strategy: str | None = None
    surge: bool | None = None
    abort: bool = False
    scale: str | None = None
    why: str = ""
    broken: bool = False
