"""How fast did the search find its front: hypervolume after each trial, in a picture and words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from nas.cost.span import spans
from nas.report.evidence import EXPLORATORY, NOT_RESOLVED, Summary, plain
from nas.report.front import CONFIG, FAINT, axis, layout
from nas.report.table import quantity
from nas.search.extent import Axis, FixedExtent, fixed_extent
from nas.search.history import Curve, History, evaluations_to_reach
from nas.search.objective import Metric
from nas.search.spec import SearchSpec
from nas.search.trial import Trial

FORMAT = 1
SEARCH, BAND = "#0072B2", "rgba(123, 135, 148, 0.22)"
# No screen shows more points of a curve side by side.
MOST_POINTS = 600
# The first trials' climb may leave the picture, where what follows would be a line at its top.
CLIMB = 0.05
HYPERVOLUME = Metric("hypervolume", "maximize", "share")
SIZE = {"height": 420, "margin": {"l": 20, "r": 16, "t": 20, "b": 20}}
Marks = list[int]
"""Places of a curve's points that are drawn."""


def extent_of(spec: SearchSpec, fact: str) -> FixedExtent | None:
    """The extent that the record's fact holds; of an older record without it, its request's.

    None where the request alone does not tell, as with measured costs.
    """
    return FixedExtent.from_text(fact) if fact else fixed_extent(spec, spans(spec))


def history_of(spec: SearchSpec, trials: Sequence[Trial], fact: str) -> History | None:
    """The history in that extent; None where there is none, or the search has no trial."""
    if not any(trial.role == "search" for trial in trials):
        return None
    extent = extent_of(spec, fact)
    return None if extent is None else History.of(spec, trials, extent)


# -- words -----------------------------------------------------------------------------------------


def told(summary: Summary, history: History | None) -> list[str]:
    """Sentences: how much is covered at an equal number of trials, and how much sooner."""
    if history is None or history.random is None or not history.equal_n:
        return []
    n, control = history.equal_n, history.random
    ours, theirs = history.search[n - 1], control.mean[n - 1]
    spread = f" ± {control.deviation[n - 1]:.4f}" if n < len(control.mean) else ""
    worst = ", ".join(
        f"{each.metric} {_value(summary, each.metric, each.worst)}" for each in history.extent.axes
    )
    said = (
        f"After {n} trials each, the search covers {ours:.4f} and random search {theirs:.4f}"
        f"{spread} of the hypervolume to the reference point that was fixed beforehand ({worst}): "
        f"a difference of {ours - theirs:+.4f}."
    )
    if not max(history.search[-1], control.mean[-1]):
        return [
            "Neither the search nor the random control covers anything: none of their networks is "
            f"better in every objective than the reference point ({worst})."
        ]
    return [said, _reached(summary, history.search, control.mean)]


def _value(summary: Summary, name: str, value: float) -> str:
    metric = next(each for each in summary.objectives if each.name == name)
    # Of a bound that is 0 by definition no digit was measured.
    return quantity(value, metric) if value else f"0 {metric.unit}"


def _axis_in_words(summary: Summary, of: Axis) -> str:
    best, worst = (_value(summary, of.metric, each) for each in (of.best, of.worst))
    return f"{of.metric} from {best} ({of.best_rule}) to {worst} ({of.worst_rule})"


def _reached(summary: Summary, search: Sequence[float], random: Sequence[float]) -> str:
    level = random[-1]
    needed, reached = evaluations_to_reach(random, level), evaluations_to_reach(search, level)
    if not level:
        fact = f"random search covered nothing with its {len(random)} trials"
    elif reached is not None:
        fact = (
            f"after {reached} trials the search covered what random search covered after {needed}"
        )
    else:
        fact = (
            f"after all its {len(search)} trials the search had not covered what random search "
            f"covered after {len(random)}"
        )
        if search[-1]:
            fact += f", but what that covered after {evaluations_to_reach(random, search[-1])}"
    verdict = next((e.verdict for e in summary.comparisons if e.control == "random"), NOT_RESOLVED)
    if verdict == NOT_RESOLVED:
        doubt = "Not resolved: at equal numbers of networks the two are not told apart"
    elif verdict == EXPLORATORY:
        doubt = "This is exploratory"
    else:
        doubt = "This is one run: another one's curve differs"
    return f"{fact[0].upper()}{fact[1:]}. {doubt}."


# -- JSON ------------------------------------------------------------------------------------------


