"""What has to be solved: a space, objectives, constraints and exact costs, for a strategy."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.search.objective import Constraint, Objective
from nas.space.architecture import Architecture
from nas.space.population import Codes
from nas.space.search_space import SearchSpace

ExactCost = Callable[[Architecture], Mapping[str, float]]
ExactCosts = Callable[[SearchSpace, Codes, Collection[str]], Mapping[str, NDArray[np.float64]]]
"""Of genomes (n, genes) of a space, the values (n,) of those of the named costs that are exact."""


@dataclass(frozen=True)
class Problem:
    """A search's question. `cost` gives an architecture's exact or predicted costs by metric name.

    `cost` is a pure function that gives the same names for every architecture; `costs` gives the
    same figures for many at once, much faster, and may be left out.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    cost: ExactCost
    costs: ExactCosts | None = None

    @cached_property
    def analytic_constraints(self) -> tuple[Constraint, ...]:
        """The constraints that are known before anything runs: those on a metric of `cost`."""
        if not self.constraints:
            return ()
        known = self.cost(self.space.extreme("smallest"))
        return tuple(each for each in self.constraints if each.metric in known)

    @cached_property
    def wanted(self) -> tuple[str, ...]:
        """Names of the metrics that objectives and constraints are about, each once."""
        objectives = (objective.metric.name for objective in self.objectives)
        return tuple(dict.fromkeys((*objectives, *(each.metric for each in self.constraints))))

    def costs_of(
        self, codes: Codes, names: Collection[str] | None = None
    ) -> Mapping[str, NDArray[np.float64]]:
        """Those of the metrics, all `wanted` ones, that are exact, (n,) by name, of genomes."""
        names = self.wanted if names is None else names
        if self.costs is not None:
            return self.costs(self.space, codes, names)
        known = self.cost(self.space.extreme("smallest"))
        found = [self.cost(self.space.build(tuple(row))) for row in codes.tolist()]
        names = [name for name in names if name in known]
        return {name: np.array([each[name] for each in found], dtype=float) for name in names}

    def analytic_violations(self, costs: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """What `analytic_violation` gives (n,), from what `costs_of` gave."""
        total = np.zeros(len(next(iter(costs.values()), ())))
        for constraint in self.analytic_constraints:
            total += constraint.violations(costs[constraint.metric])
        return total

    def violation(self, metrics: Mapping[str, float]) -> float:
        """The sum of all constraints' relative violations; infinite where a metric is missing."""
        if any(constraint.metric not in metrics for constraint in self.constraints):
            return math.inf
        return math.fsum(constraint.violation(metrics) for constraint in self.constraints)

    def analytic_violation(self, architecture: Architecture) -> float:
        """The sum of the analytic constraints' relative violations; 0 where all are kept."""
        if not self.analytic_constraints:
            return 0.0
        costs = self.cost(architecture)
        return math.fsum(constraint.violation(costs) for constraint in self.analytic_constraints)
