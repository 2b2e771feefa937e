"""What does a person look at: one self-contained HTML page that opens without a network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Literal

from nas.report.architecture import looks, outline, strip
from nas.report.evidence import Member, Summary, plain
from nas.report.front import CONFIG, FONT, figure
from nas.report.halving_shown import halving_tables
from nas.report.history import section as history_section
from nas.report.prediction_shown import prediction_tables
from nas.report.table import DOMINATED, Table, dominated_means, place_of, quantity, tables
from nas.report.trust import agreements, method, picture
from nas.report.words import words
from nas.search.history import History
from nas.search.pareto import scored
from nas.search.spec import SearchSpec
from nas.search.trial import SLICES, Trial

# The browser itself refuses whatever would be fetched: all that is needed is in the page.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)

STYLE = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #fff; color: #1f2933; font: 15px/1.5 {FONT}; }}
main {{ max-width: 1120px; margin: 0 auto; padding: 28px 24px 64px; }}
h1 {{ font-size: 26px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }}
h2 {{ font-size: 18px; margin: 36px 0 10px; padding-top: 14px; border-top: 1px solid #e4e7eb; }}
h3 {{ font-size: 14px; margin: 24px 0 6px; }}
.lead {{ color: #52606d; margin: 0 0 18px; overflow-wrap: anywhere; }}
.note {{ color: #52606d; font-size: 13px; margin: 8px 0; overflow-wrap: anywhere; }}
.wide {{ overflow-x: auto; }}
code {{ font: 0.92em ui-monospace, 'Cascadia Mono', Menlo, Consolas, monospace; }}
code {{ background: #f5f7fa; border-radius: 3px; padding: 1px 4px; }}
code {{ -webkit-box-decoration-break: clone; box-decoration-break: clone; }}
table {{ border-collapse: collapse; width: 100%; }}
table {{ font-size: 13px; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: 5px 14px 5px 0; vertical-align: top; }}
th, td {{ border-bottom: 1px solid #e4e7eb; }}
th {{ color: #52606d; font-weight: 600; white-space: nowrap; }}
.strips td {{ vertical-align: middle; }}
.strips td, .facts td:first-child {{ white-space: nowrap; }}
.facts td:last-child {{ width: 100%; overflow-wrap: anywhere; }}
.strips td:last-child {{ width: 100%; min-width: 220px; }}
.strips svg {{ display: block; max-width: 100%; height: auto; }}
.strips small {{ color: #52606d; }}
.strips svg {{ font-family: {FONT}; font-weight: 600; }}
.key {{ display: flex; flex-wrap: wrap; gap: 6px 18px; font-size: 13px; margin: 0 0 8px; }}
.key i {{ display: inline-block; width: 12px; height: 12px; }}
.key i {{ border-radius: 2px; margin-right: 6px; }}
.words {{ padding-left: 20px; }}
.words li {{ margin: 4px 0; overflow-wrap: anywhere; }}
.verdict {{ margin: 12px 0; padding: 10px 14px; border-left: 4px solid #7b8794; }}
.verdict {{ background: #f5f7fa; border-radius: 3px; overflow-wrap: anywhere; }}
.verdict.passed {{ border-color: #009E73; }}
.verdict.failed {{ border-color: #D55E00; }}
.square {{ max-width: 760px; }}
.none {{ padding: 20px; background: #f5f7fa; border-radius: 6px; }}
@media (max-width: 760px) {{
main {{ padding: 20px 14px 48px; }}
th, td {{ padding-right: 8px; }}
.cards thead {{ display: none; }}
.cards, .cards tbody {{ display: block; }}
.cards tr {{ display: flex; flex-wrap: wrap; gap: 4px 12px; }}
.cards tr {{ border-bottom: 1px solid #e4e7eb; padding: 10px 0; }}
.cards td {{ min-width: calc(33.3% - 8px); border: 0; padding: 0; }}
.cards td {{ white-space: normal; overflow-wrap: anywhere; }}
.cards td::before {{ content: attr(data-head); display: block; color: #52606d; font-size: 11px; }}
.cards td:first-child, .cards .whole {{ flex-basis: 100%; }}
.cards td:first-child {{ font-weight: 600; }}
.cards td:first-child::before {{ display: inline; margin-right: 6px; font-size: inherit; }}
.cards td:empty, .cards .whole::before {{ display: none; }}
}}
"""

# What a narrow screen holds of a table beside each other; a wider one is shown row by row.
NARROW = 54


def page(
    spec: SearchSpec,
    summary: Summary,
    trials: Sequence[Trial],
    *,
    search_id: str = "",
    extra: Mapping[str, Any] | None = None,
    history: History | None = None,
) -> str:
    """The report as HTML: scatter, strips, tables, words; every text from outside is escaped."""
    goals = " and ".join(f"{each.name} ({each.unit})" for each in summary.objectives)
    limits = "".join(
        f"{';' if place else ','} {each}{_when(summary, each)}"
        for place, each in enumerate(summary.constraints)
    )
    lead = (
        f"{search_id + ': ' if search_id else ''}{goals} on {summary.task}, space {summary.space}"
    )
    further = "".join(_table(each) for each in tables(summary))
    measured = "".join(_table(each) for each in prediction_tables(summary))
    halved = "".join(_table(each) for each in halving_tables(summary))
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(summary.name)}: Pareto front</title>",
            f"<style>{STYLE}</style></head><body><main>",
            f"<h1>{escape(summary.name)}</h1>",
            _verdict(summary),
            f'<p class="lead">{escape(lead + limits)}</p>',
            _scatter(spec, summary, trials),
            "<h2>The front, layer by layer</h2>",
            _strips(summary),
            "<h2>Can the ranking be trusted?</h2>",
            _trust(summary, trials),
            "<h2>Against the controls</h2>",
            history_section(summary, history),
            further or '<p class="none">There is nothing to compare.</p>',
            f"<h2>Predicted and measured</h2>{measured}" if measured else "",
            f"<h2>Trained alone</h2>{halved}" if halved else "",
            "<h2>What follows</h2>",
            f'<ul class="words">{"".join(f"<li>{_prose(x)}</li>" for x in words(summary))}</ul>',
            f"<h2>Provenance</h2>{_facts(extra)}" if extra else "",
            "</main></body></html>\n",
        )
    )


