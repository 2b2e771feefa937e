"""Does every attention type get its share of the training, layer by layer and net by net?"""

import itertools
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.operators.declaration import Choice
from nas.search.recipe import SupernetRecipe
from nas.space.architecture import Architecture
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace
from nas.train.sampling import Sampled, Schedule, block_length

LAYER = {"heads": [2, 4], "head_width": [4, 8], "ffn_width": [16, 32]}
OUTSIDE = {"kind": "encoder", "patch_size": [1, 2], "width": [16, 24]}
SOFTMAX, COSFORMER, LINEAR = Choice("softmax"), Choice("cosformer"), Choice("linear")


def space_of(*types: list[str], depth: list[int] | None = None) -> SearchSpace:
    """A space with these attention types by layer."""
    number = len(types)
    layers: dict[str, Any] = {"layers": {"attention": types[0], **LAYER}}
    for index, each in enumerate(types[1:], start=1):
        layers[f"layers.{index}"] = {"attention": each}
    depths = depth or list(range(1, number + 1))
    return load_space({"name": "t", **OUTSIDE, "depth": depths, **layers})


THREE = ["softmax", "cosformer", "linear"]
SAME = space_of(THREE, THREE, THREE)
MIXED = space_of(THREE, ["softmax", "linear"], ["softmax"], depth=[3])


def recipe_of(sampling: str, every: int = 4) -> SupernetRecipe:
    return SupernetRecipe.model_validate({"sampling": sampling, "homogeneous_every": every})


def visits(steps: list[tuple[Sampled, ...]]) -> dict[tuple[int, int], Counter[str]]:
    """Types counted by (net of the step, layer)."""
    counted: dict[tuple[int, int], Counter[str]] = {}
    for nets in steps:
        for net, drawn in enumerate(nets):
            number = 0 if drawn.role == "fair" else net
            for layer, each in enumerate(drawn.architecture.layers):
                counted.setdefault((number, layer), Counter())[str(each.attention)] += 1
    return counted


@pytest.mark.parametrize("space", [SAME, MIXED], ids=["same types", "types differ by layer"])
@pytest.mark.parametrize("sampling", ["uniform", "fair", "sandwich"])
@pytest.mark.parametrize("seed", [0, 7])
def test_every_type_is_visited_equally_often_by_each_net_and_layer(
    space: SearchSpace, sampling: str, seed: int
) -> None:
    schedule = Schedule(space, recipe_of(sampling), seed)
    steps = [schedule.at(step) for step in range(block_length(space) * 12)]
    counted = visits(steps)
    nets = 4 if sampling == "sandwich" else 1
    assert {net for net, _ in counted} == set(range(nets))
    for (_, layer), types in counted.items():
        assert set(types) == {str(each) for each in space.sites[0][layer]}
        assert len(set(types.values())) == 1


@pytest.mark.parametrize("sampling", ["uniform", "sandwich"])
@pytest.mark.parametrize("every", [1, 4])
def test_homogeneous_nets_have_their_stated_share(sampling: str, every: int) -> None:
    length, blocks = block_length(SAME), 12
    schedule = Schedule(SAME, recipe_of(sampling, every), seed=3)
    steps = [schedule.at(step) for step in range(length * blocks)]
    for net in range(len(steps[0])):
        pure = [nets[net].architecture for nets in steps if nets[net].homogeneous]
        types = [{layer.attention for layer in each.layers} for each in pure]
        assert all(len(each) == 1 for each in types)
        shares = Counter(str(next(iter(each))) for each in types)
        assert shares == dict.fromkeys(THREE, blocks // every)


def test_where_types_differ_only_the_common_one_is_trained_homogeneously() -> None:
    length = block_length(MIXED)
    assert length == 6
    schedule = Schedule(MIXED, recipe_of("uniform", every=2), seed=1)
    drawn = [schedule.at(step)[0] for step in range(length * 10)]
    pure = [each for each in drawn if each.homogeneous]
    # Once for every max(T) = 3 steps of each second block.
    assert len(pure) == 10 // 2 * length // 3
    assert {layer.attention for each in pure for layer in each.architecture.layers} == {SOFTMAX}


def test_fair_trains_each_type_once_a_layer_on_shared_dimensions() -> None:
    for step in range(8):
        nets = Schedule(SAME, recipe_of("fair"), 5).at(step)
        assert len(nets) == 3
        assert len({net.architecture.replace_attention(SOFTMAX) for net in nets}) == 1
        for layer in range(nets[0].architecture.depth):
            types = [net.architecture.layers[layer].attention for net in nets]
            assert sorted(map(str, types)) == sorted(THREE)
        assert {net.homogeneous for net in nets} == {step % 4 == 3}


def test_the_sandwich_has_both_ends_with_types_of_their_own() -> None:
    schedule = Schedule(SAME, recipe_of("sandwich"), seed=0)
    drawn = [schedule.at(step) for step in range(24)]
    assert all(
        [n.role for n in nets] == ["largest", "smallest", "random", "random"] for nets in drawn
    )
    for nets in drawn:
        largest, smallest = (net.architecture.replace_attention(SOFTMAX) for net in nets[:2])
        assert largest == SAME.extreme("largest", SOFTMAX)
        assert smallest == SAME.extreme("smallest", SOFTMAX)
    orders = [[nets[i].architecture.layers[0].attention for nets in drawn] for i in range(4)]
    assert all(one != other for one, other in itertools.combinations(orders, 2))


@given(
    st.integers(0, 2**62), st.integers(0, 10_000), st.sampled_from(["uniform", "sandwich", "fair"])
)
def test_a_step_is_a_pure_function_of_seed_and_step(seed: int, step: int, sampling: str) -> None:
    recipe = recipe_of(sampling)
    schedule = Schedule(SAME, recipe, seed)
    # What was asked for before must not matter.
    for other in (step + 1, step // 2):
        schedule.at(other)
    assert schedule.at(step) == Schedule(SAME, recipe, seed).at(step)
    assert all(SAME.contains(net.architecture) for net in schedule.at(step))


def test_dimensions_are_drawn_once_a_block_by_the_law_of_the_space() -> None:
    schedule = Schedule(SAME, recipe_of("uniform"), seed=11)
    blocks, length = 3000, block_length(SAME)
    drawn: list[Architecture] = []
    for block in range(blocks):
        nets = [schedule.at(block * length + i)[0].architecture for i in range(length)]
        dimensions = {net.replace_attention(LINEAR) for net in nets}
        assert len(dimensions) == 1
        drawn += dimensions
    rng = random.Random(5)
    reference = [SAME.sample(rng).replace_attention(LINEAR) for _ in range(blocks)]
    for read in (
        lambda a: a.depth,
        lambda a: a.width,
        lambda a: a.patch_size,
        lambda a: a.layers[0].heads,
        lambda a: a.layers[-1].ffn_width,
    ):
        found, expected = Counter(map(read, drawn)), Counter(map(read, reference))
        assert set(found) == set(expected)
        for value in expected:
            # Five standard errors of a difference of two shares.
            assert abs(found[value] - expected[value]) < 5 * (blocks * 0.5) ** 0.5


def test_the_schedule_is_known_without_torch() -> None:
    code = "import sys, nas.train.sampling; print('torch' in sys.modules)"
    command, root = [sys.executable, "-c", code], Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"
