"""Between which values does a cost lie in a space: exactly, or as its extreme networks have it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas import catalog
from nas.cost.cost import Candidate, CostModel
from nas.search.extent import Span
from nas.search.spec import SearchSpec
from nas.space.architecture import Architecture
from nas.space.gene import End
from nas.space.search_space import SearchSpace

ENDS: tuple[End, End] = ("smallest", "largest")


def extremes(space: SearchSpace) -> tuple[Architecture, ...]:
    """The smallest and the largest network, as they are and with each attention type everywhere.

    Which type is slow depends on the machine and on the length, more than on what it computes.
    """
    found = [space.extreme(end) for end in ENDS]
    for attention in space.all_attentions:
        if space.allows_everywhere(attention):
            found += [space.homogeneous(attention).extreme(end) for end in ENDS]
    return tuple(dict.fromkeys(found))


def spans(
    spec: SearchSpec, measured: Mapping[str, Sequence[float]] | None = None
) -> dict[str, Span]:
    """The span of every cost among a request's objectives, by name.

    It is exact where the cost model tells both bounds; else it goes over what the `extremes` of the
    space cost: calculated, or, where that takes a machine, the values in `measured`. A cost that
    would have to be measured and is not in `measured` has no span.
    """
    found: dict[str, Span] = {}
    for name in spec.objectives:
        if name in catalog.COSTS.names():
            span = _span(spec, catalog.COSTS.load(name), (measured or {}).get(name))
            if span is not None:
                found[name] = span
    return found


def _span(spec: SearchSpec, model: CostModel, measured: Sequence[float] | None) -> Span | None:
    smallest, largest = (model.bound(spec.search_space, spec.task_shape, end) for end in ENDS)
    if smallest is not None and largest is not None:
        return Span(float(smallest), float(largest), "the exact smallest", "the exact largest")
    values, how = measured, "measured at the start"
    if model.metric.analytic:
        values, how = _calculated(spec, model), "calculated"
    if not values:
        return None
    of = f"of the space's extreme networks, {how}"
    return Span(min(values), max(values), f"the lowest {of}", f"the highest {of}")


def _calculated(spec: SearchSpec, model: CostModel) -> list[float]:
    candidates = (
        Candidate(each, spec.task_shape, spec.latency) for each in extremes(spec.search_space)
    )
    return [model.figure(each).value for each in candidates]