def _scatter(spec: SearchSpec, summary: Summary, trials: Sequence[Trial]) -> str:
    if not scored(trial for trial in trials if trial.role in SLICES):
        return '<p class="none">No trial was scored, so there is nothing to draw.</p>'
    return _drawn(figure(spec, summary, trials), "front", library="inline")


def _drawn(made: Any, name: str, *, library: Literal["inline", False]) -> str:
    """A figure as HTML; the library is in the page once, in its first figure."""
    html: str = made.to_html(full_html=False, include_plotlyjs=library, div_id=name, config=CONFIG)
    return html


def _verdict(summary: Summary) -> str:
    kind = summary.gate.verdict.replace(" ", "-")
    return f'<p class="verdict {kind}">{_prose(summary.gate.sentence)}</p>'


def _trust(summary: Summary, trials: Sequence[Trial]) -> str:
    """The check of the ranking: networks drawn, taus in a table, how they were come by."""
    shown = agreements(summary)
    parts = [f"<p>{_prose(sentence)}</p>" for sentence in method(summary)]
    if shown.rows:
        parts.insert(0, _table(shown))
    # Where a network was scored, the front's figure has brought the library.
    if summary.fidelity is not None and summary.fidelity.networks:
        drawn = _drawn(picture(summary, trials), "fidelity", library=False)
        parts.insert(0, f'<div class="square">{drawn}</div>')
    return "".join(parts) or f'<p class="none">{_prose(summary.gate.sentence)}</p>'


def _strips(summary: Summary) -> str:
    if not summary.front:
        return '<p class="none">The front is empty.</p>'
    known = looks(summary.attentions)
    key = "".join(
        f'<span><i style="background:{look.colour}"></i>{escape(look.mark)} {escape(name)}</span>'
        for name, look in known.items()
    )
    if summary.dominated_by_controls:
        key += f"<span>{DOMINATED} {escape(dominated_means(summary))}</span>"
    front = [member.architecture for member in summary.front]
    tallest = max(layer.ffn_width for each in front for layer in each.layers)
    stacks = front[0].stacks
    deepest = [max(len(each.layers_of(stack)) for each in front) for stack in stacks]
    shown = (*summary.objectives, *summary.further)
    rows = []
    for place, member in enumerate(summary.front, 1):
        values = ((m.name, quantity(member.metrics[m.name], m)) for m in shown)
        rows.append(
            f"<tr>{_cells((('#', place_of(place, member)), *values))}"
            f'<td class="whole"><small>{"<br>".join(map(escape, _about(member)))}</small></td>'
            f'<td class="whole">{strip(member.architecture, known, tallest, deepest)}</td></tr>'
        )
    key += f"<span>height: FFN width, up to {tallest}</span>"
    if len(stacks) > 1:
        key += "<span>behind the gap: decoder, self- and cross-attention</span>"
    heads = ("#", *(metric.name for metric in shown), "network", "layers, first to last")
    return (
        f'<div class="key">{key}</div>'
        f'<div class="wide"><table class="strips cards">{_head(heads)}'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _about(member: Member) -> list[str]:
    lines = [outline(member.architecture), f"trial {member.index}, {member.architecture_id}"]
    if member.dominated_by:
        first, *others = member.dominated_by
        lines.append(f"dominated by {first}" + (f" and {len(others)} more" if others else ""))
    return lines


def _table(table: Table) -> str:
    body = "".join(f"<tr>{_cells(zip(table.columns, row, strict=True))}</tr>" for row in table.rows)
    columns = zip(table.columns, *table.rows, strict=True)
    kind = ' class="cards"' if sum(2 + max(map(len, each)) for each in columns) > NARROW else ""
    return (
        f'<h3>{escape(table.title)}</h3><div class="wide"><table{kind}>{_head(table.columns)}'
        f"<tbody>{body}</tbody></table></div>"
    )


def _head(names: Iterable[str]) -> str:
    return f"<thead><tr>{''.join(f'<th>{escape(each)}</th>' for each in names)}</tr></thead>"


def _cells(row: Iterable[tuple[str, str]]) -> str:
    # Row by row there is no head above a cell, so that each carries its own.
    return "".join(f'<td data-head="{escape(head)}">{escape(cell)}</td>' for head, cell in row)


def _facts(extra: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(name))}</td><td>{escape(str(plain(value)))}</td></tr>"
        for name, value in extra.items()
    )
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def _prose(sentence: str) -> str:
    """A sentence for the page: what stands in `backticks` is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(sentence))


def _when(summary: Summary, constraint: str) -> str:
    return " (chosen after the run)" if constraint in summary.later_constraints else ""
