"""A search space is closed, counts itself exactly and encodes what it holds."""

import itertools
import json
import math
import pickle
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.cost.counts import costs
from nas.errors import SpecError
from nas.operators.declaration import Choice
from nas.space.architecture import Architecture, Encoder
from nas.space.blueprint import blueprint
from nas.space.dimension import dimensions
from nas.space.gene import End
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace
from nas.space.task_shape import ImageShape
from tests.space.spaces import (
    BUILT,
    GIVEN,
    LAYERS,
    OVERRIDDEN,
    RATIOS,
    SHIPPED,
    SMALL,
    VARIED,
    encoder,
    shape_of,
    small,
)

SPACES = {**SMALL, **{name: load_space(name) for name in SHIPPED}}
SHAPE = ImageShape(side=8, channels=3, classes=10)
spaces = st.sampled_from(sorted(SPACES)).map(SPACES.__getitem__)
seeds = st.integers(0, 2**32)


@pytest.fixture(params=sorted(SMALL))
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return SMALL[request.param]


class TestClosure:
    @given(spaces, seeds)
    def test_samples_are_contained(self, space: SearchSpace, seed: int) -> None:
        assert space.contains(space.sample(random.Random(seed)))

    @given(spaces, seeds, st.floats(0, 1))
    def test_mutants_are_contained(self, space: SearchSpace, seed: int, probability: float) -> None:
        rng = random.Random(seed)
        architecture = space.sample(rng)
        for _ in range(3):
            architecture = space.mutate(architecture, rng, probability)
            assert space.contains(architecture)

    @given(spaces, seeds)
    def test_children_are_contained_and_take_every_gene_from_a_parent(
        self, space: SearchSpace, seed: int
    ) -> None:
        rng = random.Random(seed)
        one, other = space.sample(rng), space.sample(rng)
        child = space.cross(one, other, rng)
        assert space.contains(child)
        parents = zip(space.genome(one), space.genome(other), strict=True)
        for gene, held in zip(space.genome(child), parents, strict=True):
            assert gene == -1 or gene in held

    @given(spaces, seeds)
    def test_genomes_build_what_they_came_from(self, space: SearchSpace, seed: int) -> None:
        architecture = space.sample(random.Random(seed))
        genome = space.genome(architecture)
        assert space.build(genome) == architecture
        active = space.active(genome)
        assert all((index >= 0) == (place in active) for place, index in enumerate(genome))

    @given(spaces, seeds)
    def test_nothing_but_the_generator_matters(self, space: SearchSpace, seed: int) -> None:
        def drawn(own: SearchSpace) -> list[Architecture]:
            rng = random.Random(seed)
            one, other = own.sample(rng), own.sample(rng)
            return [one, other, own.mutate(one, rng, 0.3), own.cross(one, other, rng)]

        state = random.getstate()
        assert drawn(space) == drawn(space) == drawn(load_space(space.to_json()))
        assert random.getstate() == state

    def test_a_mutation_of_nothing_changes_nothing(self, space: SearchSpace) -> None:
        architecture = space.extreme("largest")
        assert space.mutate(architecture, random.Random(0), 0.0) == architecture

    def test_mutation_reaches_every_architecture(self) -> None:
        space, rng = small(), random.Random(0)
        architecture, reached = space.extreme("smallest"), set()
        for _ in range(3_000):
            architecture = space.mutate(architecture, rng, 0.3)
            reached.add(architecture)
        assert reached == set(space.enumerate())


