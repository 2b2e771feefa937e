"""What is one architecture worth by itself? Trained alone, from scratch or inherited weights."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nas import catalog
from nas.cost.analytic import PARAMS
from nas.errors import CheckpointError
from nas.model.network import StandaloneNetwork
from nas.search.section import Part
from nas.search.spec import SearchSpec
from nas.space.architecture import Architecture
from nas.task.task import Batch, Data
from nas.train import checkpoint
from nas.train.loop import Forward, Progress, Run, train


def train_standalone(
    architecture: Architecture,
    spec: SearchSpec,
    data: Data,
    *,
    seed: int,
    folder: Path,
    device: torch.device | str,
    until: int | None = None,
    inherited: StandaloneNetwork | None = None,
) -> Generator[Progress]:
    """Trains one network by the spec's stand-alone recipe, or goes on; finished ones are left.

    It begins with random weights of the seed, or with those of `inherited`, which it takes over:
    the schedule is the same, warm-up included. After `until` steps of the schedule (None: all) it
    is left as it is, and goes on from there, bit by bit, when it is called again.

    Raises:
        CheckpointError: the folder holds another run under this name, or cannot be read or written.
        TrainingDiverged: a loss is not finite.
    """
    begun = {} if inherited is None else {"inherited weights": _digest_of(inherited)}
    run = Run(
        network=inherited or StandaloneNetwork(architecture, spec.task_shape, seed),
        losses=partial(_loss, spec.standalone.label_smoothing),
        data=data,
        recipe=spec.standalone,
        seed=seed,
        file=standalone_file(folder, architecture, seed, inherited=inherited is not None),
        identity={**_identity(architecture, spec, seed), **begun, "data digest": data.digest},
        params=PARAMS.of(architecture, spec.task_shape),
        about={
            "architecture": architecture.to_json(),
            "task": spec.task.model_dump(mode="json"),
            "data": dict(data.about),
        },
        until=until,
    )
    yield from train(run, device)


def load_standalone(
    architecture: Architecture,
    spec: SearchSpec,
    *,
    seed: int,
    folder: Path,
    device: torch.device | str,
    at: int | None = None,
    inherited: bool = False,
) -> StandaloneNetwork:
    """The finished network in eval mode, or the one that stands `at` a step of its training.

    Raises `CheckpointError` where there is none.
    """
    network = StandaloneNetwork(architecture, spec.task_shape, seed)
    file = standalone_file(folder, architecture, seed, inherited=inherited)
    checkpoint.read_weights(file, _identity(architecture, spec, seed), network, at=at)
    return network.to(device).eval()


@dataclass(frozen=True)
class Model:
    """A trained network with all that it takes to use it: its task, and what its data say."""

    network: StandaloneNetwork
    task: Part
    data: Mapping[str, Any]


def load_model(file: Path) -> Model:
    """The finished network that a file holds, in eval mode, and what it is for.

    Raises `CheckpointError` where there is none or the file does not say what it is.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file")
    about = checkpoint.read_state(file, {}, advice="give a network trained alone").about
    if "architecture" not in about:
        raise CheckpointError(f"{file}: no network trained alone: it does not say what it is for")
    try:
        architecture = Architecture.from_json(about["architecture"])
        task, data = Part.model_validate(about["task"]), dict(about["data"])
        shape = catalog.TASKS.load(task.name, "task").shape(task.configured(catalog.TASKS, "task"))
        network = StandaloneNetwork(architecture, shape)
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: what it says it is for is not usable: {error}") from error
    checkpoint.read_weights(file, {}, network)
    return Model(network.eval(), task, data)


def standalone_file(
    folder: Path, architecture: Architecture, seed: int, *, inherited: bool = False
) -> Path:
    """Where a folder keeps the network of this architecture and seed, by what it began with."""
    return folder / f"{architecture.id}-seed{seed}{'-inherited' * inherited}.safetensors"


def _identity(architecture: Architecture, spec: SearchSpec, seed: int) -> dict[str, str]:
    return {
        "architecture": architecture.id,
        "recipe digest": spec.standalone_digest,
        "seed": str(seed),
    }


def _digest_of(network: StandaloneNetwork) -> str:
    """Digest of the weights, the same on every device."""
    found = hashlib.sha256()
    for name, parameter in network.named_parameters():
        found.update(name.encode())
        found.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _loss(smoothing: float, step: int, forward: Forward, batch: Batch) -> Iterator[Tensor]:
    del step  # every step trains the same network
    scores = forward(batch.inputs)
    yield functional.cross_entropy(scores, batch.labels, label_smoothing=smoothing)
