"""Do Optuna's samplers work behind our protocol as they do in a live study of Optuna's?"""

import itertools
import random
import statistics
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import optuna
import pytest
from optuna.trial import TrialState
from pydantic import ValidationError

from benchmarks.measuring import optuna_reference
from nas.search.objective import Constraint, Objective
from nas.search.pareto import ParetoFront, ideal_point, reference_point
from nas.search.problem import Problem
from nas.search.trial import Measurement, Trial
from nas.space.architecture import Architecture
from nas.space.search_space import SearchSpace
from nas.strategy.optuna import Optuna, OptunaOptions, Parameters
from nas.strategy.random import RandomSearch
from nas.strategy.strategy import Strategy
from tests.space.spaces import encoder
from tests.strategy.conformance import StrategyConformance, tiny_space, with_measurement
from tests.strategy.landscape import (
    ACCURACY,
    FLOPS,
    TWO,
    costs,
    evaluated,
    problem_of,
    run,
    space_of,
)

Run = list[Trial]
LAYERS = {
    "attention": ["softmax", "cosformer", "linear"],
    "heads": [2, 4, 8],
    "head_width": [4, 8, 16],
    "ffn_width": [16, 32, 64, 128],
}
# Of one depth, so that all genes count and a trial's parameters are those that were asked for.
FLAT = space_of(layers=LAYERS, width=[16, 24, 32], depth=[4])
# What no strategy knows: every metric is found out by trying.
OPEN = Problem(FLAT, TWO, (), lambda _: {})


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


@cache
def weight(path: str, index: int, metric: str) -> float:
    return random.Random(f"{path}:{index}:{metric}").random()


def separable(architecture: Architecture, space: SearchSpace = FLAT) -> Mapping[str, float]:
    """Metrics of an architecture that are sums over its genes, and in conflict."""
    chosen = tuple(zip((g.path for g in space.genes), space.genome(architecture), strict=True))
    loss, rest = (sum(weight(*each, metric) for each in chosen) for metric in ("loss", "rest"))
    return {"cross_entropy": loss, "flops": 10 + 0.5 * (rest - loss)}


def searched(strategy: Strategy, seed: int, count: int, batch: int, problem: Problem = OPEN) -> Run:
    """A search on the separable landscape."""
    trials: Run = []
    while len(trials) < count:
        proposed = strategy.propose(problem, seed, trials, batch)
        trials += [
            Trial("search", len(trials) + i, each, Measurement.of(separable(each, problem.space)))
            for i, each in enumerate(proposed)
        ]
    return trials


def medians(runs: Mapping[str, Sequence[Run]]) -> dict[str, float]:
    """The median hypervolume of each kind of run, in a scale that they share."""
    every = [trial for kind in runs.values() for trials in kind for trial in trials]
    scale = reference_point(every, TWO), ideal_point(every, TWO)
    return {
        name: statistics.median(ParetoFront.of(each, TWO).hypervolume(*scale) for each in kind)
        for name, kind in runs.items()
    }


def live(population: int, count: int) -> tuple[optuna.Study, list[Trial]]:
    """A live study of Optuna's, told one by one, with failures; and the same trials as ours."""
    parameters, trials = Parameters(FLAT), list[Trial]()
    study = optuna.create_study(
        directions=["minimize", "minimize"],
        sampler=optuna.samplers.NSGAIISampler(population_size=population, seed=3),
    )
    for index in range(count):
        asked = study.ask(parameters.distributions)
        architecture = parameters.architecture(asked.params)
        measured = Measurement.of(separable(architecture))
        if index % 9 == 4:
            study.tell(asked, state=TrialState.FAIL)
            measured = Measurement.failed("out of memory")
        else:
            study.tell(asked, list(measured.metrics.values()))
        trials.append(Trial("search", index, architecture, measured))
    return study, trials


