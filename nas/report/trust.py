"""How is a person told whether the ranking can be trusted: sentences, a table, a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from nas.cost.analytic import PARAMS
from nas.report.architecture import layer_lines, outline, share_efficient
from nas.report.evidence import Summary, TrainedAlone
from nas.report.fidelity import agreement
from nas.report.front import FAINT, INK, NEUTRAL, SCALE, axis, layout
from nas.report.table import Table, quantity
from nas.search.fidelity import Agreements
from nas.search.objective import Metric
from nas.search.rank_correlation import RankAgreement, null_error
from nas.search.trial import Trial
from nas.space.architecture import Architecture


def sentences(summary: Summary) -> list[str]:
    """What the check of the ranking found, beyond its verdict; none where there was none."""
    found, tried = summary.fidelity, summary.ranker_test
    said = method(summary)
    if found is not None and found.agreements.score.tau is not None:
        n = len(found.networks)
        said.append(
            f"Kendall's tau with {found.metric} trained alone: supernet score "
            f"{_beside(found.agreements)}. Between scores with nothing in common tau's standard "
            f"error is {null_error(n):.2f} over {n} networks."
        )
    if tried is not None and tried.agreements is not None:
        said.append(
            "Kendall's tau with the supernet's score over these random controls: ranker "
            f"{_beside(tried.agreements)}."
        )
    return said


def method(summary: Summary) -> list[str]:
    """How the ranking was checked: on what, and by which recipe."""
    found, tried, said = summary.fidelity, summary.ranker_test, list[str]()
    if found is not None:
        n = len(found.networks)
        planned = f" of {found.planned} planned" if n < found.planned else ""
        lost = f"; {found.lost} have no result" if found.lost else ""
        said.append(
            f"To check the ranking, {n}{planned} networks on and below the front were trained "
            f"alone for {found.recipe['steps']} steps each, with one seed, and scored on the "
            f"validation examples that slices are scored on{lost}."
        )
    if tried is not None and tried.agreements is not None:
        said.append(
            f"A ranker ({tried.member}) that learnt from the scores of {tried.fitted} networks of "
            f"the search was tried on {tried.agreements.score.n} random controls that it never saw."
        )
    elif tried is not None:
        said.append(f"No ranker was tried on networks that it never saw: {tried.reason}.")
    return said


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
        rows += _rows("supernet score", f"{found.score.n} trained alone", found, bar)
    tried = summary.ranker_test
    if tried is not None and tried.agreements is not None:
        found, bar = tried.agreements, summary.gate.ranker_tau
        rows += _rows("ranker", f"{found.score.n} unseen networks", found, bar)
    return Table(
        "Agreement of rankings: Kendall's tau, 95% bootstrap interval",
        ("ranked by", "networks", "tau", "interval", "asked for"),
        tuple(rows),
        (("asked for",),),
    )


def _rows(name: str, networks: str, found: Agreements, bar: float) -> list[tuple[str, ...]]:
    return [
        (ranker, networks, _tau(given.tau), _interval(given), wanted)
        for ranker, given, wanted in (
            (name, found.score, f"{bar:g}, low > {max(0.0, found.params.tau or 0.0):.2f}"),
            ("number of parameters", found.params, ""),
            ("depth", found.depth, ""),
        )
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
    made.update_layout(height=560)
    made.update_xaxes(**axis(metric, [each.supernet for each in networks], "on the supernet"))
    made.update_yaxes(**axis(metric, [each.alone for each in networks], "trained alone"))
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
