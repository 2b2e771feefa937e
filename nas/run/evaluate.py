"""How is one proposal measured on a worker: its score, as a slice or trained alone, and costs."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from nas import catalog
from nas.cost.cost import Candidate, Figure, exact_costs, measured
from nas.cost.machine import machine
from nas.errors import EtnasError, MachineUnavailable, TrainingDiverged, headline
from nas.model.network import StandaloneNetwork
from nas.model.supernet import Supernet
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import Measurement, Proposal, Standing
from nas.space.architecture import Architecture
from nas.task.task import ImageData, LabelledImages, Scores, Task
from nas.train.loop import Progress
from nas.train.scoring import score
from nas.train.standalone import load_standalone, train_standalone
from nas.train.supernet import load_supernet, train_supernet


@dataclass(frozen=True)
class Setup:
    """All that a worker needs, in plain values: it may be anywhere with the same folders."""

    spec: str
    supernet: Path
    standalone: Path
    data_root: Path
    training_seconds: float | None = None
    """Wall time that supernet training may take at most; None leaves it to the recipe."""

    @classmethod
    def of(cls, spec: SearchSpec, supernet: Path, standalone: Path, data_root: Path) -> Setup:
        """The setup of a request."""
        return cls(json.dumps(spec.to_json()), supernet, standalone, data_root)

    def request(self) -> SearchSpec:
        """The request, checked once more where it is used."""
        return load_spec(json.loads(self.spec))


def device_of(spec: SearchSpec) -> torch.device:
    """A GPU where workers have one, else the CPU."""
    return torch.device("cuda" if spec.executor.gpus > 0 else "cpu")


def load_data(spec: SearchSpec, data_root: Path) -> ImageData:
    """The task's data under its options; raises `DataError`."""
    task: Task = catalog.TASKS.load(spec.task.name, "task")
    return task.load(spec.task.configured(catalog.TASKS, "task"), data_root)


def train(setup: Setup) -> Generator[Progress]:
    """Trains the request's supernet on this worker, or goes on where its checkpoint ends.

    Raises what the training raises, and `MachineUnavailable` where this worker has no GPU, not
    enough memory, or cannot measure what the request wants measured.
    """
    spec = setup.request()
    torch.set_num_threads(spec.executor.cores_for_training)
    data = load_data(spec, setup.data_root)
    # Found before hours of training: the images that candidates are scored on must be there.
    data.validation(spec.evaluation.images)
    device = device_of(spec)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise MachineUnavailable(
            f"executor.gpus: {spec.executor.gpus:g} given, but torch sees no GPU on this worker"
        )
    try:
        _try_measured_costs(spec)
        yield from train_supernet(spec, data, setup.supernet, device, limit=setup.training_seconds)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, EtnasError) or not _is_memory(error):
            raise
        raise MachineUnavailable(
            "this worker has not enough memory to train the supernet; a smaller "
            f"supernet.batch_size or a smaller space may help ({headline(error)})"
        ) from error


def _try_measured_costs(spec: SearchSpec) -> None:
    """Measures the largest network, untrained: a workload that cannot be had is found at once."""
    largest, shape = spec.search_space.extreme("largest"), spec.task_shape
    candidate = Candidate(largest, shape, spec.latency, lambda: StandaloneNetwork(largest, shape))
    measured(spec.measured_costs, candidate)


def _is_memory(error: Exception) -> bool:
    # Torch has a class of its own only for a GPU's memory.
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error)


class Evaluator:
    """Measures proposals; the supernet, the data and the reference scores are loaded once."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.spec = setup.request()
        self.device = device_of(self.spec)
        torch.set_num_threads(self.spec.executor.cores)
        self.data = load_data(self.spec, setup.data_root)
        self.task: Task = catalog.TASKS.load(self.spec.task.name)
        self.exact = exact_costs(self.spec.task_shape, self.spec.latency)

    def __call__(self, proposal: Proposal) -> Measurement:
        """The measurement of one proposal; what goes wrong becomes its state and reason."""
        start = time.perf_counter()
        try:
            measurement = self._measure(proposal)
        except (TrainingDiverged, FloatingPointError) as error:
            measurement = Measurement({}, "infeasible", str(error))
        except Exception as error:  # noqa: BLE001 - a worker outlives any one architecture
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            measurement = Measurement.failed(f"{type(error).__name__} at {place}: {error}")
        return replace(measurement, seconds=time.perf_counter() - start)

    def _measure(self, proposal: Proposal) -> Measurement:
        architecture = proposal.architecture
        metrics = dict(self.exact(architecture))
        broken = [
            str(constraint)
            for constraint in self.spec.parsed_constraints
            if constraint.metric in metrics and constraint.violation(metrics) > 0
        ]
        if broken and proposal.role != "confirmed":
            reason = f"constraint not met: {'; '.join(broken)}"
            return replace(Measurement.of(metrics), state="infeasible", reason=reason)
        if proposal.role == "confirmed":
            trained = Measurement.of(metrics | self._trained(proposal))
            return replace(trained, machines={"confirmation": machine(self.device)})
        metrics |= self._sliced(architecture)
        figures = self._figures(architecture)
        for name, figure in figures.items():
            metrics |= {**figure.details, name: figure.value}
        machines = {name: figure.machine for name, figure in figures.items() if figure.machine}
        machines["evaluation"] = machine(self.device)
        return replace(Measurement.of(metrics), machines=machines)

    def _figures(self, architecture: Architecture) -> dict[str, Figure]:
        """What is measured of the slice, standing alone, on this machine."""
        candidate = Candidate(
            architecture,
            self.spec.task_shape,
            self.spec.latency,
            lambda: self.supernet.extract(architecture),
        )
        return measured(self.spec.measured_costs, candidate)

    # -- slices ----------------------------------------------------------------------------------

    @cached_property
    def supernet(self) -> Supernet:
        """The trained supernet, in evaluation mode."""
        return load_supernet(self.spec, self.setup.supernet, self.device, self.data)

    def _score(self, forward: Callable[..., Tensor], chosen: LabelledImages) -> Scores:
        size = self.spec.evaluation.batch_size
        return score(self.task, forward, self.data, chosen, batch_size=size, device=self.device)

    def _slice_scores(self, architecture: Architecture) -> Scores:
        chosen = self.data.validation(self.spec.evaluation.images)
        return self._score(lambda images: self.supernet(images, architecture), chosen)

    @cached_property
    def _reference(self) -> Tensor:
        """Losses of the space's largest network: what paired differences are taken to."""
        return self._slice_scores(self.spec.search_space.extreme("largest")).losses

    def _sliced(self, architecture: Architecture) -> dict[str, float]:
        scores = self._slice_scores(architecture)
        difference = scores.losses.double() - self._reference.double()
        paired = float(difference.std() / len(difference) ** 0.5)
        return {**self.task.summary(scores), f"{self.task.primary}_paired_se": paired}

    # -- stand-alone -----------------------------------------------------------------------------

    def _trained(self, proposal: Proposal) -> dict[str, float]:
        architecture, folder = proposal.architecture, self.setup.standalone
        seed = Standing.of(proposal).seed
        assert seed is not None, "confirmed networks are proposed with one"
        training = train_standalone(
            architecture, self.spec, self.data, seed=seed, folder=folder, device=self.device
        )
        for _ in training:
            pass
        network = load_standalone(
            architecture, self.spec, seed=seed, folder=folder, device=self.device
        )
        found = self.task.summary(self._score(network, self.data.validation()))
        tested = self.task.summary(self._score(network, self.data.test()))
        return found | {f"test_{name}": value for name, value in tested.items()}
