"""What to try next as Optuna's samplers see it: NSGA-II, NSGA-III, TPE or a Gaussian process."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from nas.errors import NothingFeasible
from nas.search.problem import Problem
from nas.search.trial import Trial
from nas.space.architecture import Architecture
from nas.space.search_space import SearchSpace
from nas.strategy.random import fresh
from nas.strategy.repair import repair
from nas.strategy.strategy import by_index, generator

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

# Samples in a row that may turn out to be known before random ones take the rest of the batch.
TRIES = 20
# Each costs a Gaussian process as much as an evaluation may.
TRIES_OF_GP = 3
# Optuna's samplers take seeds below.
SEEDS = 2**32


class OptunaOptions(BaseModel):
    """Options of `Optuna`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    sampler: Literal["nsgaii", "nsgaiii", "tpe", "gp", "random"] = "nsgaii"
    """Which of Optuna's; `nsgaiii` is experimental there, `tpe` is the multivariate one."""
    population: Annotated[int, Field(ge=2, le=10_000)] = 50
    """Scored trials of a generation; for `nsgaii` and `nsgaiii`."""
    startup: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Scored trials before the first model; for `tpe` and `gp`."""


class Optuna:
    """Optuna's samplers, asked anew for every batch.

    Each call fills a study in Optuna's own in-memory storage with all earlier trials and asks a
    sampler that is seeded by the search's seed and the number of trials. This storage is kept, and
    none on disk, because the search's record already is one: a second could disagree with it after
    a kill (asked and never told, told and never committed), and what a sampler answers would depend
    on it. What a live study would hold beside parameters and values is put in too: a genetic
    sampler's generations and parents, without which replayed trials would stay generation zero for
    ever and every proposal random, and how constraints on measured metrics are kept.

    What Optuna samples becomes an architecture by `Parameters` and keeps the analytic constraints
    by `nas.strategy.repair.repair`. Known ones are sampled again; after `TRIES` in a row random
    architectures take the places that are left. Failed and infeasible trials are told as failed, so
    they are never parents.

    `gp` loads torch and takes seconds a proposal, more with each trial, and all of them again when
    a stopped search goes on: it is for searches of at most a few hundred trials.
    """

    options_model: ClassVar[type[BaseModel]] = OptunaOptions

    def __init__(self, options: OptunaOptions | None = None) -> None:
        """Raises `ModuleNotFoundError` where Optuna is not installed, so before any proposal."""
        import optuna  # noqa: F401

        self.options = options or OptunaOptions()

    def propose(
        self, problem: Problem, seed: int, trials: Sequence[Trial], count: int
    ) -> list[Architecture]:
        """The next `count` architectures; see `nas.strategy.strategy.Strategy.propose`."""
        rng = generator("optuna", seed, trials)
        known = {trial.architecture for trial in trials}
        proposed: list[Architecture] = []
        if count > 0 and problem.space.size > 1:
            with quiet():
                sampler = self.sampler(rng.randrange(SEEDS))
                study = self.study(problem, seed, trials, sampler)
                proposed = self._asked(study, problem, known, rng, count)
        return proposed + fresh(problem, {*known, *proposed}, rng, count - len(proposed))

    def study(
        self, problem: Problem, seed: int, trials: Sequence[Trial], sampler: BaseSampler
    ) -> Study:
        """A study that holds a search's trials as if they had been asked and told one by one."""
        from optuna import create_study
        from optuna.samplers import BaseGASampler

        ordered = by_index(trials)
        attributes: list[dict[str, int]] = [{} for _ in ordered]
        born = 0
        if isinstance(sampler, BaseGASampler):
            key = sampler._get_generation_key()
            *generations, born = generations_of(ordered, self.options.population)
            attributes = [{key: generation} for generation in generations]
        study = create_study(directions=["minimize"] * len(problem.objectives), sampler=sampler)
        study.add_trials(told(ordered, problem, attributes))
        for generation in range(1, born + 1):
            # NSGA-III draws who survives: the same ones whenever a generation is looked at.
            drawn = random.Random(f"optuna:{seed}:generation {generation}").randrange(SEEDS)
            selection = self.sampler(drawn)
            assert isinstance(selection, BaseGASampler)
            selection.get_parent_population(study, generation)
        return study

    def sampler(self, seed: int) -> BaseSampler:
        """A new sampler of the options' kind."""
        from optuna import samplers
        from optuna.exceptions import ExperimentalWarning

        population, startup = self.options.population, self.options.startup
        match self.options.sampler:
            case "nsgaii":
                return samplers.NSGAIISampler(population_size=population, seed=seed)
            case "nsgaiii":
                with warnings.catch_warnings():
                    # That it is experimental stands in the options.
                    warnings.simplefilter("ignore", ExperimentalWarning)
                    return samplers.NSGAIIISampler(population_size=population, seed=seed)
            case "tpe":
                # One by one, Optuna's default, each gene would sort all trials anew.
                return samplers.TPESampler(n_startup_trials=startup, multivariate=True, seed=seed)
            case "gp":
                return samplers.GPSampler(
                    n_startup_trials=startup, warn_independent_sampling=False, seed=seed
                )
            case "random":
                return samplers.RandomSampler(seed)

    def _asked(
        self,
        study: Study,
        problem: Problem,
        known: set[Architecture],
        rng: random.Random,
        count: int,
    ) -> list[Architecture]:
        """Up to `count` samples as feasible architectures, all different and none `known`."""
        from optuna.samplers import BaseGASampler
        from optuna.trial import TrialState, create_trial

        parameters = Parameters(problem.space)

        def ask() -> Architecture:
            # The small steps of a Gaussian process in several threads take many times as long.
            with one_thread() if self.options.sampler == "gp" else nullcontext():
                trial = study.ask(parameters.distributions)
            study.tell(trial, state=TrialState.FAIL)
            return parameters.architecture(trial.params)

        if isinstance(study.sampler, BaseGASampler):
            # It seeds two generators alike, of crossovers and of mutated values: a child that is
            # thrown away sets them apart.
            ask()
        found: dict[Architecture, None] = {}
        tries = most = TRIES_OF_GP if self.options.sampler == "gp" else TRIES
        while len(found) < count and tries:
            try:
                architecture = repair(ask(), problem, rng)
            except NothingFeasible:
                # A repair that fails has cost as much as many samples.
                tries //= 2
                continue
            tries -= 1
            if architecture not in known and architecture not in found:
                tries = most
                found[architecture] = None
                # What waits for its evaluation keeps TPE and GP away from its likes.
                waiting = create_trial(state=TrialState.RUNNING)
                study.add_trial(parameters.given_to(waiting, architecture))
        return list(found)


