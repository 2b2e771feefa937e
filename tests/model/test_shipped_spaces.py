"""Does every space in search_spaces/ give networks that can be trained?"""

import random
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from nas.model.network import StandaloneNetwork
from nas.model.supernet import Supernet
from nas.space.loader import load_space
from nas.space.search_space import End
from nas.space.task_shape import TaskShape
from tests.model.cases import images

FOLDER = Path(__file__).resolve().parents[2] / "search_spaces"
FILES = sorted(path for path in FOLDER.glob("*.yaml"))
ENDS: tuple[End, ...] = ("smallest", "largest")


def test_there_are_spaces() -> None:
    assert len(FILES) >= 7


def shape_of(patches: tuple[int, ...]) -> TaskShape:
    """Two patches a side of the largest patch: the smallest image with a grid."""
    return TaskShape(side=2 * max(patches), channels=3, classes=10)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("end", ENDS)
def test_both_ends_train_a_step(path: Path, end: End) -> None:
    space = load_space(path)
    shape = shape_of(space.network["patch_size"])
    for attention in space.all_attentions:
        network = StandaloneNetwork(space.extreme(end, attention), shape)
        batch = images(2, shape)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        losses = []
        for _ in range(2):
            loss = functional.cross_entropy(network(batch), torch.tensor([1, 7]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            assert all(p.grad is not None for p in network.parameters())
            optimizer.step()
            losses.append(loss.item())
        assert losses[1] < losses[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_largest_runs_under_bfloat16_autocast(path: Path) -> None:
    space = load_space(path)
    shape = shape_of(space.network["patch_size"])
    for attention in space.all_attentions:
        network = StandaloneNetwork(space.extreme("largest", attention), shape)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert bool(network(images(1, shape)).isfinite().all())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_one_supernet_trains_them_all(path: Path) -> None:
    space = load_space(path)
    shape = shape_of(space.network["patch_size"])
    supernet = Supernet(space, shape)
    rng = random.Random(0)
    chosen = [space.extreme("smallest"), space.extreme("largest"), space.sample(rng)]
    for architecture in chosen:
        scores = supernet(images(1, shape), architecture)
        functional.cross_entropy(scores, torch.tensor([3])).backward()  # type: ignore[no-untyped-call]
        assert bool(supernet.extract(architecture)(images(1, shape)).isfinite().all())
    grads = [p.grad for p in supernet.parameters() if p.grad is not None]
    assert grads
    assert all(bool(grad.isfinite().all()) for grad in grads)
