"""What would a search have found where every score is known? Its trials, looked up in a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from nas.errors import SpecError
from nas.run.evaluate import Evaluator
from nas.run.lookup import Lookup
from nas.run.submission import problem_of
from nas.search.objective import Constraint
from nas.search.pareto import Losses, ParetoFront, losses_of, reference_point
from nas.search.problem import Problem
from nas.search.trial import Measurement, Proposal, Trial
from nas.space.architecture import Architecture
from nas.strategy.strategy import Strategy

FORMAT = 1


@dataclass(frozen=True)
class Table:
    """A problem whose every architecture has been measured, so that searches cost nothing.

    A whole space that a supernet has scored (`enumerated`), or a public table of trained networks.
    Strategies are compared on it in seconds over many seeds: a search of a table is a search in all
    but the time it takes.
    """

    problem: Problem
    measurements: Mapping[Architecture, Measurement]

    def trial(self, index: int, architecture: Architecture) -> Trial:
        """An architecture's row as a trial of a search."""
        return Trial("search", index, architecture, self.measurements[architecture])

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """All rows."""
        return tuple(self.trial(i, each) for i, each in enumerate(self.measurements))

    @cached_property
    def losses(self) -> Losses:
        """Losses (rows, objectives) of all rows, in their order."""
        return losses_of(self.trials, self.problem.objectives)

    @cached_property
    def reference(self) -> tuple[float, ...]:
        """The reference point (losses) of the whole table."""
        return reference_point(self.trials, self.problem.objectives)

    def hypervolume(self, trials: tuple[Trial, ...]) -> float:
        """What the front of these trials covers up to the table's reference point."""
        front = ParetoFront.of(trials, self.problem.objectives, self.problem.constraints)
        return front.hypervolume(self.reference)

    def constrained(self, *constraints: str) -> Table:
        """The same rows as another question: under these constraints."""
        parsed = tuple(map(Constraint.parse, constraints))
        return replace(self, problem=replace(self.problem, constraints=parsed))

    def search(
        self, strategy: Strategy, seed: int, count: int, *, batch: int = 10
    ) -> tuple[Trial, ...]:
        """A whole search of up to `count` trials in batches, as a search proposes and records them.

        Raises `KeyError` where the strategy proposes what the table does not have.
        """
        trials: tuple[Trial, ...] = ()
        while len(trials) < count:
            wanted = min(batch, count - len(trials))
            proposed = strategy.propose(self.problem, seed, trials, wanted)
            if not proposed:
                break
            trials += tuple(self.trial(len(trials) + i, each) for i, each in enumerate(proposed))
        return trials

    def write(self, path: Path) -> None:
        """Writes the rows as JSON; the problem is not in it."""
        rows = [
            {"architecture": each.to_json(), "metrics": dict(held.metrics)}
            for each, held in self.measurements.items()
        ]
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_text(json.dumps({"format": FORMAT, "rows": rows}), encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path, problem: Problem) -> Table:
        """The table that `write` wrote; raises `SpecError` for another file or problem's."""
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            if (form := held["format"]) != FORMAT:
                raise ValueError(f"format {form!r}; {FORMAT} is read")
            rows = {
                Architecture.from_json(row["architecture"]): Measurement.of(row["metrics"])
                for row in held["rows"]
            }
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise SpecError(f"{path}: not a table of measurements: {error}") from error
        if strangers := [each for each in rows if not problem.space.contains(each)]:
            raise SpecError(
                f"{path}: {len(strangers)} of {len(rows)} architectures are not of space "
                f"{problem.space.name}, as {strangers[0].id}"
            )
        return cls(problem, rows)


def enumerated(evaluator: Evaluator | Lookup) -> Table:
    """Every architecture of a request's space, scored as a slice of its trained supernet.

    Or looked up, where the request's task is a table itself.
    """
    problem = problem_of(evaluator.spec)
    proposals = (
        Proposal("search", index, each) for index, each in enumerate(problem.space.enumerate())
    )
    return Table(problem, {each.architecture: evaluator(each) for each in proposals})
