"""Are the costs of many architectures at once those of each by itself, to the last unit?"""

import dataclasses

import numpy as np
import pytest

from nas import catalog
from nas.cost.cost import exact_costs, exact_costs_of_many
from nas.cost.counts import costs
from nas.cost.many import costs_of_many
from nas.registry import Registry
from nas.search.objective import Constraint, Metric, Objective
from nas.search.problem import Problem
from nas.space import population
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace
from nas.space.task_shape import ImageShape, TaskShape, TextShape
from nas.task.image_classification import CIFAR10

DIGITS, CIFAR = ImageShape(8, 1, 10), ImageShape(32, 3, 10)
SENTENCES = TextShape(500, 500, source_length=20, target_length=12)
CASES: dict[str, tuple[str, TaskShape]] = {
    "digits": ("digits_tiny", DIGITS),
    "CIFAR-10": ("cifar10_small", CIFAR),
    "class tokens": ("autoformer_tiny", ImageShape(224, 3, 1000)),
    "text": ("wmt14_en_de", SENTENCES),
    "spans": ("hat_wmt14_en_de", TextShape(500, 500, source_length=9, target_length=31)),
}


def drawn(space: SearchSpace, count: int = 300) -> population.Codes:
    return population.sample(space, np.random.default_rng(4), count)


@pytest.mark.parametrize("case", CASES)
def test_they_are_the_costs_of_each(case: str) -> None:
    name, shape = CASES[case]
    space = load_space(name)
    codes = drawn(space)
    found = costs_of_many(space, shape, codes)
    for row, genome in enumerate(codes.tolist()):
        alone = costs(space.build(tuple(genome)), shape)
        macs = tuple(int(group[row]) for group in map(np.asarray, found.macs))
        assert (np.asarray(found.params)[row], macs) == (alone.params, alone.macs)
        assert np.asarray(found.activations)[row] == alone.activations


@pytest.mark.parametrize("dense", [0, 10**9])
def test_rows_are_told_apart_however_many_values_there_are(
    monkeypatch: pytest.MonkeyPatch, dense: int
) -> None:
    monkeypatch.setattr("nas.cost.many.DENSE", dense)
    space = load_space("digits_tiny")
    codes = drawn(space)
    expected = [costs(space.build(tuple(genome)), DIGITS).flops for genome in codes.tolist()]
    assert np.asarray(costs_of_many(space, DIGITS, codes).flops).tolist() == expected


def test_no_row_is_no_cost() -> None:
    space = load_space("digits_tiny")
    found = costs_of_many(space, DIGITS, drawn(space, 0))
    assert np.asarray(found.params).shape == (0,)


def test_a_problem_gives_the_same_with_and_without_the_fast_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A plug-in's, which says nothing of many.
    more = {**catalog.COSTS.entries, "layer_count": "tests.run.plugged:LAYER_COUNT"}
    monkeypatch.setattr(catalog, "COSTS", Registry("cost", more))
    space = load_space("cifar10_small")
    shape = CIFAR10.shape(CIFAR10.options_model())
    names = ("flops", "params", "layer_count")
    objectives = tuple(Objective(Metric(name, "minimize", "1", analytic=True)) for name in names)
    slow = Problem(
        space,
        (Objective(Metric("cross_entropy", "minimize", "nats")), *objectives[:1]),
        (Constraint.parse("params <= 90000"), Constraint.parse("layer_count >= 3")),
        exact_costs(shape),
    )
    fast = dataclasses.replace(slow, costs=exact_costs_of_many(shape))
    codes = drawn(space, 60)
    found, expected = fast.costs_of(codes), slow.costs_of(codes)
    assert set(found) == set(expected) == set(names)
    for name in names:
        assert found[name].tolist() == expected[name].tolist()
    violations = fast.analytic_violations(found)
    alone = [slow.analytic_violation(space.build(tuple(genome))) for genome in codes.tolist()]
    assert violations.tolist() == pytest.approx(alone, rel=1e-12)
    assert min(alone) == 0 < max(alone)
