"""Between which values does a cost lie in a space: exactly, or as its extreme networks have it?"""

from __future__ import annotations

from collections.abc import Mapping

from nas import catalog
from nas.cost.cost import Candidate, CostModel
from nas.search.extent import Span
from nas.search.spec import SearchSpec
from nas.space.gene import End

ENDS: tuple[End, End] = ("smallest", "largest")
Pair = tuple[float, float]
"""A cost's value of a space's smallest network and of its largest."""


def spans(spec: SearchSpec, measured: Mapping[str, Pair] | None = None) -> dict[str, Span]:
    """The span of every cost among a request's objectives, by name.

    It is exact where the cost model tells both bounds; else it is what the space's smallest and
    largest networks cost, calculated, or where that takes a machine as `measured` says. A cost that
    would have to be measured and is not in `measured` has no span.
    """
    found: dict[str, Span] = {}
    for name in spec.objectives:
        if name in catalog.COSTS.names():
            span = _span(spec, catalog.COSTS.load(name), (measured or {}).get(name))
            if span is not None:
                found[name] = span
    return found


def _span(spec: SearchSpec, model: CostModel, measured: Pair | None) -> Span | None:
    smallest, largest = (model.bound(spec.search_space, spec.task_shape, end) for end in ENDS)
    if smallest is not None and largest is not None:
        return Span(float(smallest), float(largest), "the exact smallest", "the exact largest")
    pair, how = measured, "measured at the start"
    if model.metric.analytic:
        pair, how = _calculated(spec, model), "calculated"
    if pair is None:
        return None
    # Of some costs the larger network has the smaller value.
    networks = (f"that of the {end} network, {how}" for end in ENDS)
    (low, low_rule), (high, high_rule) = sorted(zip(pair, networks, strict=True))
    return Span(low, high, low_rule, high_rule)


def _calculated(spec: SearchSpec, model: CostModel) -> Pair:
    def figure(end: End) -> float:
        network = spec.search_space.extreme(end)
        return model.figure(Candidate(network, spec.task_shape, spec.latency)).value

    return figure("smallest"), figure("largest")
