"""How is one proposal measured on a worker: its score, as a slice or trained alone, and costs."""

from __future__ import annotations

import json
import statistics
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nas import catalog
from nas.cost.cost import Candidate, exact_costs, measured
from nas.cost.forecast import from_text, known_costs
from nas.cost.machine import machine
from nas.cost.span import extremes, spans
from nas.errors import (
    DataChanged,
    EtnasError,
    MachineUnavailable,
    SpecError,
    TrainingDiverged,
    headline,
)
from nas.model.network import StandaloneNetwork
from nas.model.supernet import Supernet
from nas.run.translating import translated
from nas.search import fidelity, halving
from nas.search.extent import EXTENT, fixed_extent
from nas.search.halving import Rung
from nas.search.recipe import batch_key
from nas.search.spec import SearchSpec, load_spec
from nas.search.timing import turn_workload
from nas.search.trial import SLICES, Measurement, Proposal, Standing
from nas.search.workload import Workload
from nas.space.architecture import Architecture
from nas.task.pieces import TranslationData
from nas.task.task import Data, Examples, Scores, Task
from nas.train.loop import Progress
from nas.train.scoring import paired_error, score
from nas.train.standalone import load_standalone, train_standalone
from nas.train.supernet import load_supernet, train_supernet

Network = Callable[[], StandaloneNetwork]
"""Makes a network anew, standing alone."""


@dataclass(frozen=True)
class Setup:
    """All that a worker needs, in plain values: it may be anywhere with the same folders."""

    spec: str
    supernet: Path
    standalone: Path
    data_root: Path
    training_seconds: float | None = None
    """Wall time that supernet training may take at most; None leaves it to the recipe."""
    data_digest: str = ""
    """Of the data that the search's supernet learns from, once they were read."""
    test_digest: str = ""
    """Of the test examples that its networks are tested on, once they were read."""
    extent: str = ""
    """The fact `EXTENT` of the search, once it is fixed."""
    forecasts: str = ""
    """The fact `FORECASTS` of the search, once costs are predicted."""
    measured: str = ""
    """JSON, by architecture id: the costs that were measured of it, which no training changes."""
    testing: bool = False
    """Whether networks are trained alone next: the test examples are looked through before."""

    @classmethod
    def of(cls, spec: SearchSpec, supernet: Path, standalone: Path, data_root: Path) -> Setup:
        """The setup of a request."""
        return cls(json.dumps(spec.to_json()), supernet, standalone, data_root)

    def request(self) -> SearchSpec:
        """The request, checked once more where it is used."""
        return load_spec(json.loads(self.spec))

    def data(self, spec: SearchSpec) -> Data:
        """The data, to be read by one process once.

        Raises `DataError` where they are missing or broken, and `DataChanged` where they are not
        those that the search began with.
        """
        task: Task = catalog.TASKS.load(spec.task.name, "task")
        found = task.load(spec.task.configured(catalog.TASKS, "task"), self.data_root)
        _check_unchanged(spec, "data", found.digest, self.data_digest)
        return found

    def test(self, spec: SearchSpec, data: Data) -> Examples:
        """The test examples; raises as `data` does."""
        found = data.test()
        _check_unchanged(spec, "test examples", found.digest, self.test_digest)
        return found

    def supernet_on(self, data_digest: str) -> Path:
        """The folder of the supernet that learnt from these data."""
        return self.supernet / data_digest[:16]


def _check_unchanged(spec: SearchSpec, what: str, found: str, known: str) -> None:
    if known not in ("", found):
        raise DataChanged(
            f"task {spec.task.name}: its {what} have changed since the search began (digest "
            f"{found}, {known} then); put them back, or run the request as a new search"
        )


def device_of(spec: SearchSpec) -> torch.device:
    """A GPU where workers have one, else the CPU."""
    return torch.device("cuda" if spec.executor.gpus > 0 else "cpu")


def train(setup: Setup) -> Generator[Progress]:
    """Trains the request's supernet on this worker, or goes on where its checkpoint ends.

    Raises what the training raises, and `MachineUnavailable` where this worker has no GPU, not
    enough memory, or cannot measure what the request wants measured.
    """
    spec = setup.request()
    torch.set_num_threads(spec.executor.cores_for_training)
    data = setup.data(spec)
    # Found before hours of training: the examples that candidates are scored on must be there.
    data.validation(spec.evaluation.examples)
    _check_batches(spec, data)
    facts = {"data_digest": data.digest}
    if setup.testing:
        facts["test_digest"] = setup.test(spec, data).digest
    device = device_of(spec)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise MachineUnavailable(
            f"executor.gpus: {spec.executor.gpus:g} given, but torch sees no GPU on this worker"
        )
    try:
        _try_measured_costs(spec)
        # Not before networks are trained alone: their search has begun, or is of older code.
        if extent := setup.extent or ("" if setup.testing else _extent(spec)):
            facts[EXTENT] = extent
        folder = setup.supernet_on(data.digest)
        training = train_supernet(spec, data, folder, device, limit=setup.training_seconds)
        with closing(training):
            for progress in training:
                yield replace(progress, facts=facts)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, EtnasError) or not _is_memory(error):
            raise
        size = batch_key(catalog.TASKS.load(spec.task.name).unit)
        raise MachineUnavailable(
            "this worker has not enough memory to train the supernet; a smaller "
            f"supernet.{size} or a smaller space may help ({headline(error)})"
        ) from error


