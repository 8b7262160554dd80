"""A drill's report as one HTML page that needs nothing else, and reads well in the dark. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from asbuilt.plan.drilltext import build_facts, build_parts, build_tables, render_headline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.plan.drillreport import Report
    from asbuilt.plan.drilltext import Table

_STYLE: Final = """\
:root { color-scheme: light dark; --ink: #1c2024; --paper: #fcfcfd; --soft: #60646c; --line: #d9d9e0;
  --passed: #18794e; --failed: #c62a2f; --aborted: #915930; --inconclusive: #5753c6; }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --paper: #111113; --soft: #b0b4ba;
  --line: #363a3f; --passed: #3dd68c; --failed: #ff9592; --aborted: #ffa057; --inconclusive: #b1a9ff; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
.verdict { border-left: .4rem solid; padding-left: .7rem; }
.passed { border-color: var(--passed); } .failed { border-color: var(--failed); }
.aborted { border-color: var(--aborted); } .inconclusive { border-color: var(--inconclusive); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; min-width: 60%; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
ul { margin: 0; padding-left: 1.2rem; } li { overflow-wrap: anywhere; }
"""


def render_page(report: Report) -> str:
    """The whole report."""
    title = escape(render_headline(report))
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            f"<style>\n{_STYLE}</style></head>",
            f'<body><h1 class="verdict {report.decision.verdict}">{title}</h1>',
            "<dl>",
            *(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in build_facts(report)),
            "</dl>",
            *(line for table in build_tables(report) for line in _render_table(table)),
            *(line for part in build_parts(report) for line in _render_list(part.title, part.lines)),
            "</body></html>\n",
        )
    )


def _render_table(table: Table) -> Iterator[str]:
    yield f'<h2>{escape(table.title)}</h2>\n<div class="wide"><table>'
    yield f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in table.head)}</tr>"
    for row in table.rows:
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
    yield "</table></div>"


def _render_list(title: str, lines: tuple[str, ...]) -> Iterator[str]:
    yield f"<h2>{escape(title)}</h2>\n<ul>"
    yield from (f"<li>{escape(line)}</li>" for line in lines)
    yield "</ul>"
