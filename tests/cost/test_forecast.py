"""Are networks told to a predictor by their parts, and forecasts the same wherever made?"""

import json
from typing import Any

import numpy as np
import pytest

from nas.cost.composition import FIGURES, OUTER, Composition, genomes_of, timed_shape
from nas.cost.cost import exact_costs
from nas.cost.forecast import (
    FORECASTS,
    Forecasts,
    from_text,
    known_costs,
    known_costs_of_many,
    learnt,
    to_text,
)
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import Measurement, Trial
from nas.search.workload import Workload
from nas.space import population
from nas.space.architecture import Architecture
from nas.space.blueprint import blueprint
from nas.space.loader import load_space
from nas.space.task_shape import ImageShape, TaskShape, TextShape

CASES: dict[str, tuple[str, TaskShape]] = {
    "images": ("cifar10_small", ImageShape(32, 3, 10)),
    "text": ("hat_wmt14_en_de", TextShape(500, 500, source_length=9, target_length=31)),
}


def sort_of(path: str, site: str | None, variant: str) -> str | None:
    """What a part of the blueprint counts as; None for norms within layers."""
    if "layers." not in path:
        return OUTER
    name = path.rpartition(".")[2]
    if name.endswith("norm"):
        return None
    stack = "decoder" if path.startswith("decoder") else "encoder"
    return f"{stack} {site or name} {variant}"


@pytest.mark.parametrize("case", CASES)
def test_parts_are_those_of_the_blueprint(case: str) -> None:
    name, shape = CASES[case]
    space = load_space(name)
    codes = population.sample(space, np.random.default_rng(0), 25)
    composition = Composition.of(space, shape, codes)
    found = composition.parts(codes)
    assert len(found.names) == len(FIGURES) * len(composition.sorts)
    for genome, row in zip(codes.tolist(), found.matrix, strict=True):
        summed = dict.fromkeys(found.names, 0.0)
        for part in blueprint(space.build(tuple(genome)), shape):
            sort = sort_of(part.path, part.site, part.variant)
            if sort is not None:
                macs = sum(count for _, count in part.macs)
                for (figure, unit), value in zip(
                    FIGURES, (1, macs, part.params, part.activations), strict=True
                ):
                    summed[f"{sort}: {figure}"] += value / unit
        assert row.tolist() == pytest.approx(list(summed.values()), rel=1e-12)


def test_attention_types_are_told_apart_by_site() -> None:
    space, shape = load_space("wmt14_en_de"), CASES["text"][1]
    codes = population.sample(space, np.random.default_rng(0), 30)
    sorts = Composition.of(space, shape, codes).sorts
    for site in ("encoder encoder_self", "decoder decoder_self", "decoder cross"):
        assert {f"{site} {name}" for name in ("softmax", "cosformer", "linear")} <= set(sorts)


def test_sentences_have_the_lengths_that_are_timed() -> None:
    shape, workload = CASES["text"][1], Workload(source_length=12, target_length=17)
    timed = timed_shape(shape, workload)
    assert isinstance(timed, TextShape)
    assert (timed.source_length, timed.target_length) == (12, 17)
    images = CASES["images"][1]
    assert timed_shape(images, workload) is images


def request(**changes: Any) -> SearchSpec:
    given = {"name": "x", "task": "digits", "space": "digits_tiny"}
    return load_spec({**given, "objectives": ["cross_entropy", "latency_ms"], **changes})


def took(architecture: Architecture) -> float:
    """Milliseconds by a law of layers and types."""
    each = {"softmax": 1.0, "cosformer": 2.0, "linear": 0.5}
    return 0.4 + sum(each[layer.type] for layer in architecture.attentions)


def timed(spec: SearchSpec, count: int = 40) -> list[Trial]:
    codes = population.sample(spec.search_space, np.random.default_rng(2), count)
    built = [spec.search_space.build(tuple(row)) for row in codes.tolist()]
    return [
        Trial("timed", i, each, Measurement.of({"latency_ms": took(each)}))
        for i, each in enumerate(built)
    ]


@pytest.fixture(scope="module")
def forecasts() -> Forecasts:
    spec = request()
    return learnt(spec, timed(spec))


def test_a_law_of_layers_is_learnt(forecasts: Forecasts) -> None:
    forecast, spec = forecasts["latency_ms"], request()
    assert forecast.used
    for row in population.sample(spec.search_space, np.random.default_rng(9), 40).tolist():
        built = spec.search_space.build(tuple(row))
        assert forecast.figure(built) == pytest.approx(took(built), rel=0.05)


def test_many_are_predicted_as_each_alone(forecasts: Forecasts) -> None:
    spec = request()
    codes = population.sample(spec.search_space, np.random.default_rng(5), 60)
    built = [spec.search_space.build(tuple(row)) for row in codes.tolist()]
    together = forecasts["latency_ms"].figures(codes)
    assert together.tolist() == [forecasts["latency_ms"].figure(each) for each in built]
    names = ["latency_ms", "flops"]
    many = known_costs_of_many(spec, forecasts)(spec.search_space, codes, names)
    alone = known_costs(spec, forecasts)
    for name in names:
        assert many[name].tolist() == [alone(each)[name] for each in built]


def test_the_fact_gives_the_same_numbers_back(forecasts: Forecasts) -> None:
    spec = request()
    again = from_text(spec, to_text(forecasts))
    assert again == forecasts
    assert json.loads(to_text(again)) == json.loads(to_text(forecasts))
    assert from_text(spec, "") == {}
    assert FORECASTS == "cost_predictors"


def test_genomes_are_those_of_the_space() -> None:
    space = load_space("digits_tiny")
    codes = population.sample(space, np.random.default_rng(1), 5)
    built = [space.build(tuple(row)) for row in codes.tolist()]
    assert genomes_of(space, built).tolist() == codes.tolist()


def test_of_too_few_timings_nothing_is_learnt() -> None:
    spec = request()
    some = timed(spec, 9)
    failed = [
        Trial("timed", 9 + i, each.architecture, Measurement.failed("no"))
        for i, each in enumerate(some)
    ]
    assert learnt(spec, [*some, *failed]) == {}
    assert learnt(spec, []) == {}


def test_what_orders_no_better_than_a_count_is_not_used() -> None:
    spec = request()
    rng = np.random.default_rng(0)
    # Times that nothing explains.
    trials = [
        Trial("timed", each.index, each.architecture, Measurement.of({"latency_ms": value}))
        for each, value in zip(timed(spec), rng.uniform(1, 2, 40), strict=True)
    ]
    found = learnt(spec, trials)
    assert not found["latency_ms"].used
    built = trials[0].architecture
    assert known_costs(spec, found)(built) == exact_costs(spec.task_shape, spec.latency)(built)
    codes = genomes_of(spec.search_space, [built])
    many = known_costs_of_many(spec, found)(spec.search_space, codes, ["latency_ms", "flops"])
    assert set(many) == {"flops"}
