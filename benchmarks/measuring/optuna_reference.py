"""What does plain Optuna reach? Its NSGA-II on a table of scores, as a user of Optuna writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import optuna

from nas.search.problem import Problem
from nas.search.trial import Measurement, Trial
from nas.space.architecture import Architecture
from nas.strategy.optuna import quiet


def run(
    problem: Problem,
    lookup: Callable[[Architecture], Mapping[str, float]],
    seed: int,
    evaluations: int = 500,
    population: int = 50,
) -> list[Trial]:
    """The trials of a live study, asked and told one by one; `lookup` gives metrics.

    Every gene is a category by its path. All of them are suggested each time, so that the sampler
    sees one static space, and those of absent layers are ignored. An architecture may come again:
    it counts as another evaluation, as it does in Optuna.
    """
    space, trials = problem.space, list[Trial]()
    with quiet():
        study = optuna.create_study(
            directions=["minimize"] * len(problem.objectives),
            sampler=optuna.samplers.NSGAIISampler(population_size=population, seed=seed),
        )
    for index in range(evaluations):
        asked = study.ask()
        genome = [
            asked.suggest_categorical(gene.path, range(len(gene.choices))) for gene in space.genes
        ]
        active = set(space.active(genome))
        architecture = space.build(tuple(g if i in active else -1 for i, g in enumerate(genome)))
        metrics = lookup(architecture)
        for constraint in problem.constraints:
            asked.set_constraint(str(constraint), constraint.excess(metrics))
        study.tell(asked, [objective.loss(metrics) for objective in problem.objectives])
        trials.append(Trial("search", index, architecture, Measurement.of(metrics)))
    return trials