def _check_batches(spec: SearchSpec, data: Data) -> None:
    """Raises `SpecError` where a recipe's batches are too small for these data."""
    for where, recipe in (("supernet", spec.supernet), ("standalone", spec.standalone)):
        try:
            data.training_batch(0, recipe, spec.seed)
        except SpecError as error:
            raise SpecError(f"{where}.{error}") from error


def _try_measured_costs(spec: SearchSpec) -> None:
    """Measures the largest network, untrained: a workload that cannot be had is found at once."""
    measured(spec.measured_costs, _untrained(spec, spec.search_space.extreme("largest")))


def _untrained(spec: SearchSpec, architecture: Architecture) -> Candidate:
    shape = spec.task_shape
    network = partial(StandaloneNetwork, architecture, shape)
    return Candidate(architecture, shape, spec.latency, network)


def _extent(spec: SearchSpec) -> str:
    """What hypervolumes over time are normalised in, as the fact's text; empty where unknown.

    A cost that is measured of the space's extremes is the median of as many turns as are asked for:
    one cold taking would stretch the box for good.
    """
    names = [name for name in spec.measured_costs if name in spec.objectives]
    ends = extremes(spec.search_space) if names else []
    short = spec.model_copy(update={"latency": turn_workload(spec)})
    turns = [
        [measured(names, _untrained(short, each)) for each in ends]
        for _ in range(spec.prediction.rounds)
    ]
    values = {
        name: [
            statistics.median(each[name].value for each in taken)
            for taken in zip(*turns, strict=True)
        ]
        for name in names
    }
    fixed = fixed_extent(spec, spans(spec, values))
    return "" if fixed is None else fixed.to_text()


def _is_memory(error: Exception) -> bool:
    # Torch has a class of its own only for a GPU's memory.
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error)


def beyond_constraints(spec: SearchSpec, costs: Mapping[str, float]) -> Measurement | None:
    """The measurement where known costs break a constraint; None where they keep them all.

    Those of measured costs are predicted.
    """
    broken = [
        f"{constraint}{' (predicted)' * (constraint.metric in spec.measured_costs)}"
        for constraint in spec.parsed_constraints
        if constraint.metric in costs and constraint.violation(costs) > 0
    ]
    if not broken:
        return None
    reason = f"constraint not met: {'; '.join(broken)}"
    return replace(Measurement.of(costs), state="infeasible", reason=reason)


