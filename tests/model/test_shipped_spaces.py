"""Does every space in search_spaces/ give networks that can be trained?"""

import random
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nas.model.network import StandaloneNetwork
from nas.model.supernet import Supernet
from nas.space.gene import End
from nas.space.loader import load_space
from nas.space.task_shape import ImageShape, TextShape
from tests.model.cases import images
from tests.model.translation_cases import batch, text_pairs
from tests.space.spaces import BUILT, shape_of

ENDS: tuple[End, ...] = ("smallest", "largest")
# Supernets of 190 and 430 million parameters.
LARGE = {"mixformer_wmt14_en_de", "wmt14_en_de"}


def test_there_are_spaces_of_both_kinds() -> None:
    kinds = [load_space(name).kind for name in BUILT]
    assert kinds.count("encoder") >= 7
    assert kinds.count("encoder_decoder") >= 6


def examples(count: int, shape: ImageShape | TextShape) -> tuple[Any, Tensor]:
    """So many examples as a network takes them, and a label for each of its rows of scores."""
    if isinstance(shape, ImageShape):
        return images(count, shape), torch.tensor([1, 7])[:count]
    pairs = batch(text_pairs(((5, 4), (3, 6))[:count], shape=shape))
    rows = len(pairs.kept)
    return pairs, torch.randint(4, 50, (rows,), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("end", ENDS)
def test_both_ends_train_a_step(name: str, end: End) -> None:
    space = load_space(name)
    shape = shape_of(space)
    inputs, labels = examples(2, shape)
    for attention in space.all_attentions:
        network = StandaloneNetwork(space.extreme(end, attention), shape)
        # One that keeps nothing beside the weights: the largest have 200 million.
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        losses = []
        for _ in range(2):
            loss = functional.cross_entropy(network(inputs), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            assert all(p.grad is not None for p in network.parameters())
            optimizer.step()
            losses.append(loss.item())
        assert losses[1] < losses[0]


@pytest.mark.parametrize("name", BUILT)
def test_the_largest_runs_under_bfloat16_autocast(name: str) -> None:
    space = load_space(name)
    shape = shape_of(space)
    inputs, _ = examples(1, shape)
    for attention in space.all_attentions:
        network = StandaloneNetwork(space.extreme("largest", attention), shape)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert bool(network(inputs).isfinite().all())


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in BUILT],
)
def test_one_supernet_trains_them_all(name: str) -> None:
    space = load_space(name)
    shape = shape_of(space)
    supernet = Supernet(space, shape)
    rng = random.Random(0)
    inputs, labels = examples(1, shape)
    chosen = [space.extreme("smallest"), space.extreme("largest"), space.sample(rng)]
    for architecture in chosen:
        scores = supernet(inputs, architecture)
        functional.cross_entropy(scores, labels).backward()  # type: ignore[no-untyped-call]
        assert bool(supernet.extract(architecture)(inputs).isfinite().all())
    grads = [p.grad for p in supernet.parameters() if p.grad is not None]
    assert grads
    assert all(bool(grad.isfinite().all()) for grad in grads)
