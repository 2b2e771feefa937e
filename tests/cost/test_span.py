"""Does a cost's span go over a whole space: by its bounds, by extreme networks, or as measured?"""

import pytest

from nas import catalog
from nas.cost.analytic import FLOPS, PARAMS
from nas.cost.span import ENDS, extremes, spans
from nas.registry import Registry
from nas.search.extent import Span
from tests.run.cases import request

PLUGGED = {
    "layer_count": "tests.run.plugged:LAYER_COUNT",
    "weight_bytes": "tests.run.plugged:WEIGHT_BYTES",
}
LOWEST, HIGHEST = (f"the {each} of the space's extreme networks" for each in ("lowest", "highest"))


@pytest.fixture(autouse=True)
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "COSTS", Registry("cost", {**catalog.COSTS.entries, **PLUGGED}))


@pytest.mark.parametrize("of", [{}, {"task": "numbers_en_de", "space": "numbers_tiny"}])
def test_the_extremes_are_the_smallest_and_largest_of_every_attention_type(
    of: dict[str, str],
) -> None:
    changes = (
        {**of, "objectives": ["loss", "flops"], "evaluation": {}, "supernet": {}} if of else {}
    )
    spec = request(**changes, standalone={})
    found = extremes(spec.search_space)
    assert len(set(found)) == len(found)
    assert all(spec.search_space.contains(each) for each in found)
    alike = {str(each.single_attention) for each in found} - {"None"}
    allowed = filter(spec.search_space.allows_everywhere, spec.search_space.all_attentions)
    assert alike == set(map(str, allowed))
    sizes = [PARAMS.of(each, spec.task_shape) for each in found]
    assert PARAMS.bound(spec.search_space, spec.task_shape, "smallest") in sizes
    assert PARAMS.bound(spec.search_space, spec.task_shape, "largest") in sizes


def test_bounds_are_exact() -> None:
    spec = request(objectives=["cross_entropy", "flops"])
    low, high = (FLOPS.bound(spec.search_space, spec.task_shape, end) for end in ENDS)
    assert spans(spec) == {"flops": Span(low, high, "the exact smallest", "the exact largest")}
    # What is measured moves no exact bound.
    assert spans(spec, {"flops": [1.0, 2.0]}) == spans(spec)


def test_an_exact_cost_without_bounds_is_calculated_of_the_extreme_networks() -> None:
    spec = request(objectives=["cross_entropy", "layer_count"])
    rules = (f"{each}, calculated" for each in (LOWEST, HIGHEST))
    assert spans(spec) == {"layer_count": Span(1.0, 3.0, *rules)}


def test_a_measured_cost_has_what_was_measured_and_else_no_span() -> None:
    spec = request(objectives=["cross_entropy", "weight_bytes", "latency_ms"])
    assert spans(spec) == {}
    rules = (f"{each}, measured at the start" for each in (LOWEST, HIGHEST))
    found = spans(spec, {"weight_bytes": [30.0, 5.0, 70.0, 60.0]})
    assert found == {"weight_bytes": Span(5.0, 70.0, *rules)}


def test_what_is_only_bounded_needs_none() -> None:
    assert spans(request(constraints=["params <= 1e9"])).keys() == {"flops"}
