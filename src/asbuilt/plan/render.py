"""A plan as text for people and as JSON for tools.

Invariant: what takes something away is shown first; the same plan always gives the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from asbuilt.plan.step import Plan, Step, StepKind

if TYPE_CHECKING:
    from collections.abc import Iterable

SIGNS: Final = {
    StepKind.STOP: "-",
    StepKind.START: "+",
    StepKind.RESTART: "~",
    StepKind.RELOAD: "^",
    StepKind.SETUP: "*",
}
"""One sign for each kind of step, beside the word and never instead of it."""
_SHOWN: Final = (StepKind.STOP, StepKind.SETUP, StepKind.START, StepKind.RELOAD, StepKind.RESTART)


def render_text(plan: Plan) -> str:
    """The plan for a person, without a trailing newline."""
    if plan.empty:
        return "nothing to do: everything runs as wanted"
    steps = _shown(plan)
    width = max(len(_name(step)) for step in steps)
    lines = [_count_line(plan)]
    if plan.destructive:
        names = ", ".join(step.subject for step in steps if step.destructive)
        lines.append(f"takes copies of data out of service: {names} (the files stay)")
    lines.append("")
    lines += [f"  {SIGNS[step.kind]} {_name(step):<{width}}  {step.reason}" for step in steps]
    return "\n".join(lines)


def render_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values (schema 1): counts, and the steps in the order of their execution."""
    counts = plan.counts()
    return {
        "schema": 1,
        "changes": not plan.empty,
        "destructive": [step.id for step in plan.destructive],
        "counts": {str(kind): counts.get(kind, 0) for kind in StepKind},
        "steps": [
            {
                "id": step.id,
                "kind": str(step.kind),
                "subject": step.subject,
                "node_kind": step.node_kind or None,
                "title": step.title,
                "reason": step.reason,
                "needs": list(step.needs),
                "destructive": step.destructive,
            }
            for step in plan.steps
        ],
    }


def parse_json(raw: dict[str, Any]) -> Plan:
    """The inverse of `render_json`."""
    return Plan(
        tuple(
            Step(
                id=one["id"],
                kind=StepKind(one["kind"]),
                subject=one["subject"],
                node_kind=one["node_kind"] or "",
                title=one["title"],
                reason=one["reason"],
                needs=tuple(one["needs"]),
                destructive=one["destructive"],
            )
            for one in raw["steps"]
        )
    )


def _shown(plan: Plan) -> list[Step]:
    """Destructive steps, then other stops, then the rest in the order of their execution."""
    return sorted(plan.steps, key=lambda step: (not step.destructive, step.kind is not StepKind.STOP))


def _name(step: Step) -> str:
    return f"{step.kind:<7}  {step.subject}"


def _count_line(plan: Plan) -> str:
    counts = plan.counts()
    return _joined(f"{counts[kind]} to {_verb(kind)}" for kind in _SHOWN if kind in counts)


def _verb(kind: StepKind) -> str:
    return "set up" if kind is StepKind.SETUP else str(kind)


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(parts)