class TestContents:
    @pytest.mark.parametrize(
        ("name", "size"),
        [
            ("plain", 4 * (4 + 4**2)),
            ("ratios", 4 * (2 * 2) ** 2),
            # Layer 0 has 2 head counts; layer 1 types and head counts; layer 2 types and ratios.
            ("overridden", 4 * (2 + 2 * 4 * 4)),
            ("varied", 4 * 2 * 2 * 2 * 3 * 2 * 4),
        ],
    )
    def test_the_size_is_the_number_of_architectures(self, name: str, size: int) -> None:
        every = list(SMALL[name].enumerate())
        assert SMALL[name].size == size == len(every) == len(set(every))
        assert all(SMALL[name].contains(each) for each in every)

    def test_overrides_hold_for_their_layer_alone(self) -> None:
        for each in OVERRIDDEN.enumerate():
            assert each.depth in (1, 3)
            assert each.layers[0].attention == Choice("softmax")
            width = encoder(each).width
            if each.depth == 3:
                assert [layer.ffn_width for layer in each.layers[:2]] == [16, 16]
                assert each.layers[2].ffn_width in (width * 0.5, width * 2.5)
                assert each.layers[2].heads == 3

    def test_ratios_are_of_the_width_at_hand(self) -> None:
        seen = {
            (encoder(each).width, layer.ffn_width)
            for each in RATIOS.enumerate()
            for layer in each.layers
        }
        assert seen == {(16, 16), (16, 32), (24, 24), (24, 48)}

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"width": 20}, "width: 20 is not a choice; allowed: 24, 16"),
            ({"norm": "rmsnorm"}, "norm is fixed at its default 'layernorm'"),
            ({"depth": 3}, r"depth 3 is not among \[1, 2\]"),
            ({"heads": 3}, r"layers\.1\.heads: 3 is not a choice; allowed: 2, 4"),
            ({"attention": "cosformer"}, r"layers\.1\.attention: cosformer is not a choice"),
        ],
    )
    def test_what_is_not_contained_is_named(self, changes: dict[str, Any], message: str) -> None:
        form = small().extreme("largest").to_json()
        depth = changes.pop("depth", 2)
        inner = {k: v for k, v in changes.items() if k in LAYERS}
        outer = {k: v for k, v in changes.items() if k not in LAYERS}
        layers = [form["layers"][0], form["layers"][1] | inner, form["layers"][1]][:depth]
        architecture = Architecture.from_json({**form, **outer, "layers": layers})
        assert not small().contains(architecture)
        with pytest.raises(SpecError, match=message):
            small().genome(architecture)

    def test_homogeneous_subspaces_have_one_type(self) -> None:
        linear = Choice("linear")
        every = set(small().homogeneous(linear).enumerate())
        expected = {
            each
            for each in small().enumerate()
            if all(layer.attention == linear for layer in each.layers)
        }
        assert every == expected

    def test_a_type_that_some_layer_lacks_has_no_subspace(self) -> None:
        assert OVERRIDDEN.allows_everywhere(Choice("softmax"))
        assert not OVERRIDDEN.allows_everywhere(Choice("linear"))
        assert OVERRIDDEN.all_attentions == (Choice("softmax"), Choice("linear"))
        with pytest.raises(SpecError, match="not every site may have attention linear"):
            OVERRIDDEN.homogeneous(Choice("linear"))

    def test_covering_architectures_hold_every_tensor(self, space: SearchSpace) -> None:
        def tensors(architectures: Any) -> dict[tuple[str, str, str], tuple[int, ...]]:
            greatest: dict[tuple[str, str, str], tuple[int, ...]] = {}
            for each in architectures:
                for part in blueprint(each, SHAPE):
                    for name, lengths in part.shapes.items():
                        key = (part.path, part.variant, name)
                        seen = greatest.get(key, lengths)
                        greatest[key] = tuple(map(max, seen, lengths))
            return greatest

        assert tensors(space.covering()) == tensors(space.enumerate())
        assert all(space.contains(each) for each in space.covering())

    def test_covering_architectures_cross_every_choice_that_does_not_just_grow(self) -> None:
        fields = [name for name in dimensions(Encoder) if name != "width"]
        crossed = {tuple(getattr(each, name) for name in fields) for each in VARIED.covering()}
        assert set(VARIED.network) == {*fields, "width"}
        assert crossed == set(itertools.product(*(VARIED.network[name] for name in fields)))


