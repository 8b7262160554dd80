"""Asks for the environment's name before something that cannot be taken back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from asbuilt.cli.output import say
from asbuilt.values.errors import RefusedError

if TYPE_CHECKING:
    from asbuilt.values.stage import Stage


def confirm(stage: Stage, given: str | None, consequence: str) -> None:
    """The environment's name, from --confirm or typed at a terminal; anything else refuses."""
    hint = f"to allow it: --confirm {stage.environment}"
    if given is None and sys.stdin.isatty() and sys.stderr.isatty():
        say(consequence)
        print(f"type {stage.environment} to go on: ", end="", file=sys.stderr, flush=True)
        given = sys.stdin.readline().strip()
    if given != stage.environment:
        raise RefusedError("CONFIRM-001", f"{consequence}, and was not confirmed", hint=hint)