class TestNsgaII(StrategyConformance):
    @property
    def strategy(self) -> Optuna:
        return Optuna()

    def test_generations_and_parents_are_those_of_a_live_study(self) -> None:
        study, trials = live(population=10, count=61)
        strategy = Optuna(OptunaOptions(population=10))
        replayed = strategy.study(OPEN, 0, trials[::-1], strategy.sampler(0))
        assert len(replayed.trials) == len(study.trials) == 61
        for ours, theirs in zip(replayed.trials, study.trials, strict=True):
            assert (ours.number, ours.state) == (theirs.number, theirs.state)
            assert ours.system_attrs == theirs.system_attrs
            if ours.state == TrialState.COMPLETE:
                assert (ours.params, ours.values) == (theirs.params, theirs.values)
                assert ours.distributions == theirs.distributions
        # Failed trials fill no generation: 54 of 61 are scored.
        assert theirs.system_attrs == {"NSGAIISampler:generation": 5}
        parents = [
            each._storage.get_study_system_attrs(each._study_id) for each in (replayed, study)
        ]
        assert parents[0] == parents[1]
        assert {name.rpartition(":")[2] for name in parents[0]} == set("12345")

    def test_the_next_child_is_the_one_that_a_live_study_has(self) -> None:
        """Within a generation: its first child has the same parents in another order."""
        for count in (43, 44, 47):
            study, trials = live(population=10, count=count)
            strategy = Optuna(OptunaOptions(population=10))
            replayed = strategy.study(OPEN, 0, trials, strategy.sampler(5))
            study.sampler = strategy.sampler(5)
            asked = [each.ask(Parameters(FLAT).distributions) for each in (replayed, study)]
            assert asked[0].params == asked[1].params
            ours, theirs = (
                each._storage.get_trial(one._trial_id).system_attrs
                for each, one in zip((replayed, study), asked, strict=True)
            )
            assert ours == theirs

    @pytest.mark.slow
    def test_it_equals_a_live_study_of_optunas(self) -> None:
        """Hypervolume after 160 evaluations in populations of 16, medians of 5 seeds.

        Replayed trials without their generations would make it random search.
        """
        seeds, count, population = range(5), 160, 16
        strategy = Optuna(OptunaOptions(population=population))
        found = medians(
            {
                "random": [searched(RandomSearch(), seed, count, 50) for seed in seeds],
                "live": [
                    optuna_reference.run(OPEN, separable, seed, count, population) for seed in seeds
                ],
                "ours": [searched(strategy, seed, count, 16) for seed in seeds],
            }
        )
        gain = found["live"] - found["random"]
        assert gain > 0.05
        assert found["ours"] - found["random"] >= 0.85 * gain

    def test_failed_and_infeasible_trials_are_no_parents(self) -> None:
        _, trials = live(population=10, count=45)
        broken = [with_measurement(trial, trial.index % 3) for trial in trials]
        strategy = Optuna(OptunaOptions(population=4))
        study = strategy.study(OPEN, 0, broken, strategy.sampler(0))
        scored = {trial.index for trial in broken if trial.succeeded}
        attributes = study._storage.get_study_system_attrs(study._study_id)
        parents = [set(each) for each in attributes.values()]
        assert len(parents) == len(scored) // 4
        assert all(each <= scored for each in parents)

    def test_a_constraint_on_a_measured_metric_is_kept_more_and_more(self) -> None:
        free = problem_of(space_of())
        trials = run(RandomSearch(), free, seed=1, count=60)
        bound = sorted(trial.metrics["accuracy"] for trial in trials)[-5]
        constraints = (Constraint("accuracy", ">=", bound),)
        problem = Problem(free.space, free.objectives, constraints, costs)
        found = run(Optuna(OptunaOptions(population=20)), problem, seed=1, count=160)
        shares = [
            statistics.mean(trial.metrics["accuracy"] >= bound for trial in part)
            for part in (found[:30], found[-60:])
        ]
        assert shares[1] > 2 * shares[0]

    def test_many_generations_work(self) -> None:
        """More of them than Python lets functions call each other."""
        first = RandomSearch().propose(OPEN, 0, [], sys.getrecursionlimit() + 100)
        trials = [
            Trial("search", i, each, Measurement.of(separable(each)))
            for i, each in enumerate(first)
        ]
        proposed = Optuna(OptunaOptions(population=2)).propose(OPEN, 0, trials, 4)
        assert len({*proposed} - {*first}) == 4


@pytest.mark.slow
class TestNsgaIII(StrategyConformance):
    @property
    def strategy(self) -> Optuna:
        return Optuna(OptunaOptions(sampler="nsgaiii", population=20))