def plain_history(summary: Summary, history: History) -> dict[str, Any]:
    """The history as JSON holds it, with the figures that its sentences are made of."""
    control, n = history.random, history.equal_n
    equal = reached = None
    if control is not None and n:
        ours, theirs = history.search[n - 1], control.mean[n - 1]
        equal = {"n": n, "search": ours, "random": theirs, "difference": ours - theirs}
        level = control.mean[-1]
        reached = {
            "level": level,
            "search": evaluations_to_reach(history.search, level),
            "random": evaluations_to_reach(control.mean, level),
        }
    return {
        "extent": plain(history.extent.axes),
        "at_equal_trials": equal,
        "trials_to_reach_random": reached,
        "search": list(history.search),
        "random": plain(control),
        "words": told(summary, history),
    }


def history_json(summary: Summary, history: History, search_id: str) -> str:
    """The content of `history.json`."""
    content = {"format": FORMAT, "search_id": search_id, **plain_history(summary, history)}
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


# -- page ------------------------------------------------------------------------------------------


def section(summary: Summary, history: History | None) -> str:
    """The page's section; its picture needs the script that stands in the page already."""
    head = "<h3>Hypervolume after each trial</h3>"
    if history is None:
        return (
            f'{head}<p class="none">There is no curve: the search has no trial yet, or one of its '
            "objectives has no ends that are known without a look at the trials.</p>"
        )
    control = history.random
    drawn = ""
    if history.search[-1] or (control is not None and control.mean[-1]):
        drawn = figure(history).to_html(
            full_html=False, include_plotlyjs=False, div_id="history", config=CONFIG
        )
    words = "".join(f"<li>{escape(each)}</li>" for each in told(summary, history))
    listed = f'<ul class="words">{words}</ul>' if words else ""
    return f'{head}{drawn}<p class="note">{escape(_caption(summary, history))}</p>{listed}'


def _caption(summary: Summary, history: History) -> str:
    axes = ", ".join(_axis_in_words(summary, each) for each in history.extent.axes)
    said = (
        f"The share of a box that was fixed without a look at any trial: {axes}. A network at a "
        "worst value or beyond it covers nothing; every trial counts, failed ones too."
    )
    if history.random is not None:
        said += (
            f" Random control: mean and standard deviation over {history.random.orders} random "
            "orders of its own trials, so that the band closes where all of them are in."
        )
    return said


def figure(history: History) -> Any:
    """The plotly figure: a step a trial for the search, mean and band for the random control."""
    from plotly import graph_objects

    made = graph_objects.Figure()
    control = history.random
    if control is not None:
        mean, spread = np.array(control.mean), np.array(control.deviation)
        marks = _thinned(len(mean))
        around = [*marks, *reversed(marks)]
        edge = np.concatenate(((mean + spread)[marks], (mean - spread)[marks[::-1]]))
        made.add_scatter(
            x=[place + 1 for place in around],
            y=edge.clip(0, 1).tolist(),
            fill="toself",
            fillcolor=BAND,
            line={"width": 0},
            hoverinfo="skip",
            name="random, ± 1 sd",
        )
        _line(made, "random, mean", mean, marks, color=FAINT, width=2)
        as_run = np.array(control.as_run)
        thin = {"width": 1, "dash": "dot", "shape": "hv"}
        _line(made, "random, as run", as_run, _steps(as_run), color=FAINT, **thin)
    search = np.array(history.search)
    _line(made, "search", search, _steps(search), color=SEARCH, width=2.5, shape="hv")
    drawn = axis(HYPERVOLUME, [])
    made.update_layout(**{**layout(), **SIZE})
    made.update_xaxes(**{**drawn, "title": {"text": "trials"}, "rangemode": "tozero"})
    share = {"text": "hypervolume (share)"}
    made.update_yaxes(**{**drawn, "title": share, "range": _range(history)})
    return made


def _line(made: Any, name: str, curve: Curve, marks: Marks, **style: Any) -> None:
    made.add_scatter(
        x=[place + 1 for place in marks],
        y=curve[marks].tolist(),
        mode="lines",
        line=style,
        name=name,
        hovertemplate=f"{name}: %{{y:.4f}} after %{{x}} trials<extra></extra>",
    )


def _thinned(count: int) -> Marks:
    places = np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int)
    return [int(place) for place in np.unique(places)]


def _steps(curve: Curve) -> Marks:
    """Where a curve of steps rises, its first point and its last: all that it is."""
    rises = (np.flatnonzero(np.diff(curve)) + 1).tolist()
    return sorted({0, len(curve) - 1, *rises})


def _range(history: History) -> list[float]:
    """From what is covered after the first climb to the top."""
    curves = [np.array(history.search)]
    if history.random is not None:
        mean, spread = np.array(history.random.mean), np.array(history.random.deviation)
        curves += [mean - spread, mean + spread, np.array(history.random.as_run)]
    top = max(float(each.max()) for each in curves)
    floor = min(float(each[int(CLIMB * len(each)) :].min()) for each in curves)
    room = 0.08 * (top - floor or top)
    return [max(0.0, floor - room), top + room]
