"""Does repair always end, in the feasible set where there is one, and near where it began?"""

import random
from collections.abc import Mapping
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.cost.analytic import FLOPS, PARAMS
from nas.errors import NothingFeasible
from nas.search.problem import Problem
from nas.space.architecture import Architecture
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace
from nas.strategy.repair import repair, with_gene
from tests.strategy.conformance import tiny_space
from tests.strategy.landscape import DIGITS, SENTENCES, costs, problem_of, space_of

LARGE = ["digits_tiny", "cifar10_small", "numbers_tiny", "wmt14_en_de"]


@lru_cache
def shipped(name: str) -> SearchSpace:
    return load_space(name)


def smallest(space: SearchSpace, metric: str) -> float:
    """The exact minimum, whichever attention types are cheapest at each site."""
    shape = DIGITS if space.kind == "encoder" else SENTENCES
    cost = {"flops": FLOPS, "params": PARAMS}[metric]
    return cost.bound(space, shape, "smallest")


def counted(problem: Problem) -> tuple[Problem, list[int]]:
    """The problem with a cost that counts how often it is asked."""
    calls = [0]

    def cost(architecture: Architecture) -> Mapping[str, float]:
        calls[0] += 1
        return problem.cost(architecture)

    return Problem(problem.space, problem.objectives, problem.constraints, cost), calls


def test_what_is_feasible_is_left_alone() -> None:
    space = space_of()
    architecture = space.sample(random.Random(0))
    problem = problem_of(space, "flops <= 1e9", "accuracy >= 0.99")
    assert repair(architecture, problem, random.Random(0)) is architecture
    assert repair(architecture, problem_of(space), random.Random(0)) is architecture


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(LARGE))
def test_the_tightest_bound_is_reached_in_bounded_work(seed: int, name: str) -> None:
    space, rng = shipped(name), random.Random(seed)
    for metric in ("flops", "params"):
        problem, calls = counted(problem_of(space, f"{metric} <= {smallest(space, metric)}"))
        repaired = repair(space.sample(rng), problem, rng)
        assert space.contains(repaired)
        assert costs(repaired)[metric] == smallest(space, metric)
        assert calls[0] <= 8 * sum(len(gene.choices) for gene in space.genes)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_a_lower_bound_is_reached_too(seed: int) -> None:
    space, rng = shipped("cifar10_small"), random.Random(seed)
    largest = max(costs(space.extreme("largest", c))["params"] for c in space.all_attentions)
    problem = problem_of(space, f"params >= {largest}")
    assert costs(repair(space.sample(rng), problem, rng))["params"] >= largest


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.05, 0.95), st.floats(0.0, 1.0))
def test_two_sided_constraints_are_met_exactly_where_some_architecture_meets_them(
    seed: int, at: float, slack: float
) -> None:
    space, rng = tiny_space(), random.Random(seed)
    every = sorted(space.enumerate(), key=lambda each: costs(each)["flops"])
    chosen = costs(every[int(at * len(every))])
    problem = problem_of(
        space,
        f"flops <= {chosen['flops']}",
        f"flops >= {chosen['flops'] * (1 - 0.05 * slack)}",
        f"params >= {chosen['params']}",
    )
    assert problem.analytic_violation(repair(space.sample(rng), problem, rng)) == 0


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_a_narrow_corridor_in_a_large_space_is_found(seed: int) -> None:
    space, rng = shipped("cifar10_small"), random.Random(seed)
    target = costs(space.sample(rng))
    problem = problem_of(
        space,
        f"flops <= {target['flops'] * 1.03}",
        f"flops >= {target['flops'] * 0.97}",
        f"params <= {target['params'] * 1.1}",
        f"params >= {target['params'] * 0.9}",
    )
    assert problem.analytic_violation(repair(space.sample(rng), problem, rng)) == 0


def test_attention_types_stay_where_sizes_suffice() -> None:
    space, rng = shipped("cifar10_small"), random.Random(1)
    problem = problem_of(space, f"flops <= {3 * smallest(space, 'flops')}")
    for _ in range(30):
        before = space.sample(rng)
        after = repair(before, problem, rng)
        kept = zip(before.layers, after.layers, strict=False)
        assert all(one.attention == two.attention for one, two in kept)


def test_the_generator_decides() -> None:
    space = shipped("cifar10_small")
    architecture = space.extreme("largest")
    problem = problem_of(space, f"flops <= {2 * smallest(space, 'flops')}")
    found = [repair(architecture, problem, random.Random(seed)) for seed in (1, 1, 2, 3, 4)]
    assert found[0] == found[1]
    assert len(set(found)) >= 4


@pytest.mark.parametrize("space", [tiny_space(), shipped("cifar10_small")], ids=["tiny", "large"])
def test_the_impossible_is_said_with_the_best_there_is(space: SearchSpace) -> None:
    bound = smallest(space, "flops") / 2
    problem, calls = counted(problem_of(space, f"flops <= {bound}"))
    with pytest.raises(NothingFeasible, match=r"flops <= .* misses them by 100\.00% of the bounds"):
        repair(space.extreme("largest"), problem, random.Random(0))
    assert calls[0] <= 50_000


def test_a_change_of_depth_drops_layers_or_draws_them() -> None:
    space, rng = space_of(depth=[1, 2, 3]), random.Random(0)
    deep = space.genome(space.extreme("largest"))
    shallow = with_gene(space, deep, 0, 0, rng)
    assert space.build(shallow).layers == space.build(deep).layers[:1]
    again = space.build(with_gene(space, shallow, 0, 2, rng))
    assert space.contains(again)
    assert again.layers[0] == space.build(deep).layers[0]
