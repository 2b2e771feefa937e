"""What will a measured cost of any network of a search be, told from timings of a few of them?"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from nas.cost.analytic import PARAMS
from nas.cost.composition import Composition, genomes_of, timed_shape
from nas.cost.cost import exact_costs, exact_costs_of_many
from nas.cost.members import Floats, WeightedSum
from nas.cost.predicted import Errors, Predictor
from nas.search.problem import ExactCost, ExactCosts
from nas.search.rank_correlation import RankAgreement
from nas.search.spec import SearchSpec
from nas.search.stages import FEWEST_TIMINGS
from nas.search.timing import steady
from nas.search.trial import Trial
from nas.space.architecture import Architecture
from nas.space.population import Codes
from nas.space.search_space import SearchSpace

# The fact of a search that holds its forecasts, from when its networks have been timed.
FORECASTS = "cost_predictors"


@dataclass(frozen=True)
class Forecast:
    """A cost's predictor with what it sees of a space's networks.

    `used` says whether candidates have its predictions: not where it was not shown to order
    networks, or orders them worse than a count of parameters does.
    """

    composition: Composition
    predictor: Predictor

    @property
    def used(self) -> bool:
        """Whether candidates are predicted rather than measured."""
        return self.predictor.errors.trusted

    def figures(self, codes: Codes) -> Floats:
        """The predicted values (n,) of genomes (n, genes), in the metric's unit."""
        member = self.predictor.member
        return self.predictor.predict({member: self.composition.design(member, codes)})

    def figure(self, architecture: Architecture) -> float:
        """That of one architecture."""
        return float(self.figures(genomes_of(self.composition.space, [architecture]))[0])


Forecasts = Mapping[str, Forecast]
"""By the cost's name."""


def learnt(spec: SearchSpec, trials: Sequence[Trial]) -> dict[str, Forecast]:
    """A forecast of each measured cost of a request, from its `timed` trials.

    A pure function of them; empty where fewer than `FEWEST_TIMINGS` networks were timed. A cost
    that is nothing for some network is not predicted: errors are relative.
    """
    timed = steady(spec, trials, "timed")
    if len(timed) < FEWEST_TIMINGS:
        return {}
    shape, found = timed_shape(spec.task_shape, spec.latency), {}
    codes = genomes_of(spec.search_space, list(timed))
    composition = Composition.of(spec.search_space, shape, codes)
    designs = composition.designs(codes)
    params = np.array([PARAMS.of(each, shape) for each in timed], dtype=np.float64)
    for name in spec.measured_costs:
        values = np.array([metrics[name] for metrics in timed.values()], dtype=np.float64)
        if (values > 0).all():
            predictor = Predictor.fit(designs, values, seed=spec.seed, params=params)
            found[name] = Forecast(composition, predictor)
    return found


def known_costs(spec: SearchSpec, forecasts: Forecasts) -> ExactCost:
    """The costs of an architecture that take no machine: exact ones, and those predicted."""
    exact = exact_costs(spec.task_shape, spec.latency)
    used = {name: each for name, each in forecasts.items() if each.used}

    def cost(architecture: Architecture) -> Mapping[str, float]:
        predicted = {name: each.figure(architecture) for name, each in used.items()}
        return {**exact(architecture), **predicted}

    return cost if used else exact


def known_costs_of_many(spec: SearchSpec, forecasts: Forecasts) -> ExactCosts:
    """The same for many genomes of a space."""
    exact = exact_costs_of_many(spec.task_shape, spec.latency)
    used = {name: each for name, each in forecasts.items() if each.used}

    def costs(space: SearchSpace, codes: Codes, names: Collection[str]) -> Mapping[str, Floats]:
        # Genomes of a part of a space have other genes.
        assert not used or space == spec.search_space, "forecasts are of the request's space"
        predicted = {name: each.figures(codes) for name, each in used.items() if name in names}
        return {**exact(space, codes, names), **predicted}

    return costs


# -- the fact --------------------------------------------------------------------------------------


def to_text(forecasts: Forecasts) -> str:
    """The value of the fact `FORECASTS`: JSON, from which every number comes back as it was."""
    given = {
        name: {
            "sorts": each.composition.sorts,
            "member": each.predictor.member,
            "penalty": each.predictor.penalty,
            "constant": each.predictor.sum.constant,
            "weights": dict(each.predictor.sum.weights),
            "errors": asdict(each.predictor.errors),
        }
        for name, each in forecasts.items()
    }
    return json.dumps(given)


def from_text(spec: SearchSpec, text: str) -> dict[str, Forecast]:
    """Reads what `to_text` gave for the same request; nothing from an empty text."""
    shape = timed_shape(spec.task_shape, spec.latency)
    found = {}
    for name, given in (json.loads(text) if text else {}).items():
        errors = given["errors"]
        taus = {
            key: None if errors[key] is None else RankAgreement(**errors[key])
            for key in ("tau", "params")
        }
        weighted = WeightedSum(given["constant"], given["weights"])
        composition = Composition(spec.search_space, shape, tuple(given["sorts"]))
        held = Errors(**{**errors, **taus})
        predictor = Predictor(given["member"], given["penalty"], weighted, held)
        found[name] = Forecast(composition, predictor)
    return found
