"""What do the trials teach of architectures that nobody has scored, and which of them pay?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nas.search.pareto import Losses, losses_of, non_dominated, reference_point
from nas.search.problem import Problem
from nas.search.trial import Trial
from nas.space.features import Features
from nas.space.population import Codes
from nas.strategy import improvement
from nas.strategy.ranker import Ranker

# With fewer scored trials than this nothing is learnt from them.
FEWEST = 8
# Members are compared anew whenever there are half as many trials more.
GROWTH = 1.5
# A linear ranker looks through all candidates, the chosen one through the best of them.
QUICK = "linear_losses"
FINALISTS = 10_000

Rankers = Mapping[str, Ranker]
Costs = Mapping[str, NDArray[np.float64]]
"""The exact ones of the wanted metrics, (n,) by name."""


@dataclass(frozen=True)
class Surrogate:
    """A ranker for each wanted metric that is not exact, and the front that is to be widened.

    A constraint's metric that is no exact cost is learnt as an objective is.
    """

    problem: Problem
    rankers: Rankers
    quick: Rankers
    front: Losses
    """(k, objectives), of the trials that keep all constraints."""
    reference: tuple[float, ...]

    @classmethod
    def of(
        cls, problem: Problem, seed: int, trials: Sequence[Trial], codes: Codes, member: str | None
    ) -> Surrogate:
        """Fitted to scored trials, at least `FEWEST`, by their genomes; a `member` may be given."""
        features = Features.of_space(problem.space)
        exact = problem.costs_of(codes)
        # The baseline of every ranker; 0 where no cost tells it.
        params = problem.costs_of(codes, ("params",)).get("params", np.zeros(len(codes)))
        rankers, quick = {}, {}
        for name in problem.wanted:
            if name not in exact:
                values = np.array([trial.metrics[name] for trial in trials], dtype=np.float64)
                samples = _Samples(features, codes, values * _sign(problem, name), params, seed)
                rankers[name] = samples.ranker(member)
                linear = rankers[name].member == QUICK
                quick[name] = rankers[name] if linear else samples.ranker(QUICK)
        kept = [trial for trial in trials if problem.violation(trial.metrics) == 0]
        front = losses_of(kept, problem.objectives)
        front = front[non_dominated(front)] if len(front) else front
        return cls(problem, rankers, quick, front, reference_point(trials, problem.objectives))

    @property
    def trusted(self) -> bool:
        """Whether none is shown to order no better than a count of parameters does."""
        return all(each.trusted is not False for each in self.rankers.values())

    @property
    def told(self) -> list[str]:
        """Each ranker in words, with its cross-validated tau and that of parameters alone."""
        return [f"a ranker of {name} ({_told(each)})" for name, each in self.rankers.items()]

    def batch(self, codes: Codes, count: int, optimism: float) -> list[int]:
        """Rows of up to `count` genomes (n, genes) that together widen the front the most."""
        rows = np.arange(len(codes))
        costs = self.problem.costs_of(codes)
        if len(codes) > FINALISTS and (optimism or self.quick != self.rankers):
            losses, violations = self._predicted(codes, costs, self.quick, 0.0)
            rows = np.flatnonzero(violations <= np.partition(violations, FINALISTS)[FINALISTS])
            leading = improvement.leading(losses[rows], self.front, self.reference, FINALISTS)
            rows = rows[leading]
        costs = {name: each[rows] for name, each in costs.items()}
        losses, violations = self._predicted(codes[rows], costs, self.rankers, optimism)
        # Predictions hardly ever tie: as many as are asked for must be left to choose from.
        if len(rows) > count:
            least = violations <= np.partition(violations, count - 1)[count - 1]
            rows, losses = rows[least], losses[least]
        found = improvement.batch(losses, self.front, self.reference, count)
        return [int(rows[row]) for row in found]

    def _predicted(
        self, codes: Codes, costs: Costs, rankers: Rankers, optimism: float
    ) -> tuple[Losses, NDArray[np.float64]]:
        """Losses (n, objectives) of genomes, and by how much (n,) they break learnt constraints."""
        values = dict(costs)
        for name, ranker in rankers.items():
            low = ranker.predict(codes, optimism=optimism)
            values[name] = low * _sign(self.problem, name)
        losses = np.empty((len(codes), len(self.problem.objectives)))
        for column, objective in enumerate(self.problem.objectives):
            losses[:, column] = values[objective.metric.name] * objective.sign
        violations = np.zeros(len(codes))
        for constraint in self.problem.constraints:
            if constraint.metric in rankers:
                violations += constraint.violations(values[constraint.metric])
        return losses, violations


def _told(ranker: Ranker) -> str:
    if ranker.trusted is None:
        return f"{ranker.member}, as asked for"
    if ranker.tau is None:
        return f"{ranker.member}, without a Kendall's tau"
    alone = ranker.baseline_tau
    beside = "" if alone is None else f", number of parameters alone {alone:+.2f}"
    validated = f"by cross-validation on {ranker.validated_on} networks"
    return f"{ranker.member}, Kendall's tau {validated} {ranker.tau:+.2f}{beside}"


@dataclass(frozen=True)
class _Samples:
    """All trials as a ranker takes them; `losses` (n,) are smaller for the better."""

    features: Features
    codes: Codes
    losses: NDArray[np.float64]
    params: NDArray[np.float64]
    seed: int

    def ranker(self, member: str | None) -> Ranker:
        """One of all trials, its member chosen by the first of them on a fixed schedule."""
        size = FEWEST
        while round(size * GROWTH) <= len(self.losses):
            size = round(size * GROWTH)
        arrays = (each[:size].tobytes() for each in (self.codes, self.losses, self.params))
        chosen = chosen_ranker(self.features, *arrays, self.seed, member)
        return chosen if size == len(self.losses) else chosen.refit(self.codes, self.losses)


# Pure, so that remembering it changes nothing but the time it takes.
@lru_cache(maxsize=64)
def chosen_ranker(
    features: Features, codes: bytes, losses: bytes, params: bytes, seed: int, member: str | None
) -> Ranker:
    """A ranker of arrays in bytes; without `member` it is chosen by cross-validation."""
    values, counts = np.frombuffer(losses), np.frombuffer(params)
    rows = np.frombuffer(codes, dtype=np.int16).reshape(len(values), -1)
    return Ranker.fit(features, rows, values, seed=seed, member=member, baseline=counts)


def _sign(problem: Problem, name: str) -> float:
    """+1 where smaller values of a metric are better, or what a constraint asks for; else -1."""
    for objective in problem.objectives:
        if objective.metric.name == name:
            return objective.sign
    asked = next(each for each in problem.constraints if each.metric == name)
    return 1.0 if asked.operator == "<=" else -1.0
