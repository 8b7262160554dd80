"""`asbuilt deploy`, `rollback` and `scale`: start the controller and show what it does."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from asbuilt.cli.output import say
from asbuilt.cli.talk import Talk
from asbuilt.context import choose_stage, find_spec
from asbuilt.operations.follow import Running, ToldError, find_running, follow, start
from asbuilt.operations.order import Order
from asbuilt.operations.progress import Event
from asbuilt.operations.runs import ask_for
from asbuilt.values.errors import EXIT_DONE, EXIT_INTERRUPTED, AsbuiltError, RefusedError, UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from asbuilt.values.stage import Stage


def run(arguments: Namespace) -> int:
    """Dispatch the verbs."""
    order, environment = _read_order(arguments)
    stage = choose_stage(find_spec(arguments.file), environment)
    talk = Talk(quiet=arguments.json)
    show = _Show(talk, as_json=arguments.json)
    child = None
    try:
        running = _wait_for_scaling(stage, talk)
        if running is None:
            if getattr(arguments, "promote", False):
                raise RefusedError("DEPLOY-002", "no release is on its way: there is nothing to promote")
            run, child = start(stage, order)
        else:
            run = running.run
            _join(arguments, stage, order, talk, back=running.verb == "rollback")
        end = follow(stage, run, child, show)
    except KeyboardInterrupt:
        say(f"\nit goes on without you: asbuilt deploy {stage.environment} shows it, --abort goes back")
        return EXIT_INTERRUPTED
    turned = order.abort or (running is not None and order.verb == "rollback")
    return _tell_end(end, stage, as_json=arguments.json, aborted=turned)


def _wait_for_scaling(stage: Stage, talk: Talk) -> Running | None:
    """A change of the number of servers is no release: it is waited for, not joined."""
    running = find_running(stage)
    if running is None or running.verb != "scale":
        return running
    talk(Event("note", "", "waiting for a change of the number of app servers to end"))
    with suppress(AsbuiltError):  # one that dies is out of the way as well
        follow(stage, running.run, None, lambda _: None)
    return find_running(stage)


def _read_order(arguments: Namespace) -> tuple[Order, str | None]:
    if arguments.verb == "rollback":
        return Order("rollback", release=arguments.to), arguments.environment
    if arguments.verb == "scale":
        *before, last = arguments.words
        name, equals, count = last.partition("=")
        if len(before) > 1 or name != "app" or not equals:
            raise UsageError(
                "CLI-001",
                f"expected [ENV] app=NUMBER, not {' '.join(arguments.words)}",
                hint="like: asbuilt scale production app=5, or app=auto for what the spec says",
            )
        return Order("scale", scale=count), before[0] if before else None
    surge = False if arguments.no_surge else None
    order = Order("deploy", strategy=arguments.strategy, surge=surge, abort=arguments.abort)
    return order, arguments.environment


def _join(arguments: Namespace, stage: Stage, order: Order, talk: Talk, *, back: bool) -> None:
    """One is under way: ask something of it, or just look on. `back`: it is a way back already."""
    hint = ""
    if order.verb == "scale":
        hint = f"asbuilt deploy {stage.environment} shows it; scale when it is done"
    elif order.verb == "rollback" and order.release is not None:
        hint = (
            f"asbuilt rollback {stage.environment} without --to goes back to what was there before; "
            f"then ask for {order.release} again"
        )
    if hint:
        raise RefusedError("RELEASE-002", "a release is on its way and not finished", hint=hint)
    if order.abort or (order.verb == "rollback" and not back):
        ask_for(stage.root, "abort")
        talk(Event("note", "", "asked the release that is on its way to go back"))
    elif arguments.promote:
        ask_for(stage.root, "promote")
        talk(Event("note", "", "asked the release that is on its way to take its next step"))
    else:
        talk(Event("note", "", "a release is on its way already: following it"))


class _Show:
    """Shows the lines of a run as they come."""

    def __init__(self, talk: Talk, *, as_json: bool) -> None:
        self._talk, self._json = talk, as_json

    def __call__(self, line: dict[str, Any]) -> None:
        """Show one."""
        if self._json:
            print(json.dumps(line), flush=True)
            return
        if line["kind"] in {"note", "started", "waiting", "done", "failed", "traffic"}:
            self._talk(Event(line["kind"], line["subject"], line["text"], line["seconds"]))


def _tell_end(end: dict[str, Any], stage: Stage, *, as_json: bool, aborted: bool) -> int:
    if as_json:
        print(json.dumps({"schema": 1, **end}), flush=True)
    if "error" in end:
        error = ToldError(end)
        if aborted and error.code == "DEPLOY-004":
            say(f"{stage.name} {stage.environment}: {error.what}")
            return EXIT_DONE
        if as_json:
            print(error.render(), file=sys.stderr)
            return error.exit_status
        raise error
    outcome = end["outcome"]
    lost = outcome["lost"]
    counted = f"{outcome['requests']} requests meanwhile, {lost} lost"
    say(
        f"{stage.name} {stage.environment} serves release {outcome['release']}"
        f" ({outcome['seconds']:.1f} s; {counted})"
    )
    return EXIT_DONE
