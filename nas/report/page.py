"""What does a person look at: one self-contained HTML page that opens without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from nas.report.architecture import looks, outline, strip
from nas.report.evidence import Summary, plain
from nas.report.front import FONT, figure
from nas.report.table import Table, quantity, tables
from nas.report.words import words
from nas.search.pareto import scored
from nas.search.spec import SearchSpec
from nas.search.trial import Trial

# The browser itself refuses whatever would be fetched: all that is needed is in the page.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)

# Plotly's tool bar has, unless told otherwise, a button that uploads the figure to its makers.
CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["lasso2d"],
}

STYLE = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #fff; color: #1f2933; font: 15px/1.5 {FONT}; }}
main {{ max-width: 1120px; margin: 0 auto; padding: 28px 24px 64px; }}
h1 {{ font-size: 26px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }}
h2 {{ font-size: 18px; margin: 36px 0 10px; padding-top: 14px; border-top: 1px solid #e4e7eb; }}
h3 {{ font-size: 14px; margin: 24px 0 6px; }}
.lead {{ color: #52606d; margin: 0 0 18px; overflow-wrap: anywhere; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; }}
table {{ font-size: 13px; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: 5px 14px 5px 0; vertical-align: top; }}
th, td {{ border-bottom: 1px solid #e4e7eb; }}
th {{ color: #52606d; font-weight: 600; white-space: nowrap; }}
.strips td {{ vertical-align: middle; }}
.strips svg {{ display: block; max-width: 100%; height: auto; }}
.strips .name {{ width: 1%; white-space: nowrap; }}
.strips small {{ color: #52606d; }}
.strips svg {{ font-family: {FONT}; font-weight: 600; }}
.key {{ display: flex; flex-wrap: wrap; gap: 6px 18px; font-size: 13px; margin: 0 0 8px; }}
.key i {{ display: inline-block; width: 12px; height: 12px; }}
.key i {{ border-radius: 2px; margin-right: 6px; }}
.words {{ padding-left: 20px; }}
.words li {{ margin: 4px 0; overflow-wrap: anywhere; }}
.none {{ padding: 20px; background: #f5f7fa; border-radius: 6px; }}
"""


def page(
    spec: SearchSpec,
    summary: Summary,
    trials: Sequence[Trial],
    *,
    search_id: str = "",
    extra: Mapping[str, Any] | None = None,
) -> str:
    """The report as HTML: scatter, strips, tables, words; every text from outside is escaped."""
    goals = " and ".join(f"{each.name} ({each.unit})" for each in summary.objectives)
    limits = f", {'; '.join(summary.constraints)}" if summary.constraints else ""
    lead = (
        f"{search_id + ': ' if search_id else ''}{goals} on {summary.task}, space {summary.space}"
    )
    further = "".join(_table(each) for each in tables(summary))
    about = _table(Table("About this run", ("", ""), _facts(extra or {})))
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(summary.name)}: Pareto front</title>",
            f"<style>{STYLE}</style></head><body><main>",
            f"<h1>{escape(summary.name)}</h1>",
            f'<p class="lead">{escape(lead + limits)}</p>',
            _scatter(spec, summary, trials),
            "<h2>The front, layer by layer</h2>",
            _strips(summary),
            "<h2>Against the controls</h2>",
            further or '<p class="none">There is nothing to compare.</p>',
            "<h2>What follows</h2>",
            f'<ul class="words">{"".join(f"<li>{escape(x)}</li>" for x in words(summary))}</ul>',
            f"<h2>Provenance</h2>{about}" if extra else "",
            "</main></body></html>\n",
        )
    )


def _scatter(spec: SearchSpec, summary: Summary, trials: Sequence[Trial]) -> str:
    if not scored(trial for trial in trials if trial.role != "confirmed"):
        return '<p class="none">No trial was scored, so there is nothing to draw.</p>'
    made: str = figure(spec, summary, trials).to_html(
        full_html=False,
        include_plotlyjs="inline",
        div_id="front",
        config=CONFIG,
    )
    return made


def _strips(summary: Summary) -> str:
    if not summary.front:
        return '<p class="none">The front is empty.</p>'
    known = looks(summary.attentions)
    key = "".join(
        f'<span><i style="background:{look.colour}"></i>{escape(look.mark)} {escape(name)}</span>'
        for name, look in known.items()
    )
    layers = [layer for member in summary.front for layer in member.architecture.layers]
    tallest = max(layer.ffn_width for layer in layers)
    deepest = max(member.architecture.depth for member in summary.front)
    rows = []
    for place, member in enumerate(summary.front, 1):
        values = ", ".join(quantity(member.metrics[m.name], m) for m in summary.objectives)
        rows.append(
            f'<tr><td class="name"><b>#{place}</b> {escape(values)}<br>'
            f"<small>trial {member.index}, {escape(outline(member.architecture))}</small></td>"
            f"<td>{strip(member.architecture, known, tallest, deepest)}</td></tr>"
        )
    return (
        f'<div class="key">{key}<span>height: FFN width, up to {tallest}</span></div>'
        f'<div class="wide"><table class="strips">{"".join(rows)}</table></div>'
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in table.columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows
    )
    title = f"<h3>{escape(table.title)}</h3>"
    return f'{title}<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _facts(extra: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(key), str(plain(value))) for key, value in extra.items())
