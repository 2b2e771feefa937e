"""Counted costs are those of the network itself, and bounds are those of an enumeration."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nas.cost.analytic import (
    ACTIVATION_BYTES,
    FLOPS,
    PARAMS,
    AnalyticCost,
    flops_by_group,
)
from nas.cost.cost import exact_costs
from nas.cost.counts import costs
from nas.model.network import StandaloneNetwork
from nas.space.architecture import Architecture
from nas.space.blueprint import blueprint
from nas.space.gene import End
from nas.space.loader import load_space
from nas.space.part import GROUPS
from nas.space.search_space import SearchSpace
from nas.space.task_shape import ImageShape, TaskShape
from tests.operators.conformance import bytes_an_image
from tests.space.spaces import BUILT, SMALL, shape_of

SHAPE = ImageShape(side=8, channels=3, classes=10)
ANALYTIC = (PARAMS, FLOPS, ACTIVATION_BYTES)
# What is made for 224 px is counted at two patches a side: the formulas are the same.
SHAPES = {name: shape_of(load_space(name)) for name in BUILT}


def named(case: object) -> str:
    return getattr(case, "id", "")


def drawn(space: SearchSpace, count: int) -> list[Architecture]:
    rng = random.Random(1)
    return [space.sample(rng) for _ in range(count)]


CASES: list[tuple[Architecture, TaskShape]] = [
    *((each, SHAPES[name]) for name in BUILT for each in drawn(load_space(name), 4)),
    *((each, SHAPE) for space in SMALL.values() for each in drawn(space, 8)),
]
# Translation networks are held against torch in test_translation_costs.py.
OF_IMAGES = [(each, shape) for each, shape in CASES if isinstance(shape, ImageShape)]


class TestAgainstTheNetwork:
    @pytest.mark.parametrize(("architecture", "shape"), CASES, ids=named)
    def test_parameters_are_counted_exactly(
        self, architecture: Architecture, shape: TaskShape
    ) -> None:
        with torch.device("meta"):
            network = StandaloneNetwork(architecture, shape)
        assert costs(architecture, shape).params == sum(p.numel() for p in network.parameters())

    @pytest.mark.parametrize(("architecture", "shape"), OF_IMAGES, ids=named)
    def test_flops_are_what_torch_counts(
        self, architecture: Architecture, shape: ImageShape
    ) -> None:
        network = StandaloneNetwork(architecture, shape).to("meta").eval()
        images = torch.empty(1, shape.channels, shape.side, shape.side, device="meta")
        counter = FlopCounterMode(display=False)
        with torch.inference_mode(), counter, sdpa_kernel(SDPBackend.MATH):
            network(images)
        assert costs(architecture, shape).flops == pytest.approx(
            counter.get_total_flops(), rel=1e-3
        )


# Its image is far larger than its single token.
LAYER = {"attention": "linear", "heads": 2, "head_width": 4, "ffn_width": 16}
SMALLEST = Architecture.from_json({"patch_size": 32, "width": 16, "layers": [LAYER]})


@pytest.mark.parametrize(("architecture", "shape"), [*OF_IMAGES[::4], (SMALLEST, SHAPE)])
def test_activation_bytes_are_within_a_quarter_of_what_tensors_take(
    architecture: Architecture, shape: ImageShape
) -> None:
    # Enough tokens for attention to weigh.
    shape = replace(shape, side=4 * shape.side)
    with torch.device("meta"):
        network = StandaloneNetwork(architecture, shape).eval()
        image = torch.empty(1, shape.channels, shape.side, shape.side)
    found = bytes_an_image(
        lambda batch: network(image.repeat(batch, 1, 1, 1)), list(network.parameters())
    )
    # The images are the caller's, and live throughout.
    beside = found - image.nbytes
    assert 1 / 1.25 <= costs(architecture, shape).activation_bytes / beside <= 1.25


@pytest.mark.parametrize(("architecture", "shape"), CASES, ids=named)
def test_costs_are_sums_over_all_parts(architecture: Architecture, shape: TaskShape) -> None:
    parts = list(blueprint(architecture, shape))
    macs: Counter[str] = Counter(dict.fromkeys(GROUPS, 0))
    for part in parts:
        macs.update(dict(part.macs))
    found = costs(architecture, shape)
    assert found.params == sum(math.prod(x) for part in parts for x in part.shapes.values())
    assert found.flops == 2 * macs.total()
    assert flops_by_group(architecture, shape) == {group: 2 * macs[group] for group in GROUPS}
    # Four bytes an element, for the part that holds most at once.
    assert found.activation_bytes == 4 * max(part.activations for part in parts)
    assert exact_costs(shape)(architecture) == {
        "params": found.params,
        "flops": found.flops,
        "activation_bytes": found.activation_bytes,
    }
    assert [cost.of(architecture, shape) for cost in ANALYTIC] == [
        found.params,
        found.flops,
        found.activation_bytes,
    ]


def test_a_plain_network_by_hand() -> None:
    layer = {"attention": "softmax", "heads": 2, "head_width": 4, "ffn_width": 24}
    architecture = Architecture.from_json({"patch_size": 2, "width": 16, "layers": [layer] * 3})
    # 16 tokens of width 16 and an inner width of 8.
    assert flops_by_group(architecture, SHAPE) == {
        "embedding": 2 * 16 * 16 * 3 * 4,
        "projections": 3 * 2 * 4 * 16 * 16 * 8,
        "attention": 3 * 2 * 2 * 16 * 16 * 8,
        "ffn": 3 * 2 * 2 * 16 * 16 * 24,
        "head": 2 * 16 * 10,
    }
    per_layer = 2 * 32 + (4 * 16 * 8 + 3 * 8 + 16) + (2 * 16 * 24 + 24 + 16)
    outside = (16 * 12 + 16) + 16 * 16 + 32 + (160 + 10)
    assert costs(architecture, SHAPE).params == 3 * per_layer + outside


@pytest.mark.parametrize("cost", ANALYTIC, ids=lambda cost: cost.metric.name)
class TestBounds:
    @pytest.mark.parametrize("name", BUILT)
    def test_no_architecture_of_a_shipped_space_lies_beyond(
        self, cost: AnalyticCost, name: str
    ) -> None:
        space, shape = load_space(name), SHAPES[name]
        ends: tuple[End, End] = ("smallest", "largest")
        low, high = (cost.bound(space, shape, end) for end in ends)
        extremes = [space.extreme(end, each) for end in ends for each in space.all_attentions]
        found = [cost.of(each, shape) for each in (*drawn(space, 200), *extremes)]
        assert low <= min(found) < max(found) <= high


def test_costs_do_not_depend_on_what_was_asked_before() -> None:
    architecture = load_space("cifar10_small").extreme("largest")
    shape = ImageShape(32, 3, 10)
    before = costs(architecture, shape)
    costs(architecture, replace(shape, classes=100))
    costs(architecture, ImageShape(64, 3, 10))
    assert costs(architecture, shape) == before
    assert costs(architecture, replace(shape, classes=100)).params == before.params + 90 * 97