class Evaluator:
    """Measures proposals; the supernet, the data and the reference scores are loaded once."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.spec = setup.request()
        self.device = device_of(self.spec)
        torch.set_num_threads(self.spec.executor.cores)
        self.data = setup.data(self.spec)
        self.task: Task = catalog.TASKS.load(self.spec.task.name)
        self.exact = exact_costs(self.spec.task_shape, self.spec.latency)
        self.known = known_costs(self.spec, from_text(self.spec, setup.forecasts))
        self.measured = json.loads(setup.measured or "{}")

    def __call__(self, proposal: Proposal) -> Measurement:
        """What goes wrong becomes state and reason; raises `DataChanged`: others would meet it."""
        start = time.perf_counter()
        try:
            measurement = self._measure(proposal)
        except DataChanged:
            raise
        except (TrainingDiverged, FloatingPointError) as error:
            measurement = Measurement({}, "infeasible", str(error))
        except Exception as error:  # noqa: BLE001 - a worker outlives any one architecture
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            measurement = Measurement.failed(f"{type(error).__name__} at {place}: {error}")
        return replace(measurement, seconds=time.perf_counter() - start)

    def _measure(self, proposal: Proposal) -> Measurement:
        architecture = proposal.architecture
        if proposal.role in SLICES:
            return self._scored(architecture)
        metrics = dict(self.exact(architecture))
        if proposal.role == "fidelity":
            found = self._trained_shortly(architecture)
            origins = {"fidelity": machine(self.device)}
            return replace(Measurement.of(metrics | found), provenance=origins)
        metrics |= self.measured.get(architecture.id, {})
        if proposal.role == "rung":
            found, origins, network = self._climbed(proposal)
        elif proposal.role == "confirmed":
            found, origins, network = self._trained(proposal)
        else:
            # Timed for a turn, with the weights that it has in the supernet.
            return self._measured(metrics, {}, architecture, turn_workload(self.spec))
        return self._measured(metrics | found, origins, architecture, self.spec.latency, network)

    def _scored(self, architecture: Architecture) -> Measurement:
        """A slice's scores and costs: measured ones as far as they are not predicted."""
        metrics = dict(self.known(architecture))
        refused = beyond_constraints(self.spec, metrics)
        if refused is not None:
            return refused
        found, origins = self._sliced(architecture), {"evaluation": machine(self.device)}
        return self._measured(metrics | found, origins, architecture, self.spec.latency)

    def _measured(
        self,
        metrics: dict[str, float],
        origins: dict[str, str],
        architecture: Architecture,
        workload: Workload,
        network: Network | None = None,
    ) -> Measurement:
        """These metrics, with the costs that they lack measured here: of a slice, or a network."""
        network = network or partial(self.supernet.extract, architecture)
        names = [name for name in self.spec.measured_costs if name not in metrics]
        candidate = Candidate(architecture, self.spec.task_shape, workload, network)
        figures = measured(names, candidate)
        for name, figure in figures.items():
            metrics |= {**figure.details, name: figure.value}
        origins |= {name: figure.machine for name, figure in figures.items() if figure.machine}
        return replace(Measurement.of(metrics), provenance=origins)

    # -- slices ----------------------------------------------------------------------------------

    @cached_property
    def supernet(self) -> Supernet:
        """The trained supernet, in evaluation mode."""
        folder = self.setup.supernet_on(self.data.digest)
        return load_supernet(self.spec, folder, self.device, self.data)

    @cached_property
    def _placed(self) -> Data:
        """The data beside the networks, brought there once for all of them."""
        return self.data.to(self.device)

    def _score(self, forward: Callable[..., Tensor], chosen: Examples) -> Scores:
        return score(self.task, forward, self._placed, chosen, self.spec.evaluation)

    def _slice_scores(self, architecture: Architecture) -> Scores:
        chosen = self._placed.validation(self.spec.evaluation.examples)
        return self._score(lambda inputs: self.supernet(inputs, architecture), chosen)

    @cached_property
    def _reference(self) -> Scores:
        """Those of the space's largest network: what paired differences are taken to."""
        return self._slice_scores(self.spec.search_space.extreme("largest"))

    def _sliced(self, architecture: Architecture) -> dict[str, float]:
        scores = self._slice_scores(architecture)
        paired = paired_error(scores, self._reference)
        return {**self.task.summary(scores), f"{self.task.primary}_paired_se": paired}

    # -- stand-alone -----------------------------------------------------------------------------

    def _climbed(self, proposal: Proposal) -> tuple[dict[str, float], dict[str, str], Network]:
        """Metrics, on validation examples alone, of the network as it stands at a rung."""
        architecture, rung = proposal.architecture, Rung.of(proposal)
        inherited = self.supernet.extract(architecture) if rung.start == "inherited" else None
        network = self._alone(architecture, halving.SEED, until=rung.steps, inherited=inherited)
        found = self.task.summary(self._score(network(), self._placed.validation()))
        return found, {"rung": machine(self.device)}, network

    def _trained(self, proposal: Proposal) -> tuple[dict[str, float], dict[str, str], Network]:
        """Metrics of the network trained to the end, and how those of its texts were computed."""
        seed = Standing.of(proposal).seed
        assert seed is not None, "confirmed networks are proposed with one"
        loaded = self._alone(proposal.architecture, seed)
        network = loaded()
        found = self.task.summary(self._score(network, self._placed.validation()))
        chosen = self.setup.test(self.spec, self._placed)
        tested = self.task.summary(self._score(network, chosen))
        judged, signatures = self._judged(network, chosen) if self.task.generated else ({}, {})
        tested |= judged
        found |= {f"test_{name}": value for name, value in tested.items()}
        origins = {f"test_{name}": text for name, text in signatures.items()}
        return found, {"confirmation": machine(self.device), **origins}, loaded

    def _alone(
        self,
        architecture: Architecture,
        seed: int,
        *,
        spec: SearchSpec | None = None,
        folder: Path | None = None,
        until: int | None = None,
        inherited: StandaloneNetwork | None = None,
    ) -> Network:
        """Trains to the end, or `until` a step; gives what loads the network as it is then.

        By the request's stand-alone recipe and into its folder, or those of another.
        """
        spec, folder = spec or self.spec, folder or self.setup.standalone
        given: dict[str, Any] = {"seed": seed, "folder": folder, "device": self.device}
        for _ in train_standalone(
            architecture, spec, self._placed, until=until, inherited=inherited, **given
        ):
            pass
        begun = inherited is not None
        return partial(load_standalone, architecture, spec, at=until, inherited=begun, **given)

    def _trained_shortly(self, architecture: Architecture) -> dict[str, float]:
        """Metrics of the network trained alone by the short recipe, on what slices are scored on.

        The test examples are left alone.
        """
        short, folder = fidelity.short_recipe(self.spec), self.setup.standalone / "fidelity"
        network = self._alone(architecture, fidelity.SEED, spec=short, folder=folder)
        chosen = self._placed.validation(self.spec.evaluation.examples)
        return self.task.summary(self._score(network(), chosen))

    def _judged(
        self, network: StandaloneNetwork, chosen: Any
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Metrics of what the network writes for these examples, and how they were computed."""
        data, evaluation = cast(TranslationData, self._placed), self.spec.evaluation
        written = translated(network, data, chosen, evaluation)
        values, signatures = self.task.judged(written, data.references(chosen))
        how = f"beam {evaluation.beam}, length penalty {evaluation.length_penalty:g}"
        return values, {name: f"{how}, {text}" for name, text in signatures.items()}
