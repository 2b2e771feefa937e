"""How is a person told whether the ranking can be trusted: sentences, a table, a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from nas.cost.analytic import PARAMS
from nas.report.architecture import layer_lines, outline, share_efficient
from nas.report.evidence import Fidelity, Summary, TrainedAlone
from nas.report.fidelity import agreement
from nas.report.front import FAINT, INK, NEUTRAL, SCALE, axis, layout
from nas.report.table import Table, quantity
from nas.search.fidelity import Agreements, RankerTest
from nas.search.objective import Metric
from nas.search.rank_correlation import RankAgreement, null_error
from nas.search.trial import Trial
from nas.space.architecture import Architecture


def sentences(summary: Summary) -> list[str]:
    """What the check of the ranking found, beyond its verdict; none where there was none."""
    said = []
    if summary.fidelity is not None:
        said += _supernet(summary.fidelity)
    if summary.ranker_test is not None:
        said += _ranker(summary.ranker_test)
    return said


def _supernet(found: Fidelity) -> list[str]:
    n, recipe = len(found.networks), found.recipe
    lost = f"; {found.lost} have no result" if found.lost else ""
    left = f" of {found.planned} planned" if n < found.planned else ""
    said = [
        f"To check the ranking, {n} networks{left} were trained alone for {recipe['steps']} steps "
        f"each, with one seed, and scored on the examples that slices are scored on{lost}.",
    ]
    if found.agreements.score.tau is not None:
        said.append(
            f"Kendall's tau with {found.metric} trained alone, 95% bootstrap intervals: supernet "
            f"score {_beside(found.agreements)}. Between scores with nothing in common tau's "
            f"standard error is {null_error(n):.2f} over {n} networks."
        )
    return said


def _ranker(tried: RankerTest) -> list[str]:
    if tried.agreements is None:
        return [f"No ranker was tried on networks that it never saw: {tried.reason}."]
    return [
        f"A ranker ({tried.member}) that learnt from the {tried.fitted} networks of the search was "
        f"tried on {tried.agreements.score.n} random controls that it never saw; Kendall's tau "
        f"with the supernet's score: ranker {_beside(tried.agreements)}."
    ]


def _beside(found: Agreements) -> str:
    return (
        f"{agreement(found.score)}, number of parameters alone {agreement(found.params)}, depth "
        f"alone {agreement(found.depth)}"
    )


def agreements(summary: Summary) -> Table:
    """The taus side by side; no rows where nothing was checked."""
    rows: list[tuple[str, ...]] = []
    if summary.fidelity is not None:
        found, bar = summary.fidelity.agreements, summary.gate.supernet_tau
        rows += _rows("trained alone", "supernet score", found, bar)
    tried = summary.ranker_test
    if tried is not None and tried.agreements is not None:
        found, bar = tried.agreements, summary.gate.ranker_tau
        rows += _rows("supernet score, unseen", f"ranker ({tried.member})", found, bar)
    return Table(
        "Who ranks networks as what: Kendall's tau",
        ("ranked by", "held against", "networks", "tau", "95% interval", "asked for"),
        tuple(rows),
        (("held against",), ("networks",)),
    )


def _rows(truth: str, name: str, found: Agreements, bar: float) -> list[tuple[str, ...]]:
    asked = f"{bar:g}, above parameters"
    each = ((name, found.score, asked), ("number of parameters", found.params, ""))
    return [
        (ranker, truth, str(given.n), _tau(given.tau), _interval(given), wanted)
        for ranker, given, wanted in (*each, ("depth", found.depth, ""))
    ]


def _tau(value: float | None) -> str:
    return "none" if value is None else f"{value:+.2f}"


def _interval(given: RankAgreement) -> str:
    if given.low is None or given.high is None:
        return "none"
    return f"[{given.low:+.2f}, {given.high:+.2f}]"


def picture(summary: Summary, trials: Sequence[Trial]) -> Any:
    """The plotly figure: trained alone upwards, supernet score to the right, a point a network.

    In the front's colours: where the supernet favours an attention type, colours part.
    """
    from plotly import graph_objects

    assert summary.fidelity is not None, "only what was checked can be drawn"
    networks, metric = summary.fidelity.networks, summary.primary
    made = graph_objects.Figure()
    for name, marker, held in _kinds(networks):
        shown = [_built(trials, each) for each in held]
        coloured = {**marker, "color": [share_efficient(each) for each in shown]}
        hover = [_hover(metric, *each) for each in zip(held, shown, strict=True)]
        made.add_scatter(
            x=[each.supernet for each in held],
            y=[each.alone for each in held],
            marker={**coloured, "coloraxis": "coloraxis"},
            hovertext=hover,
            hoverinfo="text",
            mode="markers",
            name=name,
            legendgroup=name,
            showlegend=False,
        )
        # The symbol in the legend has no colour of the scale.
        key = {**marker, "color": NEUTRAL}
        drawn = {"x": [None], "y": [None], "hoverinfo": "skip", "mode": "markers"}
        made.add_scatter(name=name, legendgroup=name, marker=key, **drawn)
    colours = {"colorscale": "Viridis", "cmin": 0, "cmax": 1, "colorbar": SCALE}
    made.update_layout(**layout(), coloraxis=colours)
    made.update_layout(height=480)
    made.update_xaxes(**axis(metric, [each.supernet for each in networks], " on the supernet"))
    made.update_yaxes(**axis(metric, [each.alone for each in networks], " trained alone"))
    return made


def _kinds(
    networks: Sequence[TrainedAlone],
) -> Iterator[tuple[str, dict[str, Any], list[TrainedAlone]]]:
    """The networks that look alike, with how they do."""
    thin, thick = {"color": FAINT, "width": 0.8}, {"color": INK, "width": 2}
    looks = (
        ("random control", {"symbol": "diamond", "size": 9, "line": thin}, "random"),
        ("search, below the front", {"symbol": "circle", "size": 9, "line": thin}, "search"),
    )
    below = [each for each in networks if not each.on_front]
    for name, marker, role in looks:
        if held := [each for each in below if each.trial.startswith(role)]:
            yield name, marker, held
    if front := [each for each in networks if each.on_front]:
        yield "front", {"symbol": "circle", "size": 12, "line": thick}, front


def _built(trials: Sequence[Trial], network: TrainedAlone) -> Architecture:
    return next(t.architecture for t in trials if t.architecture.id == network.architecture_id)


def _hover(metric: Metric, network: TrainedAlone, architecture: Architecture) -> str:
    lines = [
        f"{metric.name} on the supernet {quantity(network.supernet, metric)}",
        f"{metric.name} trained alone {quantity(network.alone, metric)}",
        f"{quantity(network.params, PARAMS.metric)}",
        f"{architecture.id}: {outline(architecture)}",
        *layer_lines(architecture),
    ]
    return "<br>".join([f"<b>{escape(network.trial)}</b>", *map(escape, lines)])
