"""Is a space of listed architectures closed, and can it be searched as any other?"""

import dataclasses
import json
import random
from typing import Any

import numpy as np
import pytest

from nas.errors import SpecError
from nas.space.architecture import Architecture
from nas.space.listed import ListedSpace, listed_in
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace

GRID = load_space("digits_tiny")


def listed(count: int = 60, grid: SearchSpace = GRID) -> ListedSpace:
    rng = random.Random(3)
    genomes = dict.fromkeys(grid.genome(grid.sample(rng)) for _ in range(count))
    return ListedSpace("some", grid.kind, grid.network, grid.stacks, tuple(genomes))


@pytest.fixture
def space() -> ListedSpace:
    return listed()


def distance(one: Architecture, genome: tuple[int, ...]) -> int:
    return sum(a != b for a, b in zip(GRID.genome(one), genome, strict=True))


def test_it_holds_what_is_listed_and_nothing_else(space: ListedSpace) -> None:
    found = [*space.enumerate()]
    assert len(found) == len(set(found)) == space.size == len(space.listed)
    assert all(space.contains(each) for each in found)
    other = next(each for each in GRID.enumerate() if each not in set(found))
    assert not space.contains(other)
    with pytest.raises(SpecError, match=rf"{other.id} is not one of the {space.size} of some"):
        space.genome(other)
    assert space.in_grid(other) == GRID.genome(other)
    assert np.array_equal(space.genomes, np.array(space.listed))


def test_every_way_of_making_one_stays_inside(space: ListedSpace) -> None:
    rng = random.Random(0)
    one = space.sample(rng)
    for _ in range(100):
        other = space.sample(rng)
        for made in (space.mutate(one, rng, 0.2), space.cross(one, other, rng)):
            assert space.contains(made)
        one = other
    for end in ("smallest", "largest"):
        assert space.contains(space.extreme(end))


def test_a_mutation_moves_and_one_of_nothing_does_not(space: ListedSpace) -> None:
    rng = random.Random(1)
    for each in space.enumerate():
        assert space.mutate(each, rng, 0.0) == each
        assert space.mutate(each, rng, 1.0) != each


def test_the_nearest_is_nearest(space: ListedSpace) -> None:
    rng = random.Random(2)
    for _ in range(50):
        genome = GRID.genome(GRID.sample(rng))
        found = space.nearest(genome, rng)
        assert distance(found, genome) == min(distance(each, genome) for each in space.enumerate())
        own = GRID.genome(found)
        assert space.nearest(own, rng) == found
        assert space.nearest(own, rng, but=own) != found


def test_another_list_is_another_space(space: ListedSpace) -> None:
    fewer = dataclasses.replace(space, listed=space.listed[1:])
    assert fewer.digest != space.digest == listed().digest


def test_its_json_gives_it_back(space: ListedSpace) -> None:
    again = load_space(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert again.digest == space.digest


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([], "listed: an empty list"),
        ([[0, 0]], r"listed: 0: \[0, 0\] is no genome of digits_tiny"),
        ([[*GRID.genome(GRID.extreme("largest"))]] * 2, "listed: 1 genomes are there twice"),
        ([[9, *GRID.genome(GRID.extreme("largest"))[1:]]], "listed: 0: .* is no genome"),
        ([[0, *GRID.genome(GRID.extreme("largest"))[1:]]], "listed: 0: .* is no genome"),
        ([[*GRID.genome(GRID.extreme("largest"))[:-1], -1]], "listed: 0: .* is no genome"),
        ([["0"]], r"listed\.0\.0: .*integer"),
        (3, "listed: a list is required, 3 given"),
    ],
)
def test_a_list_that_is_none_of_the_grid_is_refused(listed: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_space({**GRID.to_json(), "listed": listed})


def test_its_homogeneous_part_is_listed_too() -> None:
    softmax, cosformer, linear = GRID.all_attentions
    members = [GRID.extreme("largest", softmax), GRID.extreme("smallest", linear)]
    mixed = GRID.extreme("largest", softmax, cosformer)
    space = listed_in(GRID, [GRID.genome(each) for each in (*members, mixed)])
    assert [space.allows_everywhere(each) for each in (softmax, cosformer, linear)] == [
        True,
        False,
        True,
    ]
    assert [*space.homogeneous(linear).enumerate()] == members[1:]
    with pytest.raises(SpecError, match="none of its list has attention cosformer alone"):
        space.homogeneous(cosformer)


def test_the_closest_of_any_genome_is_listed(space: ListedSpace) -> None:
    for each in space.enumerate():
        assert space.closest(space.genome(each)) == each
    other = next(each for each in GRID.enumerate() if not space.contains(each))
    assert GRID.closest(GRID.genome(other)) == other
    assert space.contains(space.closest(GRID.genome(other)))
