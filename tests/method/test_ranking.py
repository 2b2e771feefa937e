"""Do slices of a supernet rank networks as these rank when they are trained alone?"""

import math
import random
from fractions import Fraction

import pytest

from nas.run.evaluate import Evaluator, Setup
from nas.search.rank_correlation import kendall_tau
from nas.search.trial import Proposal, Standing

NETWORKS = 12

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def chance(tau: float, count: int) -> float:
    """How often a random order of `count` networks has at least this tau: by all permutations."""
    pairs = count * (count - 1) // 2
    # ways[i] permutations have i discordant pairs: each new element adds 0 to its place of them.
    ways = [1] + [0] * pairs
    for place in range(1, count):
        ways = [sum(ways[max(0, i - place) : i + 1]) for i in range(pairs + 1)]
    discordant = round((1 - tau) / 2 * pairs)
    return float(Fraction(sum(ways[: discordant + 1]), math.factorial(count)))


@pytest.mark.parametrize(
    ("tau", "count", "expected"), [(1, 4, 1 / 24), (2 / 3, 4, 4 / 24), (-1, 5, 1)]
)
def test_chance_counts_permutations(tau: float, count: int, expected: float) -> None:
    assert chance(tau, count) == pytest.approx(expected)


def test_slices_rank_networks_trained_alone_better_than_chance(setup: Setup) -> None:
    evaluator = Evaluator(setup)
    space, rng = evaluator.spec.search_space, random.Random(0)
    networks = list(dict.fromkeys(space.sample(rng) for _ in range(2 * NETWORKS)))[:NETWORKS]
    sliced = [evaluator(Proposal("search", i, each)) for i, each in enumerate(networks)]
    alone = [
        evaluator(Proposal("confirmed", i, each, Standing(each.id, None, 0).label()))
        for i, each in enumerate(networks)
    ]
    losses = [[each.metrics["cross_entropy"] for each in found] for found in (sliced, alone)]
    assert all(loss < math.log(10) for loss in (*losses[0], *losses[1])), "something was learnt"
    assert len(networks) == len(set(losses[0])) == len(set(losses[1])) == NETWORKS
    tau = kendall_tau(*losses)
    assert tau is not None
    assert tau > 0
    assert chance(tau, NETWORKS) < 0.05, f"tau {tau:.3f}"