@pytest.mark.slow
class TestTpe(StrategyConformance):
    @property
    def strategy(self) -> Optuna:
        return Optuna(OptunaOptions(sampler="tpe"))


def test_the_parents_of_nsga_iii_stay_the_same() -> None:
    """Whoever draws them, later batches of a generation have those of the first."""
    trials = searched(Optuna(OptunaOptions(sampler="nsgaiii", population=10)), 0, 60, 10)
    strategy = Optuna(OptunaOptions(sampler="nsgaiii", population=10))
    seen: dict[str, list[int]] = {}
    for count, sampler_seed in ((20, 1), (25, 2), (39, 3), (60, 4)):
        study = strategy.study(OPEN, 0, trials[:count], strategy.sampler(sampler_seed))
        attributes = study._storage.get_study_system_attrs(study._study_id)
        assert len(attributes) == count // 10
        assert seen.items() <= attributes.items()
        seen = attributes
    assert all(len(set(parents)) == 10 for parents in seen.values())


@pytest.mark.parametrize("sampler", ["nsgaiii", "tpe", "random"])
def test_every_sampler_is_pure_and_proposes_what_is_new(sampler: str) -> None:
    options = OptunaOptions.model_validate({"sampler": sampler, "population": 10})
    problem = problem_of(space_of(), "flops <= 200000")
    trials = run(Optuna(options), problem, seed=2, count=30)
    assert len({trial.architecture for trial in trials}) == 30
    assert all(problem.analytic_violation(trial.architecture) == 0 for trial in trials)
    again = Optuna(options).propose(problem, 2, trials[19::-1], 10)
    assert again == [trial.architecture for trial in trials[20:]]
    assert again != Optuna(options).propose(problem, 3, trials[:20], 10)


@pytest.mark.slow
def test_tpe_finds_more_than_chance() -> None:
    seeds = range(3)
    strategy = Optuna(OptunaOptions(sampler="tpe"))
    found = medians(
        {
            "random": [searched(RandomSearch(), seed, 60, 60) for seed in seeds],
            "tpe": [searched(strategy, seed, 60, 10) for seed in seeds],
        }
    )
    assert found["tpe"] > 1.05 * found["random"]


@pytest.mark.slow
def test_a_gaussian_process_finds_more_than_chance_and_is_pure() -> None:
    problem = Problem(space_of(layers=LAYERS, width=[16, 24, 32], depth=[2]), TWO, (), lambda _: {})
    strategy = Optuna(OptunaOptions(sampler="gp", startup=8))
    runs = [searched(strategy, seed, 24, 4, problem) for seed in range(2)]
    chance = [searched(RandomSearch(), seed, 24, 24, problem) for seed in range(40)]
    found = medians({"random": chance, "first": runs[:1], "second": runs[1:]})
    assert min(found["first"], found["second"]) > 1.1 * found["random"]
    for trials in runs:
        assert len({trial.architecture for trial in trials}) == 24
    again = strategy.propose(problem, 0, runs[0][19::-1], 4)
    assert again == [trial.architecture for trial in runs[0][20:]]


@pytest.mark.slow
def test_a_gaussian_process_uses_a_small_space_up() -> None:
    space = space_of(
        layers={"attention": ["softmax", "linear"], "heads": 2, "head_width": 4, "ffn_width": 16},
        width=[16, 24],
        depth=[1],
    )
    trials = run(Optuna(OptunaOptions(sampler="gp", startup=3)), problem_of(space), 0, 20, batch=2)
    assert {trial.architecture for trial in trials} == set(space.enumerate())
    assert len(trials) == space.size == 8


