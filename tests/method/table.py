"""A space that is scored to the last architecture, and searches that look scores up in it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nas import catalog
from nas.cost.cost import exact_costs
from nas.search.pareto import ParetoFront, reference_point
from nas.search.problem import Problem
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import Measurement, Trial
from nas.space.architecture import Architecture
from nas.strategy.strategy import Strategy

BATCH = 10
# 16 tokens, 2 x (36 + 36^2) = 2,664 architectures, of attention types above all.
SPACE: dict[str, Any] = {
    "name": "enumerated",
    "patch_size": 2,
    "width": [16, 24],
    "depth": [1, 2],
    "layers": {
        "attention": ["softmax", "cosformer", "linear"],
        "heads": [2, 4],
        "head_width": [4, 8],
        "ffn_width": [16, 32, 64],
    },
}


def request(**changes: Any) -> SearchSpec:
    """The digits demo's recipes, shortened, over a space that can be enumerated."""
    recipe = {"batch_size": 64, "learning_rate": 5e-3, "augmentation": {"crop_padding": 1}}
    given = {
        "name": "method",
        "task": "digits",
        "space": SPACE,
        "supernet": {**recipe, "steps": 4000, "warmup_steps": 100, "checkpoint_every": 4000},
        "standalone": {**recipe, "steps": 400, "checkpoint_every": 400},
    }
    return load_spec(given | changes)


@dataclass(frozen=True)
class Table:
    """Every architecture of a request's space with its measurement."""

    spec: SearchSpec
    measurements: Mapping[Architecture, Measurement]

    def problem(self, *constraints: str) -> Problem:
        """The request's question, or it under other constraints."""
        spec = load_spec({**self.spec.to_json(), "constraints": constraints})
        space, objectives = spec.search_space, spec.parsed_objectives
        return Problem(space, objectives, spec.parsed_constraints, exact_costs(spec.task_shape))

    def trial(self, index: int, architecture: Architecture) -> Trial:
        """An architecture's row as a trial."""
        return Trial("search", index, architecture, self.measurements[architecture])

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """All rows."""
        return tuple(self.trial(i, each) for i, each in enumerate(self.measurements))

    @cached_property
    def reference(self) -> tuple[float, ...]:
        """The reference point that goes with the whole table."""
        return reference_point(self.trials, self.spec.parsed_objectives)

    def hypervolume(self, trials: tuple[Trial, ...]) -> float:
        """What the front of these trials covers up to the table's reference point."""
        return ParetoFront.of(trials, self.spec.parsed_objectives).hypervolume(self.reference)

    def search(
        self, strategy: str, seed: int, count: int, problem: Problem | None = None
    ) -> tuple[Trial, ...]:
        """A search of `count` trials by a strategy of the catalog with its default options."""
        declared = catalog.STRATEGIES.load(strategy)
        made: Strategy = declared(declared.options_model())
        trials: tuple[Trial, ...] = ()
        for wanted in _batches(count):
            proposed = made.propose(problem or self.problem(), seed, trials, wanted)
            trials += tuple(self.trial(len(trials) + i, each) for i, each in enumerate(proposed))
        return trials


def _batches(count: int) -> Iterator[int]:
    for done in range(0, count, BATCH):
        yield min(BATCH, count - done)