def generations_of(trials: Sequence[Trial], population: int) -> list[int]:
    """The generation of each trial, and last that of the next one, as a live study numbers them.

    A generation ends with its `population`-th scored trial, in the middle of a batch too; trials
    that are not scored belong to the generation of those around them.
    """
    found, generation, scored = [], 0, 0
    for trial in trials:
        found.append(generation)
        scored += trial.succeeded
        if scored == population:
            generation, scored = generation + 1, 0
    return [*found, generation]


def told(
    trials: Sequence[Trial], problem: Problem, attributes: Sequence[Mapping[str, int]]
) -> Iterator[FrozenTrial]:
    """The trials as Optuna keeps them: losses, and constraints on measured metrics as excess.

    `attributes` are a sampler's own of each trial. What is not scored has failed.
    """
    from optuna.trial import TrialState, create_trial

    parameters = Parameters(problem.space)
    measured = [each for each in problem.constraints if each not in problem.analytic_constraints]
    for trial, own in zip(trials, attributes, strict=True):
        if not trial.succeeded:
            yield create_trial(state=TrialState.FAIL, system_attrs=dict(own))
            continue
        held = create_trial(
            values=[objective.loss(trial.metrics) for objective in problem.objectives],
            system_attrs=dict(own),
            constraints={
                str(each): each.excess(trial.metrics) if each.metric in trial.metrics else math.inf
                for each in measured
            },
        )
        yield parameters.given_to(held, trial.architecture)


class Parameters:
    """The genes of a space that have a choice, as Optuna's parameters, named by their paths.

    Ordered choices are integers in their order, others categories. The space is static: a gene of
    an absent layer holds a value that is drawn by the architecture's id alone, so that a layer
    which comes back in a child is as random as a new one.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._orders: dict[int, list[int]] = {}
        for position, gene in enumerate(space.genes):
            order = list(range(len(gene.choices)))
            if gene.dimension.ordered:
                order.sort(key=gene.choices.__getitem__)
            if len(order) > 1:
                self._orders[position] = order
        self._names = {position: space.genes[position].path for position in self._orders}

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """By name, what each parameter may be."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        return Shared(
            (
                self._names[position],
                IntDistribution(0, len(order) - 1)
                if self.space.genes[position].dimension.ordered
                else CategoricalDistribution(order),
            )
            for position, order in self._orders.items()
        )

    def values(self, architecture: Architecture) -> dict[str, int]:
        """The architecture's parameters by name."""
        genome = self.space.genome(architecture)
        absent = random.Random(f"absent:{architecture.id}") if -1 in genome else None
        return {
            self._names[position]: absent.randrange(len(order))
            if absent is not None and genome[position] < 0
            else order.index(genome[position])
            for position, order in self._orders.items()
        }

    def architecture(self, values: Mapping[str, int]) -> Architecture:
        """The architecture of these parameters; those of absent layers' genes are ignored."""
        genome = [0] * len(self.space.genes)
        for position, order in self._orders.items():
            genome[position] = order[values[self._names[position]]]
        active = set(self.space.active(genome))
        return self.space.closest(tuple(g if i in active else -1 for i, g in enumerate(genome)))

    def given_to(self, trial: FrozenTrial, architecture: Architecture) -> FrozenTrial:
        """The trial, with the parameters of this architecture."""
        trial.params = Shared(self.values(architecture))
        trial.distributions = self.distributions
        return trial


class Shared(dict[str, Any]):
    """A mapping that copies share: Optuna copies each trial it is told, and no trial changes it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        return self


def one_thread() -> AbstractContextManager[object]:
    """While it is entered, the libraries that are loaded compute in one thread."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(limits=1)
    return limits


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna from announcing every study that is made; its warnings are still said."""
    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)
