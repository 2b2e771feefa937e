"""What has to be solved: a space, objectives, constraints and exact costs, for a strategy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from nas.search.objective import Constraint, Objective
from nas.space.architecture import Architecture
from nas.space.search_space import SearchSpace

ExactCost = Callable[[Architecture], Mapping[str, float]]


@dataclass(frozen=True)
class Problem:
    """A search's question. `cost` gives an architecture's exact analytic costs by metric name.

    `cost` is a pure function that gives the same names for every architecture.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    cost: ExactCost

    @cached_property
    def analytic_constraints(self) -> tuple[Constraint, ...]:
        """The constraints that are known before anything runs: those on a metric of `cost`."""
        if not self.constraints:
            return ()
        known = self.cost(self.space.extreme("smallest"))
        return tuple(each for each in self.constraints if each.metric in known)

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
