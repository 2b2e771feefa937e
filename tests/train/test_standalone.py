"""Is a network trained in rungs the one trained in one go, whatever it began with?"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from nas.errors import CheckpointError
from nas.model.network import StandaloneNetwork
from nas.model.supernet import Supernet
from nas.task.task import ImageData
from nas.train.checkpoint import read_state
from nas.train.loop import Progress
from nas.train.standalone import load_standalone, standalone_file, train_standalone
from tests.train.cases import finish, request
from tests.train.test_loop import same_weights

SPEC = request(standalone={"augmentation": {"crop_padding": 1}, "checkpoint_every": 7})
LARGEST = SPEC.search_space.extreme("largest")
GIVEN: dict[str, Any] = {"seed": 3, "device": "cpu"}


def slice_of(seed: int) -> StandaloneNetwork:
    """What an untrained supernet of this seed has for the largest network."""
    return Supernet(SPEC.search_space, SPEC.task_shape, seed=seed).extract(LARGEST)


def trained(folder: Path, data: ImageData, **how: Any) -> list[Progress]:
    return finish(train_standalone(LARGEST, SPEC, data, folder=folder, **GIVEN, **how))


def loaded(folder: Path, **how: Any) -> StandaloneNetwork:
    return load_standalone(LARGEST, SPEC, folder=folder, **GIVEN, **how)


@pytest.mark.parametrize("inherited", [False, True], ids=["scratch", "inherited"])
def test_rungs_end_where_one_go_ends_bit_by_bit(
    inherited: bool, data: ImageData, tmp_path: Path
) -> None:
    def start() -> dict[str, Any]:
        return {"inherited": slice_of(1)} if inherited else {}

    whole = trained(tmp_path / "whole", data, **start())
    for until in (8, 15, 15, 30):
        reports = trained(tmp_path / "rungs", data, until=until, **start())
        assert (reports[-1].step, reports[-1].steps) == (until, 30)
        assert reports[-1].saved is not None
        state = read_state(reports[-1].saved, {})
        assert (state.step, state.complete) == (until, until == 30)
        standing = loaded(tmp_path / "rungs", at=until, inherited=inherited)
        assert not standing.training
        held = {name: each.detach() for name, each in standing.named_parameters()}
        stored = load_file(reports[-1].saved)
        assert all(torch.equal(stored[f"weight/{name}"], each) for name, each in held.items())
    assert reports[-1].loss == whole[-1].loss
    networks = [loaded(tmp_path / each, inherited=inherited) for each in ("whole", "rungs")]
    assert same_weights(*networks)


def test_a_rung_that_is_left_goes_on_to_the_end_without_being_told(
    data: ImageData, tmp_path: Path
) -> None:
    trained(tmp_path / "whole", data)
    trained(tmp_path / "rungs", data, until=8)
    steps = [report.step for report in trained(tmp_path / "rungs", data)]
    assert min(steps) > 8
    assert same_weights(loaded(tmp_path / "whole"), loaded(tmp_path / "rungs"))


def test_a_network_that_stands_elsewhere_is_not_loaded(data: ImageData, tmp_path: Path) -> None:
    trained(tmp_path, data, until=8)
    with pytest.raises(CheckpointError, match="stands at step 8 and has not ended"):
        loaded(tmp_path)
    with pytest.raises(CheckpointError, match="stands at step 8, and step 15 is wanted; move"):
        loaded(tmp_path, at=15)
    # What is further is left as it is.
    assert [report.step for report in trained(tmp_path, data, until=4)] == [8]


def test_inherited_weights_are_where_the_training_begins(data: ImageData, tmp_path: Path) -> None:
    (first, *_) = trained(tmp_path, data, until=1, inherited=slice_of(1))
    batch = data.training_batch(0, SPEC.standalone, 3)
    network = slice_of(1)
    loss = cross_entropy(network(batch.inputs), batch.labels, label_smoothing=0.1)
    assert first.loss == pytest.approx(loss.item(), rel=1e-6)
    # The first step of a warm-up of 5 is a fifth of the highest rate, and Adam's first update of a
    # weight that does not decay is the rate itself.
    moved = loaded(tmp_path, at=1, inherited=True)
    decayed = {id(each) for each in moved.parameters() if each.ndim > 1}
    for one, other in zip(network.parameters(), moved.parameters(), strict=True):
        if id(other) not in decayed:
            assert (one - other).abs().max() <= 1.001 * SPEC.standalone.learning_rate / 5
    assert not same_weights(network, moved)


def test_what_it_began_with_is_part_of_what_a_run_is(data: ImageData, tmp_path: Path) -> None:
    trained(tmp_path, data, until=4, inherited=slice_of(1))
    file = standalone_file(tmp_path, LARGEST, 3, inherited=True)
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match="another run: its inherited weights is"):
        trained(tmp_path, data, until=8, inherited=slice_of(2))
    assert file.read_bytes() == before
    # From scratch it is another run in another file.
    trained(tmp_path, data, until=4)
    assert file.read_bytes() == before
    with safe_open(standalone_file(tmp_path, LARGEST, 3), framework="pt") as opened:
        identity = json.loads(opened.metadata()["etnas"])["identity"]
    assert "inherited weights" not in identity
