"""Does every cost of the catalog keep what costs promise, and does a new one count as they do?"""

import pytest

from nas import catalog
from nas.cost.cost import Candidate, exact_costs
from nas.registry import Registry
from tests.cost.conformance import (
    ARCHITECTURES,
    SHAPE,
    CostConformance,
    ExactCostConformance,
    MeasuredCostConformance,
)


class TestParams(ExactCostConformance):
    name = "params"


class TestFlops(ExactCostConformance):
    name = "flops"


class TestActivationBytes(ExactCostConformance):
    name = "activation_bytes"


class TestLatency(MeasuredCostConformance):
    name = "latency_ms"


def test_no_cost_of_the_catalog_is_left_out() -> None:
    kinds = CostConformance.__subclasses__()
    tested = {case.name for kind in kinds for case in kind.__subclasses__()}
    assert tested == set(catalog.COSTS.names())


def test_exact_costs_are_those_of_the_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = exact_costs(SHAPE)
    assert set(ours(ARCHITECTURES[0])) == {"params", "flops", "activation_bytes"}
    more = {**catalog.COSTS.entries, "layer_count": "tests.run.plugged:LAYER_COUNT"}
    monkeypatch.setattr(catalog, "COSTS", Registry("cost", more))
    for each in ARCHITECTURES:
        assert exact_costs(SHAPE)(each) == {**ours(each), "layer_count": each.depth}


def test_there_is_no_network_where_only_exact_costs_are_asked_for() -> None:
    with pytest.raises(TypeError, match="a function of the architecture"):
        catalog.COSTS.load("latency_ms").figure(Candidate(ARCHITECTURES[0], SHAPE))
