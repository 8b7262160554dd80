"""The process that watches the load of one environment and changes the number of its app servers.

`python -m asbuilt.operations.scaler FILE NAME ENVIRONMENT HOME SETTINGS`. It only decides; a change is made
by a controller of its own, under the environment's lock, like `asbuilt scale`. Invariants: traffic does not
need it; one that is killed leaves the number as it is; what it does and why is one line in its log.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asbuilt.operations.follow import start
from asbuilt.operations.order import Order
from asbuilt.operations.progress import log_line
from asbuilt.operations.signals import Signals
from asbuilt.operations.status import DECISION
from asbuilt.plan.autoscale import Decision, Memory, Verdict, decide
from asbuilt.plan.demand import Settings, Signal
from asbuilt.targets.local.files import write_atomically
from asbuilt.values.clock import now_text
from asbuilt.values.errors import AsbuiltError
from asbuilt.values.stage import Stage

if TYPE_CHECKING:
    import subprocess

_LOOK: Final = 1.0
_LOOKS: Final = 5
"""Looks for each decision."""


class Scaler:
    """Decides every few seconds."""

    def __init__(self, stage: Stage, settings: Settings) -> None:
        self._stage, self._settings = stage, settings
        self._memory = self._before = Memory()
        self._child: subprocess.Popen[bytes] | None = None
        self._said = ""

    def run(self, over: threading.Event) -> None:
        """Until `over`."""
        with Signals(self._stage, times=self._settings.latency is not None) as signals:
            looks = 0
            while not over.wait(_LOOK):
                signals.look()
                looks += 1
                if looks % _LOOKS:
                    continue
                sample = signals.sample()
                if sample is None or self._is_at_work():
                    continue
                decision = decide(sample, self._memory, self._settings)
                if decision.verdict is not Verdict.HOLD:
                    self._before = self._memory
                self._memory = decision.memory
                self._tell(decision)
                if decision.verdict is not Verdict.HOLD:
                    self._act(decision)

    def _is_at_work(self) -> bool:
        """Whether the last change is still being made: its controller's end is waited for."""
        if self._child is not None and self._child.poll() is not None:
            if self._child.returncode != 0:  # it did not come about, so nothing is learned from it
                self._memory = replace(self._before, trend=self._memory.trend)
            self._child = None
        return self._child is not None

    def _act(self, decision: Decision) -> None:
        try:
            order = Order("scale", scale=str(decision.servers), why=decision.reason)
            _, self._child = start(self._stage, order)
        except (AsbuiltError, OSError) as error:
            log_line(f"cannot start a controller: {error}")

    def _tell(self, decision: Decision) -> None:
        """Write the decision down; into the log only what is another one."""
        text = {"schema": 1, "at": now_text(), "servers": decision.servers, "reason": decision.reason}
        write_atomically(self._stage.root / DECISION, json.dumps({**text, "at_ceiling": decision.at_ceiling}))
        said = f"{decision.verdict} {decision.servers}"
        if said != self._said or decision.verdict is not Verdict.HOLD:
            self._said = said
            log_line(decision.reason)


def read_settings(text: str) -> Settings:
    """The settings, as the workload has them in its words."""
    raw: dict[str, Any] = json.loads(text)
    return Settings(**{**raw, "expected": frozenset(map(Signal, raw["expected"]))})


def main(words: list[str]) -> int:
    """Entry point."""
    file, name, environment, home, settings = words
    stage = Stage(Path(file), name, environment, Path(home))
    # the controllers that it starts look for engines where their owner has them
    os.environ["HOME"] = pwd.getpwuid(os.getuid()).pw_dir
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    scaler = Scaler(stage, read_settings(settings))
    while not over.is_set():
        try:
            scaler.run(over)
        except (AsbuiltError, OSError, ValueError) as error:
            log_line(f"{type(error).__name__}: {error}")
            time.sleep(_LOOK)
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
