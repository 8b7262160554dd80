"""`asbuilt releases`: one line for each release, or one release in full. Rendering is pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from asbuilt.cli.output import print_json, render_table, say
from asbuilt.context import choose_stage, find_spec
from asbuilt.values.errors import EXIT_DONE

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

    from asbuilt.operations.history import Run


def run(arguments: Namespace) -> int:
    """Show the list, or one release."""
    environment, release = arguments.environment, arguments.release
    if release is None and environment and environment[1:].isdecimal() and environment[0] == "r":
        environment, release = None, environment  # the environment may be left out when there is only one
    stage = choose_stage(find_spec(arguments.file), environment)
    from asbuilt.operations.history import read_history

    history = read_history(stage, release)
    if arguments.json:
        print_json(history.to_json())
    elif not history.releases:
        say(f"no release yet; asbuilt up {stage.environment} makes the first")
    elif release is not None:
        print(render_release(history.releases[0], history.runs))
    else:
        print(render_list(history.releases, history.runs))
    return EXIT_DONE


def render_list(rows: Sequence[dict[str, Any]], runs: Sequence[Run]) -> str:
    """One line for each release, with the run that brought it last."""
    head = ("RELEASE", "STATE", "WHEN", "BY", "COMMIT", "HOW", "RESULT", "TOOK", "LOST")
    lines = []
    for row in rows:
        last = next((one for one in runs if one.release == row["id"] and one.verb != "scale"), None)
        cells = [row["id"], row["state"], row["created"], row["created_by"], row["git_commit"]]
        if last is None:
            cells += ["up", "", "", ""]
        else:
            cells[2:4] = [_moment(last.began or row["created"]), last.owner or row["created_by"]]
            lost = "" if last.lost is None else f"{last.lost} of {last.requests:,}"
            cells += [_how(last), last.result, f"{last.seconds:.1f} s", lost]
        lines.append([_plain(str(cell or "-")) for cell in cells])
    return render_table(head, lines)


def render_release(row: dict[str, Any], runs: Sequence[Run]) -> str:
    """One release in full: what it is, then each run, newest first."""
    commit = row["git_commit"]
    if commit.endswith("+"):
        commit = f"{commit[:-1]} and changes that were not committed"
    pairs = (
        ("state", row["state"]),
        ("made", f"{row['created']} by {row['created_by']}"),
        ("commit", commit or "not known"),
        ("after", row["before"]),
        ("diff", row["diff"]),
        ("build", row["artifact"]),
    )
    lines = [_plain(row["id"]), *(f"  {name:8}{_plain(value)}" for name, value in pairs if value)]
    if not runs:
        lines += ["", "no deploy of it on record: `asbuilt up` brought it, or it was long ago"]
    for one in runs:
        lines += ["", *_render_run(one)]
    return "\n".join(lines)


def _render_run(one: Run) -> Iterator[str]:
    way = f"{one.before} -> {one.release}" if one.before != one.release else one.release
    yield _plain(f"{_moment(one.began)}  {_how(one)}  {way}: {one.result} in {one.seconds:.1f} s")
    yield _plain(f"  by {one.owner or 'unknown'}")
    if one.lost is not None:
        yield f"  {one.requests:,} requests meanwhile, {one.lost:,} lost"
    if one.phases:
        yield "  phases"
        yield from (_timed(phase) for phase in one.phases)
    if one.steps:
        yield "  of that"
        yield from (_timed(step) for step in one.steps)
    if one.verdicts:
        yield "  verdicts"
        for verdict in one.verdicts:
            yield _plain(f"    {verdict.get('verdict', '?')}: {verdict.get('text', '')}")
            evidence = verdict.get("evidence")
            if isinstance(evidence, dict):
                yield from (
                    _plain(f"      | {name}: {json.dumps(value)}") for name, value in evidence.items()
                )
    if one.migrations:
        yield "  migrations"
        for warning in one.migrations:
            yield _plain(f"    {warning.get('code')} {warning.get('where')}: {warning.get('what')}")
    if one.error:
        yield from _render_error(one.error)


def _render_error(error: dict[str, Any]) -> Iterator[str]:
    yield _plain(f"  error[{error.get('code')}] {error.get('what')}")
    if error.get("where"):
        yield _plain(f"    at {error['where']}")
    yield from (_plain(f"    | {line}") for line in error.get("evidence", ()))
    if error.get("hint"):
        yield _plain(f"    hint: {error['hint']}")


def _timed(part: dict[str, Any]) -> str:
    return _plain(f"  {part['seconds']:8.1f} s  {part['what']}")


def _how(one: Run) -> str:
    if one.verb == "scale":
        return f"scale app={one.scale}"
    return f"{one.verb} {one.strategy}".strip()


def _moment(at: str) -> str:
    """To the second: the run's file has more."""
    return f"{at.partition('.')[0]}Z" if "." in at else at


def _plain(text: str) -> str:
    """Words of an app's log or of git may hold what a terminal obeys."""
    return "".join(char if char.isprintable() else "?" for char in text)
