"""How do the trials lie in the plane of two objectives: the scatter with front and controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from nas.report.architecture import Look, layer_lines, looks, outline, share_efficient
from nas.report.evidence import Summary
from nas.report.table import PREFIXED, quantity
from nas.search.controls import control_pools
from nas.search.objective import Metric
from nas.search.pareto import front_of, scored
from nas.search.remeasured import with_measured
from nas.search.spec import SearchSpec
from nas.search.trial import SLICES, Standing, Trial

# An axis is logarithmic where the largest value is more than this many times the smallest.
LOGARITHMIC_FROM = 10.0
INK, FAINT, LINES, NEUTRAL = "#1f2933", "#7b8794", "#e4e7eb", "#cbd2d9"
# Above the points: beside them it would take a third of a narrow screen.
SCALE = {
    "title": {"text": "share of efficient attention", "side": "top"},
    "orientation": "h",
    "x": 0,
    "xanchor": "left",
    "y": 1.01,
    "yanchor": "bottom",
    "lenmode": "pixels",
    "len": 220,
    "thickness": 10,
    "tickformat": ".0%",
    "tickvals": [0, 0.5, 1],
    "outlinewidth": 0,
}
# Plotly's tool bar has, unless told otherwise, a button that uploads the figure to its makers.
CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    # What is left has room beside the colour scale on a narrow screen.
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
}
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


def figure(spec: SearchSpec, summary: Summary, trials: Sequence[Trial]) -> Any:
    """The plotly figure: first objective upwards, second to the right, all scored trials.

    Search trials are coloured by their share of efficient attention; controls have open symbols.
    """
    from plotly import graph_objects

    vertical, horizontal = summary.objectives[:2]
    known = looks(summary.attentions)
    made = graph_objects.Figure()
    # The search's own as they stand now: with what was measured where a cost had been predicted.
    controls = [trial for trial in trials if trial.role in SLICES and trial.role != "search"]
    shown = scored([*controls, *with_measured(spec, trials)])

    def add(name: str, held: Sequence[Trial], marker: Mapping[str, Any], **more: Any) -> None:
        if held:
            made.add_scatter(
                x=[trial.metrics[horizontal.name] for trial in held],
                y=[trial.metrics[vertical.name] for trial in held],
                name=escape(name),
                marker=marker,
                hovertext=[hover(summary, trial) for trial in held],
                hoverinfo="text",
                **{"mode": "markers", **more},
            )

    def add_coloured(
        name: str, held: Sequence[Trial], marker: Mapping[str, Any], **more: Any
    ) -> None:
        """Points in the colours of the scale; their symbol in the legend has none of them."""
        share = [share_efficient(trial.architecture) for trial in held]
        coloured = {**marker, "color": share, "colorscale": "Viridis", "cmin": 0, "cmax": 1}
        add(name, held, coloured, legendgroup=name, showlegend=False, **more)
        if held:
            key = {**marker, "color": NEUTRAL, "showscale": False}
            drawn = {"x": [None], "y": [None], "hoverinfo": "skip", "mode": "markers", **more}
            made.add_scatter(name=name, legendgroup=name, marker=key, **drawn)

    for name, held, marker in _controls(shown, known):
        add(name, held, marker)
    searched = [trial for trial in shown if trial.role == "search"]
    broken = [trial for trial in searched if not spec.keeps_constraints(trial.metrics)]
    add("search, breaks a constraint", broken, {"symbol": "circle-open", "color": FAINT, "size": 6})
    kept = [trial for trial in searched if spec.keeps_constraints(trial.metrics)]
    thin, thick = {"color": FAINT, "width": 0.8}, {"color": INK, "width": 2}
    add_coloured("search", kept, {"size": 8, "line": thin, "showscale": True, "colorbar": SCALE})
    front = sorted(front_of(spec, trials).members, key=lambda t: _loss(horizontal, t))
    # With more objectives the projected front is no staircase.
    line = len(summary.objectives) == 2
    add_coloured(
        "front",
        front,
        {"size": 12, "line": thick},
        mode="lines+markers" if line else "markers",
        line={"shape": "hv", "color": INK, "width": 1.5},
    )
    made.update_layout(**layout())
    for metric, update in ((horizontal, made.update_xaxes), (vertical, made.update_yaxes)):
        update(**axis(metric, [trial.metrics[metric.name] for trial in shown]))
    return made


def hover(summary: Summary, trial: Trial) -> str:
    """The lines that appear over a point: what it is, its objectives, its layers."""
    known = {metric.name: metric for metric in (*summary.objectives, summary.primary)}
    head = f"{trial.role} {trial.index}" + (f": {trial.label}" if trial.role != "search" else "")
    lines = [f"<b>{escape(head)}</b>"]
    lines += [
        escape(f"{name} {quantity(trial.metrics[name], metric)}")
        for name, metric in known.items()
        if name in trial.metrics
    ]
    lines += [
        escape(f"{name} {value:.5g}")
        for name, value in sorted(trial.metrics.items())
        if name not in known
    ]
    lines.append(escape(f"{trial.architecture.id}: {outline(trial.architecture)}"))
    lines += map(escape, layer_lines(trial.architecture))
    return "<br>".join(lines)


def _controls(
    shown: Sequence[Trial], known: Mapping[str, Look]
) -> list[tuple[str, list[Trial], dict[str, Any]]]:
    found = []
    for name, pool in control_pools(shown).items():
        if name == "random":
            marker = {"symbol": "x-thin", "size": 7, "line": {"width": 1.2, "color": FAINT}}
            found.append(("random control", pool, marker))
        elif name.removeprefix("homogeneous ") in known:
            attention = name.removeprefix("homogeneous ")
            found.append((f"all {attention}", pool, _open(known[attention], 9)))
    rivals: dict[str, list[Trial]] = {}
    for trial in shown:
        if trial.role == "matched":
            rivals.setdefault(str(Standing.of(trial).attention), []).append(trial)
    for attention, pool in rivals.items():
        if attention in known:
            marker = _open(known[attention], 6)
            found.append((f"all {attention}, at a member's FLOPs", pool, marker))
    return found


def _open(look: Look, size: int) -> dict[str, Any]:
    return {
        "symbol": f"{look.symbol}-open",
        "size": size,
        "color": look.colour,
        "line": {"width": 1.8, "color": look.colour},
    }


def _loss(metric: Metric, trial: Trial) -> float:
    value = trial.metrics[metric.name]
    return value if metric.direction == "minimize" else -value


def axis(metric: Metric, values: Sequence[float], of: str = "") -> dict[str, Any]:
    """The axis of a metric with these values, logarithmic where wide.

    Where it says `of` which networks they are, its title takes two lines: a screen may be narrow.
    """
    named = f"{escape(f'{metric.name} {of}')}<br>" if of else f"{escape(metric.name)} "
    better = "lower is better" if metric.direction == "minimize" else "higher is better"
    axis: dict[str, Any] = {
        "title": {"text": named + escape(f"({metric.unit}), {better}")},
        "gridcolor": LINES,
        "linecolor": FAINT,
        "ticks": "outside",
        "tickcolor": FAINT,
        "zeroline": False,
        "automargin": True,
    }
    if values and min(values) > 0 and max(values) > LOGARITHMIC_FROM * min(values):
        axis |= {"type": "log", "tickvals": _ticks(min(values), max(values)), "tickformat": "~g"}
    if metric.unit in PREFIXED:
        axis |= {"tickformat": "~s"}
    return axis


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... from below the low to above the high; plotly's own lack their powers."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    return [each for each in found if low / 2 <= each <= high * 2]


def layout() -> dict[str, Any]:
    """What all figures of the page have in common."""
    return {
        "template": "none",
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "font": {"family": FONT, "size": 13, "color": INK},
        "height": 620,
        "margin": {"l": 20, "r": 16, "t": 76, "b": 20},
        "hoverlabel": {"align": "left", "bgcolor": "#fff", "font": {"size": 12}},
        "legend": {"orientation": "h", "x": 0, "yref": "container", "y": 0, "yanchor": "bottom"},
    }
