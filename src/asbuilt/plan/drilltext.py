"""A drill's report as the parts that every format shows, and as Markdown. Pure and deterministic."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from asbuilt.plan.drillreport import Report, find_figures, is_proof
from asbuilt.plan.preflight import render_age
from asbuilt.plan.verdict import Promise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
REGION: Final = Promise("region failure", 900.0)


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a title."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A list with a title."""

    title: str
    lines: tuple[str, ...]


def render_duration(seconds: float) -> str:
    """Seconds in words: two digits below a minute, then minutes, then hours."""
    if seconds < _MINUTE:
        return f"{seconds:.2f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.1f} min"
    return f"{seconds / _HOUR:.1f} h"


def render_promise(seconds: float) -> str:
    """A promised time: whole numbers."""
    if seconds < _MINUTE:
        return f"{seconds:g} s"
    return f"{seconds / _MINUTE:g} min" if seconds < _HOUR else f"{seconds / _HOUR:g} h"


def render_title(report: Report) -> str:
    """One line."""
    return f"{report.drill} {report.variant}".rstrip()


def render_headline(report: Report) -> str:
    """The verdict in one line."""
    worst = find_figures(report).get("RTO")
    said = f"{render_title(report)}: {report.decision.verdict}"
    if worst:
        said += f", RTO {render_duration(worst['max'])}"
        said += f" (promised {render_promise(report.promise.rto)})"
    return said


def build_tables(report: Report) -> tuple[Table, ...]:
    """Promised and measured, then each leg, then the other figures of each round."""
    figures = find_figures(report)
    return (_promises(report, figures), *_legs(figures), *_rounds(report))


def _promises(report: Report, figures: dict[str, dict[str, float]]) -> Table:
    rows = []
    for name, promised in (("RTO", report.promise.rto), ("RPO", report.promise.rpo)):
        found = figures.get(name)
        if promised is None and not found:
            continue
        limit = "-" if promised is None else "0" if promised == 0 else render_promise(promised)
        rows.append((name, limit, *_spread(found)))
    return Table("Promised and measured", ("", "promised", "p50", "p95", "max", "rounds"), tuple(rows))


def _spread(found: dict[str, float] | None) -> tuple[str, ...]:
    if found is None:
        return ("-", "-", "-", "0")
    shown = tuple(render_duration(found[name]) for name in ("p50", "p95", "max"))
    return (*shown, f"{found['rounds']:g}")


def _legs(figures: dict[str, dict[str, float]]) -> tuple[Table, ...]:
    rows = tuple((name, *_spread(found)) for name, found in figures.items() if name not in {"RTO", "RPO"})
    head = ("seconds after the fault until", "p50", "p95", "max", "rounds")
    return (Table("Legs", head, rows),) if rows else ()


def _rounds(report: Report) -> tuple[Table, ...]:
    names = list(dict.fromkeys(name for one in report.rounds for name in one.figures))
    if not names:
        return ()
    head = ("", *(f"round {number}" for number in range(1, len(report.rounds) + 1)))
    rows = [("verdict", *(str(one.decision.verdict) for one in report.rounds))]
    rows += [
        (name, *(f"{one.figures[name]:,g}" if name in one.figures else "-" for one in report.rounds))
        for name in names
    ]
    return (Table("What was counted", head, tuple(rows)),)


def build_parts(report: Report) -> tuple[Part, ...]:
    """Why, the evidence, the checks, the state before, what was not tested."""
    many = len(report.rounds) > 1
    evidence, checks = [], []
    for number, one in enumerate(report.rounds, 1):
        before = f"round {number}: " if many else ""
        evidence += [f"{before}{line}" for line in one.evidence]
        checks += [
            f"{before}{check.name}: " + ("yes" if check.good else f"NO: {check.detail or 'it does not'}")
            for check in one.observed.checks
        ]
    parts = (
        Part("Why", report.decision.reasons),
        Part("Evidence", tuple(evidence)),
        Part("Checks", tuple(checks)),
        Part("Before", _before(report)),
        Part("Not tested", report.not_tested),
    )
    return tuple(part for part in parts if part.lines)


def _before(report: Report) -> tuple[str, ...]:
    found: dict[str, Any] = dict(report.preflight)
    backup = found.get("backup")
    said = f"last verified backup: {backup or 'none'}"
    if backup and found.get("backup_age_seconds") is not None:
        said += f", verified {render_age(float(found['backup_age_seconds']))} before"
    return (
        f"redundancy: {found.get('redundancy', 'unknown')}",
        said,
        f"meant to be hurt: {', '.join(report.blast) or 'no node'}",
    )


def build_facts(report: Report) -> tuple[tuple[str, str], ...]:
    """What, where, when, who."""
    return (
        ("system", f"{report.system} {report.environment}"),
        ("drill", f"{render_title(report)}: {report.title}"),
        ("began", report.began),
        ("ended", report.ended),
        ("by", report.owner),
        ("report", report.id),
    )


def render_markdown(report: Report) -> str:
    """The whole report."""
    lines = [f"# {render_headline(report)}", ""]
    lines += [f"- {name}: {_safe(value)}" for name, value in build_facts(report)]
    for table in build_tables(report):
        lines += ["", f"## {table.title}", "", *_render_table(table)]
    for part in build_parts(report):
        lines += ["", f"## {part.title}", "", *(f"- {_safe(line)}" for line in part.lines)]
    return "\n".join(lines) + "\n"


def _render_table(table: Table) -> Iterable[str]:
    yield f"| {' | '.join(table.head)} |"
    yield f"|---|{'---:|' * (len(table.head) - 1)}"
    for row in table.rows:
        yield f"| {' | '.join(_safe(cell).replace('|', '/') for cell in row)} |"


def _safe(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;")


def build_recovery(
    promises: Sequence[Promise], reports: Sequence[Report], now: datetime
) -> list[dict[str, Any]]:
    """The table of recoveries: what is promised for each, and what its last drill showed.

    Args:
        promises: in the order in which they are shown.
        reports: oldest first.
        now: with a zone.
    """
    rows = []
    for promise in (*promises, REGION):
        last = next(
            (
                one
                for one in reversed(reports)
                if one.promise.procedure == promise.procedure and is_proof(one)
            ),
            None,
        )
        found = find_figures(last).get("RTO") if last else None
        age = (now - datetime.fromisoformat(last.ended)).total_seconds() if last else None
        rows.append(
            {
                "procedure": promise.procedure,
                "promised_seconds": promise.rto,
                "measured_seconds": found["max"] if found else None,
                "verdict": str(last.decision.verdict) if last else None,
                "drill": last.drill if last else None,
                "report": last.id if last else None,
                "age_seconds": None if age is None else round(age, 1),
                "supported": promise is not REGION,
            }
        )
    return rows


def render_recovery(rows: Sequence[dict[str, Any]]) -> Table:
    """The same for people."""
    shown = []
    for row in rows:
        if not row["supported"]:
            found = ("not supported yet", "-", "-", "-")
        elif row["verdict"] is None:
            found = ("never drilled", "-", "-", "-")
        else:
            seconds = row["measured_seconds"]
            figure = "-" if seconds is None else render_duration(seconds)
            found = (figure, row["verdict"], f"{render_age(row['age_seconds'])} ago", row["drill"])
        shown.append((row["procedure"], render_promise(row["promised_seconds"]), *found))
    return Table("Recovery", ("RECOVERY", "PROMISED", "LAST DRILL", "VERDICT", "AGE", "DRILL"), tuple(shown))
