"""Are genomes that are drawn, changed and crossed by the thousand those of single architectures?"""

import itertools
import random
from collections import Counter

import numpy as np
import pytest

from nas.space import population
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace

SPACES = ["cifar10_small", "digits_tiny", "wmt14_en_de", "autoformer_tiny"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return load_space(request.param)


def genomes(codes: population.Codes) -> list[tuple[int, ...]]:
    return [tuple(row) for row in codes.tolist()]


def is_one(space: SearchSpace, genome: tuple[int, ...]) -> bool:
    """Whether the genome reads back from its architecture, so that nothing absent is chosen."""
    return space.genome(space.build(genome)) == genome


def test_every_row_is_a_genome(space: SearchSpace) -> None:
    first, other = (population.sample(space, rng(seed), 200) for seed in (1, 2))
    for codes in (
        first,
        population.mutate(space, first, rng(), 0.3),
        population.cross(space, first, other, rng()),
    ):
        assert codes.dtype == np.int16
        assert codes.shape == (200, len(space.genes))
        assert all(is_one(space, genome) for genome in genomes(codes))


def test_the_arguments_are_left_as_they_were(space: SearchSpace) -> None:
    first, other = (population.sample(space, rng(seed), 50) for seed in (1, 2))
    before = first.copy(), other.copy()
    population.mutate(space, first, rng(), 0.5)
    population.cross(space, first, other, rng())
    assert np.array_equal(first, before[0])
    assert np.array_equal(other, before[1])


def test_choices_are_drawn_as_often_as_one_by_one() -> None:
    space = load_space("cifar10_small")
    count, single = 20_000, random.Random(5)
    codes = population.sample(space, rng(3), count)
    alone = [space.genome(space.sample(single)) for _ in range(count // 4)]
    for column, gene in enumerate(space.genes):
        many = Counter(codes[:, column].tolist())
        few = Counter(genome[column] for genome in alone)
        for index in range(-1, len(gene.choices)):
            expected = few[index] / len(alone)
            # Five standard errors of the difference of two shares.
            error = 5 * (0.25 / len(alone) + 0.25 / count) ** 0.5
            assert abs(many[index] / count - expected) < error, (gene.path, index)


def test_a_mutation_of_nothing_and_of_everything(space: SearchSpace) -> None:
    codes = population.sample(space, rng(1), 500)
    assert np.array_equal(population.mutate(space, codes, rng(), 0.0), codes)
    redrawn = population.mutate(space, codes, rng(), 1.0)
    assert (redrawn != codes).any(axis=1).mean() > 0.99


def test_mutations_are_as_frequent_as_asked() -> None:
    space = load_space("autoformer_base")
    codes = population.sample(space, rng(1), 4000)
    changed = population.mutate(space, codes, rng(2), 0.2)
    for column, gene in enumerate(space.genes):
        rows = (codes[:, column] >= 0) & (changed[:, column] >= 0)
        expected = 0.2 * (1 - 1 / len(gene.choices))
        share = (codes[rows, column] != changed[rows, column]).mean()
        assert abs(share - expected) < 5 * (0.25 / rows.sum()) ** 0.5


def test_children_have_each_gene_of_a_parent(space: SearchSpace) -> None:
    one, other = (population.sample(space, rng(seed), 300) for seed in (1, 2))
    child = population.cross(space, one, other, rng(3))
    present = child >= 0
    assert ((child == one) | (child == other))[present].all()
    mixed = present & (one >= 0) & (other >= 0) & (one != other)
    assert 0.4 < (child == one)[mixed].mean() < 0.6


def test_keys_tell_rows_apart() -> None:
    space = load_space("digits_tiny")
    rows = np.array(
        [space.genome(each) for each in itertools.islice(space.enumerate(), 50_000)], np.int16
    )
    keys = population.keys(rows)
    assert len(np.unique(keys)) == len(rows)
    assert np.array_equal(keys[::-1], population.keys(rows[::-1].copy()))


def test_rows_at_once_change_nothing(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> list[object]:
        draws = rng(5)
        one, other = (population.sample(space, draws, 40) for _ in range(2))
        crossed = population.cross(space, one, other, draws)
        mutated = population.mutate(space, crossed, draws, 0.3)
        return [each.tolist() for each in (one, other, crossed, mutated, population.keys(mutated))]

    whole = made()
    monkeypatch.setattr(population, "CHUNK", 7)
    assert made() == whole
