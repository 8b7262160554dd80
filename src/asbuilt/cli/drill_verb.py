"""`asbuilt drill`: list, run, take away what an interrupted one left, show reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from asbuilt.cli.confirm import confirm
from asbuilt.cli.output import print_json, render_table, say
from asbuilt.cli.talk import Talk
from asbuilt.context import choose_stage, find_spec, split_environment
from asbuilt.values.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    AsbuiltError,
    UsageError,
)

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from asbuilt.plan.drillreport import Report
    from asbuilt.values.stage import Stage

ACTIONS: Final = ("list", "recover", "report")


def run(arguments: Namespace) -> int:
    """Dispatch."""
    file = find_spec(arguments.file)
    environment, words = split_environment(file, arguments.words)
    action, *names = words or ["list"]
    if len(names) > (action == "report") or (arguments.all and words):
        raise UsageError(
            "CLI-009",
            f"drill does not understand {' '.join(words)}",
            hint="asbuilt drill [ENV] list|NAME|recover|report [ID], or --all",
        )
    if arguments.repeat < 1 or (arguments.patience is not None and arguments.patience <= 0):
        raise UsageError("CLI-009", "--repeat wants at least 1, and --patience more than 0 seconds")
    stage = choose_stage(file, environment)
    if arguments.all:
        return _run_all(arguments, stage)
    if action == "list":
        return _list(arguments, stage)
    if action == "recover":
        return _recover(arguments, stage)
    if action == "report":
        return _report(arguments, stage, names[0] if names else "")
    return _run(arguments, stage, action)


def _list(arguments: Namespace, stage: Stage) -> int:
    from asbuilt.operations.drill.listing import list_drills

    rows = list_drills(stage)
    if arguments.json:
        print_json({"drills": rows})
        return EXIT_DONE
    head = ("DRILL", "VARIANTS", "PROMISED", "TAKES", "LAST", "WHAT")
    print(render_table(head, [_row(one) for one in rows]))
    return EXIT_DONE


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    from asbuilt.plan.drilltext import render_promise

    last = one["last"]
    return (
        one["name"],
        ", ".join(one["variants"]) or "-",
        render_promise(one["promised_seconds"]),
        f"{one['takes_seconds']:g} s",
        f"{last['verdict']} {last['ended']}" if last else "-",
        one["obstacle"] or one["title"],
    )


def _recover(arguments: Namespace, stage: Stage) -> int:
    from asbuilt.operations.drill.recovering import recover

    removed = recover(stage, Talk(quiet=arguments.json))
    if arguments.json:
        print_json({"removed": list(removed)})
        return EXIT_DONE
    for line in removed:
        say(f"taken away: {line}")
    if not removed:
        say("no drill left anything")
    return EXIT_DONE


def _report(arguments: Namespace, stage: Stage, name: str) -> int:
    from asbuilt.operations.drill.reports import find_report, load_reports

    form = "json" if arguments.json else arguments.format
    if form == "json" and not name:
        from asbuilt.plan.drillreport import to_json

        print_json({"reports": [to_json(one) for one in reversed(load_reports(stage))]})
        return EXIT_DONE
    _print(find_report(stage, name), form)
    return EXIT_DONE


def _print(report: Report, form: str) -> None:
    from asbuilt.plan.drillpage import render_page
    from asbuilt.plan.drillreport import to_json
    from asbuilt.plan.drilltext import render_markdown

    if form == "json":
        print_json(to_json(report))
    else:
        print(render_page(report) if form == "html" else render_markdown(report), end="")


def _agree(arguments: Namespace, stage: Stage) -> Callable[[str], None]:
    """Typed confirmation, where the environment is a production one."""
    from asbuilt.spec.load import load

    production = load(stage.file).spec.environments[stage.environment].kind == "production"
    asked: list[str] = []

    def agree(what: str) -> None:
        if production and not asked:  # once for all drills of one command
            confirm(stage, arguments.confirm, what)
            asked.append(what)

    return agree


def _run(arguments: Namespace, stage: Stage, name: str) -> int:
    from asbuilt.operations.drill.registry import find_drill
    from asbuilt.operations.drill.run import Wish, run_drill
    from asbuilt.plan.drillreport import to_json

    name, _, variant = name.partition(":")
    drill, chosen = find_drill(name, arguments.variant or variant or None)
    wish = Wish(drill, chosen, arguments.repeat, arguments.patience)
    report = run_drill(stage, wish, Talk(quiet=arguments.json), _agree(arguments, stage))
    if arguments.json:
        print_json(to_json(report))
    else:
        _tell(report, stage)
    return _status(report)


def _run_all(arguments: Namespace, stage: Stage) -> int:
    from asbuilt.operations.drill.everything import run_all
    from asbuilt.plan.drillreport import to_json

    talk, agree = Talk(quiet=arguments.json), _agree(arguments, stage)
    reports: list[Report] = []
    refused: AsbuiltError | None = None
    try:
        for report in run_all(stage, arguments.repeat, arguments.patience, talk, agree):
            reports.append(report)
            if not arguments.json:
                _tell(report, stage)
    except AsbuiltError as error:
        if not reports or not arguments.json:
            raise
        refused = error  # those before it are to be seen as well
    if arguments.json:
        told = {"error": refused.to_json()} if refused else {}
        print_json({"reports": [to_json(one) for one in reports], **told})
    return max(
        [_status(one) for one in reports] + ([refused.exit_status] if refused else []), default=EXIT_DONE
    )


def _tell(report: Report, stage: Stage) -> None:
    from asbuilt.plan.drilltext import render_headline

    print(render_headline(report))
    for reason in report.decision.reasons:
        print(f"  {reason}")
    say(f"the report: asbuilt drill {stage.environment} report {report.id}")


def _status(report: Report) -> int:
    from asbuilt.plan.verdict import Verdict

    verdict = report.decision.verdict
    if verdict is Verdict.PASSED:
        return EXIT_DONE
    if verdict is not Verdict.ABORTED:
        return EXIT_FAILED
    interrupted = any(one.observed.aborted == "interrupted" for one in report.rounds)
    return EXIT_INTERRUPTED if interrupted else EXIT_REFUSED
