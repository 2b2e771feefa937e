"""What is one architecture worth by itself? Trained from scratch, alone, then scored to the end."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from nas.cost.analytic import PARAMS
from nas.model.network import StandaloneNetwork
from nas.search.spec import SearchSpec
from nas.space.architecture import Architecture
from nas.task.task import ImageData
from nas.train import checkpoint
from nas.train.loop import Forward, Progress, Run, train


def train_standalone(
    architecture: Architecture,
    spec: SearchSpec,
    data: ImageData,
    *,
    seed: int,
    folder: Path,
    device: torch.device | str,
) -> Generator[Progress]:
    """Trains one network by the spec's stand-alone recipe, or goes on; finished ones are left.

    Raises:
        CheckpointError: the folder holds another run under this name, or cannot be read or written.
        TrainingDiverged: a loss is not finite.
    """
    identity = _identity(architecture, spec, seed)
    run = Run(
        network=StandaloneNetwork(architecture, spec.task_shape, seed),
        losses=partial(_loss, spec.standalone.label_smoothing),
        data=data,
        recipe=spec.standalone,
        seed=seed,
        file=standalone_file(folder, architecture, seed),
        identity={**identity, "data digest": data.digest},
        params=PARAMS.of(architecture, spec.task_shape),
    )
    yield from train(run, device)


def load_standalone(
    architecture: Architecture,
    spec: SearchSpec,
    *,
    seed: int,
    folder: Path,
    device: torch.device | str,
) -> StandaloneNetwork:
    """The finished network in eval mode; raises `CheckpointError` where there is none."""
    network = StandaloneNetwork(architecture, spec.task_shape, seed)
    file = standalone_file(folder, architecture, seed)
    checkpoint.read_weights(file, _identity(architecture, spec, seed), network)
    return network.to(device).eval()


def standalone_file(folder: Path, architecture: Architecture, seed: int) -> Path:
    """Where a folder keeps the network of this architecture and seed."""
    return folder / f"{architecture.id}-seed{seed}.safetensors"


def _identity(architecture: Architecture, spec: SearchSpec, seed: int) -> dict[str, str]:
    return {
        "architecture": architecture.id,
        "recipe digest": spec.standalone_digest,
        "seed": str(seed),
    }


def _loss(
    smoothing: float, step: int, forward: Forward, images: Tensor, labels: Tensor
) -> Iterator[Tensor]:
    del step  # every step trains the same network
    yield functional.cross_entropy(forward(images), labels, label_smoothing=smoothing)
