"""How does one network learn for a whole space? By its subnets, until their ranking is stable."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nas import catalog
from nas.cost.analytic import PARAMS
from nas.model.supernet import Supernet
from nas.search.rank_correlation import kendall_tau
from nas.search.recipe import Stability, SupernetRecipe
from nas.search.spec import SearchSpec
from nas.space.architecture import Architecture
from nas.task.task import Batch, Data
from nas.train import checkpoint, distillation
from nas.train.loop import Forward, Progress, Run, train
from nas.train.sampling import Schedule
from nas.train.scoring import score


def train_supernet(
    spec: SearchSpec,
    data: Data,
    folder: Path,
    device: torch.device | str,
    *,
    limit: float | None = None,
) -> Generator[Progress]:
    """Trains the spec's supernet into `folder`, or goes on there; finished ones are left as found.

    After `limit` seconds (None: none) the training ends where it stands, and counts as finished.

    Raises:
        CheckpointError: the folder holds another spec's supernet, or cannot be read or written.
        TrainingDiverged: a loss is not finite.
    """
    recipe, data = spec.supernet, data.to(device)
    supernet = _empty(spec)
    run = Run(
        network=supernet,
        losses=Subnets(Schedule(spec.search_space, recipe, spec.seed), recipe),
        data=data,
        recipe=recipe,
        seed=spec.seed,
        file=supernet_file(folder),
        identity={**_identity(spec), "data digest": data.digest},
        params=PARAMS.bound(spec.search_space, spec.task_shape, "largest"),
        watch=RankStability(spec, data) if recipe.stability else None,
        limit=limit,
        about={"skipped": dict(data.skipped)},
    )
    yield from train(run, device)


def load_supernet(
    spec: SearchSpec, folder: Path, device: torch.device | str, data: Data | None = None
) -> Supernet:
    """The finished supernet in eval mode.

    Raises `CheckpointError` where there is none, or one that learnt from other data than `data`.
    """
    supernet = _empty(spec)
    learnt_from = {"data digest": data.digest} if data is not None else {}
    checkpoint.read_weights(supernet_file(folder), _identity(spec) | learnt_from, supernet)
    return supernet.to(device).eval()


def supernet_file(folder: Path) -> Path:
    """Where a folder keeps the supernet."""
    return folder / "supernet.safetensors"


def _empty(spec: SearchSpec) -> Supernet:
    return Supernet(spec.search_space, spec.task_shape, spec.supernet.sharing, spec.seed)


def _identity(spec: SearchSpec) -> dict[str, str]:
    return {"supernet digest": spec.supernet_digest}


class Subnets:
    """The losses of a step's nets: cross-entropy, and for the others of a sandwich distillation."""

    def __init__(self, schedule: Schedule, recipe: SupernetRecipe) -> None:
        self.schedule, self.recipe = schedule, recipe
        self._distil_from = distillation.first_step(recipe)

    def __call__(self, step: int, forward: Forward, batch: Batch) -> Iterator[Tensor]:
        """One loss a net, all on the same examples."""
        teacher: Tensor | None = None
        smoothing = self.recipe.label_smoothing
        for net in self.schedule.at(step):
            scores = forward(batch.inputs, net.architecture)
            if teacher is None:
                yield functional.cross_entropy(scores, batch.labels, label_smoothing=smoothing)
            else:
                yield distillation.distillation(scores, teacher)
            if net.role == "largest" and step >= self._distil_from:
                teacher = scores.detach()


# -- stopping --------------------------------------------------------------------------------------


class RankStability:
    """Ends the training when a fixed list of random subnets keeps its order.

    They are scored every `every` steps on the search's validation examples; the reason to stop is
    `patience` consecutive scorings whose Kendall tau with the scoring before is >= `threshold`.
    """

    def __init__(self, spec: SearchSpec, data: Data) -> None:
        assert spec.supernet.stability is not None
        self.stability: Stability = spec.supernet.stability
        rng = random.Random(f"{spec.seed} rank stability")
        space = spec.search_space
        self.subnets = [space.sample(rng) for _ in range(self.stability.subnets)]
        self._task, self._data = catalog.TASKS.load(spec.task.name), data
        self._evaluation = spec.evaluation

    def due(self, step: int) -> bool:
        """Every `every` steps."""
        return step % self.stability.every == 0

    def look(
        self, forward: Forward, history: tuple[Mapping[str, Any], ...]
    ) -> tuple[Mapping[str, Any], str]:
        """{"losses": by subnet, "tau": with the scoring before or None}, and why to stop."""
        chosen = self._data.validation(self._evaluation.examples)
        losses = []
        for subnet in self.subnets:
            call = partial(_call, forward, subnet)
            scores = score(self._task, call, self._data, chosen, self._evaluation)
            losses.append(scores.mean_loss)
        tau = kendall_tau(history[-1]["losses"], losses) if history else None
        taus = [*(each["tau"] for each in history), tau]
        return {"losses": losses, "tau": tau}, self._reason(taus)

    def _reason(self, taus: Sequence[float | None]) -> str:
        latest = taus[-self.stability.patience :]
        stable = [tau for tau in latest if tau is not None and tau >= self.stability.threshold]
        if len(stable) < self.stability.patience:
            return ""
        shown = ", ".join(f"{tau:.3f}" for tau in stable)
        return f"the ranking is stable: Kendall tau {shown} >= {self.stability.threshold:g}"


def _call(forward: Forward, architecture: Architecture, inputs: Any) -> Tensor:
    return forward(inputs, architecture)
