"""What is a cost model? A metric, and how its figure comes about for an architecture."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from nas import catalog
from nas.errors import MachineUnavailable, headline
from nas.search.objective import Metric
from nas.search.problem import ExactCost, ExactCosts
from nas.search.workload import Workload
from nas.space.architecture import Architecture
from nas.space.gene import End
from nas.space.population import Codes
from nas.space.search_space import SearchSpace
from nas.space.task_shape import TaskShape, can_tell

if TYPE_CHECKING:
    from torch import nn

STANDARD = Workload()


def no_network() -> nn.Module:
    """In place of a network where only exact costs are asked for."""
    raise TypeError("an analytic cost is a function of the architecture: there is no network yet")


@dataclass(frozen=True)
class Candidate:
    """What a cost is of: an architecture on a task's shapes, under a workload.

    `network` makes the stand-alone network anew at each call, with the weights of its slice; it is
    there for measured costs only, and what they do not ask for is never made.
    """

    architecture: Architecture
    shape: TaskShape
    workload: Workload = STANDARD
    network: Callable[[], nn.Module] = no_network


@dataclass(frozen=True)
class Figure:
    """A cost's value in its metric's unit, and where it comes from.

    `details` are further metrics that explain it (a spread), by names that nothing else has.
    `machine` says in one line on what it was taken; it is empty for what is calculated.
    """

    value: float
    details: Mapping[str, float] = field(default_factory=dict)
    machine: str = ""


class CostModel(Protocol):
    """One entry of the catalog's costs, under its metric's name; loads without torch.

    Where `metric.analytic`, the figure is a pure function of all but the network: it is taken for
    every trial and known to the strategies. Otherwise it is measured where a request's objective
    or constraint wants it, on the machine that the workload means: of some networks from which
    the others are predicted, and of the front.
    """

    @property
    def metric(self) -> Metric:
        """Name, direction and unit."""

    def figure(self, candidate: Candidate, /) -> Figure:
        """The candidate's figure; what is raised makes its trial a failed one."""

    def figures(
        self, space: SearchSpace, shape: TaskShape, workload: Workload, codes: Codes, /
    ) -> NDArray[np.float64]:
        """An analytic cost's values (n,) for genomes (n, genes): one by one, where not overridden.

        Strategies that look through 100,000 candidates are as fast as this is.
        """
        found = (space.build(tuple(row)) for row in codes.tolist())
        values = [self.figure(Candidate(each, shape, workload)).value for each in found]
        return np.array(values, dtype=np.float64)

    def bound(self, space: SearchSpace, shape: TaskShape, end: End, /) -> float | None:  # noqa: ARG002
        """The exact smallest or largest value in a space; None where that is not known.

        With it, a constraint that no architecture meets is refused when the search is submitted,
        and the hypervolumes of a search's history reach to it.
        """
        return None


def exact_models(shape: TaskShape) -> dict[str, CostModel]:
    """The analytic cost models of the catalog by name, as far as they tell of such networks."""
    names = (name for name in catalog.COSTS.names() if can_tell(shape, name))
    models: dict[str, CostModel] = {name: catalog.COSTS.load(name) for name in names}
    return {name: model for name, model in models.items() if model.metric.analytic}


def measured(names: Iterable[str], candidate: Candidate) -> dict[str, Figure]:
    """The candidate's figures by the costs' names; raises `MachineUnavailable` for one not had.

    What a workload cannot be measured for is torch's to say, or a plug-in's, each in its own way.
    """
    found = {}
    for name in names:
        model: CostModel = catalog.COSTS.load(name)
        try:
            found[name] = model.figure(candidate)
        except ModuleNotFoundError:
            # An engine that is not installed is no fault of the machine's.
            raise
        except Exception as error:
            raise MachineUnavailable(
                f"{name} cannot be measured here under {candidate.workload}: "
                f"{type(error).__name__}: {headline(error)}"
            ) from error
    return found


def exact_costs_of_many(shape: TaskShape, workload: Workload = STANDARD) -> ExactCosts:
    """The same for many genomes of a space, of the costs that are named."""

    def costs(
        space: SearchSpace, codes: Codes, names: Collection[str]
    ) -> dict[str, NDArray[np.float64]]:
        return {
            name: model.figures(space, shape, workload, codes)
            for name, model in exact_models(shape).items()
            if name in names
        }

    return costs


def exact_costs(shape: TaskShape, workload: Workload = STANDARD) -> ExactCost:
    """All analytic costs of an architecture by name, as the function that strategies are given."""
    models = exact_models(shape)

    def cost(architecture: Architecture) -> dict[str, float]:
        candidate = Candidate(architecture, shape, workload)
        return {name: model.figure(candidate).value for name, model in models.items()}

    return cost