class TestExtremes:
    @pytest.mark.parametrize("end", ["smallest", "largest"])
    def test_sizes_are_at_their_ends(self, space: SearchSpace, end: End) -> None:
        extreme = encoder(space.extreme(end))
        pick, other = (min, max) if end == "smallest" else (max, min)
        assert space.contains(extreme)
        assert extreme.depth == pick(space.stacks[0].depth)
        assert extreme.width == pick(space.network["width"])
        # A larger patch has fewer tokens.
        assert extreme.patch_size == other(space.network["patch_size"])
        for layer, choices in zip(extreme.layers, space.stacks[0].layers, strict=False):
            assert layer.heads == pick(choices["heads"])

    @pytest.mark.parametrize("name", BUILT)
    def test_flops_of_every_architecture_lie_between(self, name: str) -> None:
        space = load_space(name)
        rng, shape = random.Random(0), shape_of(space)
        for _ in range(20):
            architecture = space.sample(rng)
            ends = (space.extreme("smallest"), space.extreme("largest"))
            low, high = (each.replace_attention_like(architecture) for each in ends)
            found = [costs(each, shape).flops for each in (low, architecture, high)]
            assert found == sorted(found)

    def test_types_are_repeated_over_the_layers(self) -> None:
        linear, softmax = Choice("linear"), Choice("softmax")
        largest = small(depth=3).extreme("largest", linear, softmax)
        assert [layer.attention for layer in largest.layers] == [linear, softmax, linear]
        assert small(depth=3).contains(largest)

    def test_fields_without_an_order_take_their_first_choice(self) -> None:
        for end in ("smallest", "largest"):
            extreme = encoder(VARIED.extreme(end))
            named = (extreme.stem, extreme.norm, extreme.pooling, extreme.position)
            assert named == ("patch", "rmsnorm", "class_token", "none")
            assert str(extreme.layers[0].attention) == "softmax_relpos(max_distance=2)"


class TestSamplingLaw:
    """Uniform per dimension, the depth first: chi-square of every gene's counts, fixed seed."""

    @pytest.mark.parametrize("name", ["varied", "overridden", "digits_tiny", "cifar10_small"])
    def test_every_gene_is_uniform_given_its_layer_is_there(self, name: str) -> None:
        space, rng = SPACES[name], random.Random(2024)
        genomes = [space.genome(space.sample(rng)) for _ in range(6_000)]
        statistic, freedom = 0.0, 0
        for place, gene in enumerate(space.genes):
            counts = Counter(genome[place] for genome in genomes if genome[place] >= 0)
            expected = sum(counts.values()) / len(gene.choices)
            statistic += sum(
                (counts[index] - expected) ** 2 / expected for index in range(len(gene.choices))
            )
            freedom += len(gene.choices) - 1
        # Mean k, variance 2k: four standard deviations of the sum, both ways.
        assert abs(statistic - freedom) < 4 * math.sqrt(2 * freedom)

    def test_pairs_of_genes_are_independent(self) -> None:
        space, rng = small(depth=2), random.Random(7)
        counts = Counter(space.genome(space.sample(rng)) for _ in range(64 * 100))
        assert len(counts) == space.size == 64
        statistic = sum((count - 100) ** 2 / 100 for count in counts.values())
        assert abs(statistic - 63) < 4 * math.sqrt(2 * 63)

    def test_shallow_networks_are_drawn_as_often_as_deep_ones(self) -> None:
        space, rng = load_space("mixformer_cifar10"), random.Random(5)
        counts = Counter(space.sample(rng).depth for _ in range(3_000))
        assert all(
            abs(counts[depth] - 1_000) < 4 * math.sqrt(2_000 / 3) for depth in space.stacks[0].depth
        )