class TestWhatOptunaIsTold:
    @pytest.mark.parametrize("sampler", ["nsgaii", "tpe"])
    def test_its_best_trials_are_our_front(self, sampler: str) -> None:
        """With a maximised objective and a constraint on a measured metric."""
        objectives = (Objective(ACCURACY), Objective(FLOPS))
        free = problem_of(space_of(), objectives=objectives)
        trials = run(RandomSearch(), free, seed=4, count=80)
        bound = statistics.median(trial.metrics["accuracy"] for trial in trials)
        constraints = (Constraint("accuracy", "<=", bound),)
        problem = Problem(free.space, objectives, constraints, costs)
        broken = [with_measurement(trial, trial.index % 5 % 3) for trial in trials]
        strategy = Optuna(OptunaOptions.model_validate({"sampler": sampler}))
        study = strategy.study(problem, 0, broken, strategy.sampler(0))
        front = ParetoFront.of(broken, objectives, constraints)
        assert 1 < len(front.members) < 60
        assert {trial.number for trial in study.best_trials} == {t.index for t in front.members}

    def test_a_constraint_on_a_metric_that_was_not_measured_is_broken(self) -> None:
        problem = Problem(FLAT, TWO, (Constraint("latency_ms", "<=", 3),), lambda _: {})
        _, trials = live(population=10, count=20)
        strategy = Optuna(OptunaOptions(population=4))
        study = strategy.study(problem, 0, trials, strategy.sampler(0))
        assert study.best_trials == []
        assert len(strategy.propose(problem, 0, trials, 5)) == 5

    def test_parameters_are_the_architecture(self) -> None:
        space = tiny_space()
        parameters = Parameters(space)
        for each in space.enumerate():
            values = parameters.values(each)
            assert parameters.architecture(values) == each
            # The same, whoever asks and whatever was tried before.
            assert Parameters(tiny_space()).values(each) == values
            assert values.keys() == parameters.distributions.keys()
        single = {gene.path for gene in space.genes if len(gene.choices) == 1}
        assert {"layers.0.heads", "layers.1.head_width"} <= single
        assert single.isdisjoint(parameters.distributions)

    def test_the_genes_of_absent_layers_are_drawn_uniformly_and_ignored(self) -> None:
        space = tiny_space()
        parameters = Parameters(space)
        shallow = [each for each in space.enumerate() if len(each.layers) == 1]
        drawn = [parameters.values(each) for each in shallow]
        assert {each["layers.1.ffn_width"] for each in drawn} == {0, 1, 2}
        assert {each["layers.1.attention"] for each in drawn} == {0, 1}
        for architecture, values in zip(shallow, drawn, strict=True):
            for ffn, attention in itertools.product(range(3), range(2)):
                other = values | {"layers.1.ffn_width": ffn, "layers.1.attention": attention}
                assert parameters.architecture(other) == architecture

    def test_ordered_choices_are_integers_in_their_order(self) -> None:
        space = space_of(width=[32, 16, 24], patch_size=[2, 1])
        parameters = Parameters(space)
        for architecture in itertools.islice(space.enumerate(), 0, None, 97):
            values = parameters.values(architecture)
            assert values["width"] == [16, 24, 32].index(encoder(architecture).width)
            assert values["patch_size"] == [1, 2].index(encoder(architecture).patch_size)
        kinds = {name: type(each).__name__ for name, each in parameters.distributions.items()}
        assert kinds["width"] == kinds["layers.0.ffn_width"] == kinds["depth"] == "IntDistribution"
        assert kinds["layers.0.attention"] == "CategoricalDistribution"


def test_a_space_of_one_architecture_has_one_proposal() -> None:
    layers = {"attention": "linear", "heads": 2, "head_width": 4, "ffn_width": 16}
    space = space_of(layers=layers, patch_size=2, width=16, depth=1)
    (only,) = space.enumerate()
    assert Optuna().propose(problem_of(space), 0, [], 5) == [only]
    assert Optuna().propose(problem_of(space), 0, [evaluated(0, only)], 5) == []


def test_optuna_says_nothing_and_is_left_as_it_was(
    capfd: pytest.CaptureFixture[str],
) -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sampler in ("nsgaii", "nsgaiii", "tpe", "random"):
            options = OptunaOptions.model_validate({"sampler": sampler, "population": 5})
            run(Optuna(options), problem_of(tiny_space()), seed=0, count=30)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert capfd.readouterr() == ("", "")


REFUSED: list[dict[str, object]] = [
    {"sampler": "cmaes"},
    {"population": 1},
    {"population": 20.0},
    {"startup": 0},
    {"seed": 3},
]


@pytest.mark.parametrize("options", REFUSED, ids=str)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        OptunaOptions.model_validate(options)
