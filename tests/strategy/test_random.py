"""Is random search uniform, as the space says, and bounded near what is left?"""

import random
from collections import Counter

from nas.space.gene import Genome
from nas.space.listed import listed_in
from nas.strategy.random import RandomSearch, fresh
from nas.strategy.repair import ENUMERABLE
from tests.strategy.conformance import StrategyConformance
from tests.strategy.landscape import costs, problem_of, run, space_of


class TestRandomSearch(StrategyConformance):
    @property
    def strategy(self) -> RandomSearch:
        return RandomSearch()

    def test_depths_and_attention_types_are_drawn_alike(self) -> None:
        space = space_of(width=[16, 24, 32], depth=[1, 2, 3])
        trials = run(self.strategy, problem_of(space), seed=2, count=900, batch=100)
        # Depth 1 has few architectures; two and three layers are far from used up.
        depths = Counter(trial.architecture.depth for trial in trials)
        assert depths[1] <= 144
        assert 0.8 <= depths[2] / depths[3] <= 1.25
        types = Counter(layer.attention for t in trials for layer in t.architecture.layers)
        assert all(0.9 <= 3 * count / types.total() <= 1.1 for count in types.values())

    def test_a_loose_constraint_leaves_the_draws_uniform(self) -> None:
        space = space_of()
        bound = sorted(costs(each)["flops"] for each in space.enumerate())[space.size // 2]
        free = run(self.strategy, problem_of(space), seed=5, count=60)
        bounded = run(self.strategy, problem_of(space, f"flops <= {bound}"), seed=5, count=60)
        kept = [t.architecture for t in free[:10] if costs(t.architecture)["flops"] <= bound]
        # Draws that break the bound are drawn again, so what keeps it is drawn in the same order.
        assert [trial.architecture for trial in bounded[: len(kept)]] == kept

    def test_a_space_too_large_to_list_is_used_up_through_neighbours(self) -> None:
        layers = {
            "attention": ["softmax", "linear"],
            "heads": [2, 4, 8],
            "head_width": [4, 8, 16],
            "ffn_width": [16, 64, 256],
        }
        space = space_of(layers=layers, width=[16, 24, 32, 64], depth=[1, 2])
        assert space.size > ENUMERABLE
        smallest = min(costs(space.extreme("smallest", c))["flops"] for c in space.all_attentions)
        problem = problem_of(space, f"flops <= {1.6 * smallest}")
        feasible = {each for each in space.enumerate() if problem.analytic_violation(each) == 0}
        assert 1 < len(feasible) < 200
        trials = run(self.strategy, problem, seed=4, count=1_000)
        assert {trial.architecture for trial in trials} == feasible

    def test_a_list_too_large_to_enumerate_is_used_up_within_itself(self) -> None:
        grid = space_of(width=[16, 24, 32], depth=[1, 2, 3, 4])
        rng, genomes = random.Random(0), dict[Genome, None]()
        while len(genomes) <= ENUMERABLE:
            genomes[grid.genome(grid.sample(rng))] = None
        space = listed_in(grid, list(genomes))
        left = list(map(space.build, space.listed[-3:]))
        known = set(map(space.build, space.listed[:-3]))
        assert set(fresh(problem_of(space), known, rng, 5)) == set(left)