class TestEncoding:
    def test_every_architecture_has_its_own_vector(self, space: SearchSpace) -> None:
        every = list(space.enumerate())
        vectors = [space.encode(each) for each in every]
        assert len({vector.tobytes() for vector in vectors}) == len(every)
        assert [space.decode(vector) for vector in vectors] == every

    @given(spaces, seeds)
    def test_encodings_are_one_hot_by_gene(self, space: SearchSpace, seed: int) -> None:
        architecture = space.sample(random.Random(seed))
        vector = space.encode(architecture)
        assert vector.dtype == np.float32
        assert vector.shape == (sum(len(gene.choices) for gene in space.genes),)
        genome = space.genome(architecture)
        assert vector.sum() == sum(index >= 0 for index in genome)
        start = 0
        for gene, index in zip(space.genes, genome, strict=True):
            part = vector[start : start + len(gene.choices)]
            expected = np.arange(len(part)) == index
            assert np.array_equal(part, expected)
            start += len(part)
        assert space.decode(vector) == architecture

    @pytest.mark.parametrize("broken", ["zero", "two", "half", "nan", "absent", "short", "matrix"])
    def test_other_vectors_are_refused(self, broken: str) -> None:
        space = small()
        vector = space.encode(space.extreme("smallest"))
        deep = space.encode(space.extreme("largest"))
        changed = {
            "zero": np.zeros_like(vector),
            "two": np.maximum(vector, np.eye(1, len(vector), 1, dtype=np.float32)[0]),
            "half": vector / 2,
            "nan": np.full_like(vector, np.nan),
            "absent": np.concatenate([vector[:6], deep[6:]]),
            "short": vector[:-1],
            "matrix": vector[None],
        }[broken]
        with pytest.raises(SpecError, match="not an encoding of an architecture of small"):
            space.decode(changed)


class TestIdentity:
    def test_the_digest_is_pinned(self) -> None:
        assert small().digest == "dc9fdd1e718cd98b"

    def test_neither_name_nor_the_order_of_keys_matters(self) -> None:
        turned = dict(reversed(GIVEN.items())) | {"layers": dict(reversed(LAYERS.items()))}
        other = load_space(turned | {"name": "other", "description": "the same"})
        assert other.digest == small().digest
        assert load_space(turned) == small()

    @pytest.mark.parametrize(
        "changes",
        [
            {"stem": "patch", "norm": ["layernorm"], "pooling": "mean"},
            {"layers": LAYERS | {"ffn": "mlp"}},
            {"layers.1": {"ffn": ["mlp"]}},
            {"layers.0": LAYERS},
            {"depth": [2, 1]},
        ],
    )
    def test_equal_spaces_are_equal_however_they_are_written(self, changes: Any) -> None:
        assert small(**changes) == small()
        assert small(**changes).digest == small().digest

    @pytest.mark.parametrize(
        "changes",
        [
            {"width": [16]},
            {"width": [16, 24, 32]},
            {"patch_size": 1},
            {"depth": [1, 2, 3]},
            {"stem": "conv"},
            {"norm": ["layernorm", "rmsnorm"]},
            {"pooling": "class_token"},
            {"layers.1": {"heads": 2}},
            {"layers": LAYERS | {"ffn_width": [16, 32]}},
            {"layers": LAYERS | {"attention": ["softmax", "cosformer"]}},
            {
                "layers": LAYERS
                | {"attention": ["softmax", {"type": "linear", "feature_map": "relu"}]}
            },
        ],
    )
    def test_every_choice_changes_the_digest(self, changes: Any) -> None:
        assert small(**changes).digest != small().digest

    @pytest.mark.parametrize("name", sorted(SPACES))
    def test_the_json_form_reads_back(self, name: str) -> None:
        space = SPACES[name]
        read = load_space(json.loads(json.dumps(space.to_json())))
        assert (read, read.digest) == (space, space.digest)
        assert pickle.loads(pickle.dumps(space)) == space
