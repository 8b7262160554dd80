"""Reports: the same after writing and reading, readable in each format, and the table of recoveries."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from asbuilt.plan.drillpage import render_page
from asbuilt.plan.drillreport import Report, find_figures, from_json, make_round, summarize, to_json
from asbuilt.plan.drilltext import build_recovery, render_headline, render_markdown, render_recovery
from asbuilt.plan.verdict import Check, Observed, Promise, Verdict

PROMISE = Promise("database failure", 300.0, 0.0)


def make_report(*rtos: float | None, name: str = "20260101T120000Z-database-primary-lost") -> Report:
    rounds = tuple(
        make_round(
            PROMISE,
            Observed(fault_on=True, rto=rto, rpo=0.0, rate=150.0, checks=(Check("a <b> leads", good=True),)),
            legs={"detect": 0.1, "promote": 0.5},
            evidence=("kill db-1: 7 of 7 processes were seen gone", "said <script>alert(1)</script>"),
            figures={"writes acknowledged": 1234},
            began="2026-01-01T12:00:00Z",
            seconds=12.0,
        )
        for rto in rtos
    )
    return Report(
        name,
        "database-primary-lost",
        "killed",
        "the primary's node is gone",
        "shop",
        "production",
        "me@here 1",
        "2026-01-01T12:00:00Z",
        "2026-01-01T12:01:00Z",
        PROMISE,
        ("db-1",),
        {"redundancy": "complete", "backup": None},
        ("the loss of the machine",),
        rounds,
    )


@given(st.lists(st.none() | st.floats(0, 1000), max_size=5))
def test_a_report_survives_writing_and_reading(rtos: list[float | None]) -> None:
    report = make_report(*rtos)
    raw = json.loads(json.dumps(to_json(report)))
    again = from_json(raw)
    assert to_json(again) == to_json(report)
    assert again.decision == report.decision


def test_a_verdict_that_was_edited_is_worked_out_again() -> None:
    raw = to_json(make_report(2.0))
    raw["rounds"][0]["observed"]["lost"] = 3
    assert from_json(raw).decision.verdict is Verdict.FAILED


def test_figures_are_those_of_all_rounds() -> None:
    figures = find_figures(make_report(1.0, 3.0, 2.0))
    assert figures["RTO"] == {"p50": 2.0, "p95": 3.0, "max": 3.0, "rounds": 3}
    assert summarize([float(n) for n in range(1, 101)]) == {"p50": 50.0, "p95": 95.0, "max": 100.0}


def test_markdown_has_what_was_promised_and_what_was_measured() -> None:
    text = render_markdown(make_report(2.0))
    assert text.startswith("# database-primary-lost killed: passed, RTO 2.00 s (promised 5 min)")
    for words in (
        "| RTO | 5 min | 2.00 s |",
        "| RPO | 0 | 0.00 s |",
        "| promote | 0.50 s |",
        "## Not tested",
    ):
        assert words in text
    assert "<script>" not in text


class _Outside(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}" for name, _ in attrs if name in {"src", "href", "srcset"}]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else_and_knows_the_dark() -> None:
    page = render_page(make_report(2.0, None))
    parser = _Outside()
    parser.feed(page)
    assert parser.found == []
    assert parser.open == []
    assert "url(" not in page
    assert "@import" not in page
    assert "prefers-color-scheme: dark" in page
    assert "<script>" not in page


def test_the_table_of_recoveries_shows_the_last_proof_and_what_was_never_tried() -> None:
    now = datetime(2026, 1, 2, 12, 1, tzinfo=UTC)
    other = Promise("application failure", 120.0)
    reports = [make_report(9.0), make_report(2.0, name="20260101T130000Z-database-primary-lost")]
    rows = build_recovery((PROMISE, other), reports, now)
    assert [row["procedure"] for row in rows] == ["database failure", "application failure", "region failure"]
    assert (rows[0]["measured_seconds"], rows[0]["verdict"], rows[0]["age_seconds"]) == (2.0, "passed", 86400)
    assert rows[1]["verdict"] is None
    shown = render_recovery(rows).rows
    assert shown[0] == ("database failure", "5 min", "2.00 s", "passed", "24 h ago", "database-primary-lost")
    assert shown[1] == ("application failure", "2 min", "never drilled", "-", "-", "-")
    assert shown[2] == ("region failure", "15 min", "not supported yet", "-", "-", "-")


def test_the_headline_of_one_that_never_came_back_names_no_time() -> None:
    assert render_headline(make_report(None)) == "database-primary-lost killed: failed"
