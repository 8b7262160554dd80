"""`asbuilt plan`, `up` and `down`: the verbs that change what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.cli.confirm import confirm
from asbuilt.cli.output import print_json, say
from asbuilt.cli.talk import Talk
from asbuilt.context import choose_stage, find_spec
from asbuilt.operations.down import delete_data, plan_stop, stop_environment
from asbuilt.operations.progress import Event
from asbuilt.operations.up import Outcome, plan_up, realize
from asbuilt.plan.render import render_json, render_text
from asbuilt.spec.infer import infer
from asbuilt.values.errors import EXIT_DONE, EXIT_USAGE

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from asbuilt.plan.step import Plan
    from asbuilt.values.stage import Stage


def run(arguments: Namespace) -> int:
    """Dispatch the verbs."""
    file = find_spec(arguments.file)
    if arguments.verb == "up" and not file.exists() and not arguments.dry_run:
        _write_inferred(file)
    stage = choose_stage(file, arguments.environment)
    verbs = {"plan": _plan, "up": _up, "down": _down}
    return verbs[arguments.verb](arguments, stage)


def _write_inferred(file: Path) -> None:
    """A folder without a spec gets one, and the owner is told what was assumed."""
    inferred = infer(file.absolute().parent)
    file.write_text(inferred.text)
    say(f"wrote {file}:")
    for assumption in inferred.assumptions:
        say(f"  assumed: {assumption}")


def _plan(arguments: Namespace, stage: Stage) -> int:
    plan, notes = plan_up(stage, Talk(quiet=True))
    _print_plan(arguments, stage, plan, notes)
    return EXIT_DONE if plan.empty else EXIT_USAGE


def _print_plan(arguments: Namespace, stage: Stage, plan: Plan, notes: tuple[str, ...]) -> None:
    if arguments.json:
        print_json({**render_json(plan), "environment": stage.environment, "notes": list(notes)})
        return
    print(render_text(plan), end="")
    for note in notes:
        say(f"note: {note}")


def _up(arguments: Namespace, stage: Stage) -> int:
    talk = Talk(quiet=arguments.json)
    if arguments.dry_run:
        plan, notes = plan_up(stage, talk)
        _print_plan(arguments, stage, plan, notes)
        return EXIT_DONE

    def agree(plan: Plan) -> None:
        talk(Event("note", "", render_text(plan).rstrip()))
        confirm(stage, arguments.confirm, "this takes copies of data out of service (their files stay)")

    outcome = realize(stage, talk, agree)
    _print_outcome(arguments, stage, outcome)
    return EXIT_DONE


def _print_outcome(arguments: Namespace, stage: Stage, outcome: Outcome) -> None:
    if arguments.json:
        print_json(
            {
                "name": stage.name,
                "environment": stage.environment,
                "changed": outcome.steps > 0,
                "steps": outcome.steps,
                "release": outcome.release,
                "entrypoints": outcome.entrypoints,
                "seconds": round(outcome.seconds, 3),
                "notes": list(outcome.notes),
            }
        )
        return
    for note in outcome.notes:
        say(f"note: {note}")
    done = (
        f"{outcome.steps} steps in {outcome.seconds:.1f} s"
        if outcome.steps
        else f"nothing to do ({outcome.seconds:.1f} s)"
    )
    say(f"{stage.name} {stage.environment} is up, release {outcome.release}: {done}")
    print(outcome.entrypoints.get("https") or outcome.entrypoints["http"])


def _down(arguments: Namespace, stage: Stage) -> int:
    if arguments.dry_run:
        _print_plan(arguments, stage, plan_stop(stage), ())
        return EXIT_DONE
    if arguments.delete_data:
        confirm(
            stage, arguments.confirm, f"this deletes everything {stage.name} {stage.environment} has stored"
        )
    talk = Talk(quiet=arguments.json)
    steps = stop_environment(stage, talk)
    if arguments.delete_data:
        delete_data(stage)
    if arguments.json:
        print_json(
            {
                "name": stage.name,
                "environment": stage.environment,
                "steps": steps,
                "data_deleted": arguments.delete_data,
            }
        )
        return EXIT_DONE
    kept = "its data is deleted" if arguments.delete_data else "its data is kept"
    say(f"{stage.name} {stage.environment} is down; {kept}")
    return EXIT_DONE
