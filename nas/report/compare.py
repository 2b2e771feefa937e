"""Which of two searches found the better front: a common reference point, equal numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nas.errors import NothingFeasible, SpecError
from nas.report.evidence import NOT_COMPARABLE, NOT_RESOLVED, Comparison, Summary, plain
from nas.report.summary import compare_at_equal_n, summarize
from nas.report.table import coverage, noise
from nas.run.workspace import supernet_name
from nas.search.controls import Extent
from nas.search.objective import values_of
from nas.search.pareto import scored
from nas.search.spec import SearchSpec
from nas.search.trial import Trial


@dataclass(frozen=True)
class FrontComparison:
    """Two fronts side by side; `comparison` calls the first one `search` and the second `other`."""

    first: Summary
    second: Summary
    reference: Mapping[str, float]
    ideal: Mapping[str, float]
    comparison: Comparison
    differences: tuple[str, ...]
    """What the two requests do not share and scores depend on."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        shown: dict[str, Any] = plain(self)
        return shown

    @property
    def words(self) -> list[str]:
        """What follows, in plain sentences."""
        each = self.comparison
        facts = (
            f"at n = {each.n} the first covers {coverage(each.search)} and the second "
            f"{coverage(each.other)} of the volume to their common reference point"
        )
        if each.verdict == NOT_COMPARABLE:
            return [
                f"Not comparable: the searches differ in {', '.join(self.differences)}, and scores "
                "of other supernets, examples or workloads are not on one scale; only stand-alone "
                "training decides.",
                f"For information: {facts}.",
            ]
        said = [f"{self._verdict()}: {facts}; noise {noise(each)}."]
        if self.differences:
            said.append(f"The searches differ in {', '.join(self.differences)}.")
        return said

    def _verdict(self) -> str:
        if self.comparison.verdict == NOT_RESOLVED:
            return "Not resolved"
        better = "first" if self.comparison.difference > 0 else "second"
        return f"The {better} front covers more"


def compare_fronts(
    first: tuple[SearchSpec, Sequence[Trial]], second: tuple[SearchSpec, Sequence[Trial]]
) -> FrontComparison:
    """Compares the search trials of two searches, each under its own constraints.

    The reference point is the worst of both, the ideal the best of both. Resolved only where the
    random controls of both are. Raises `SpecError` where tasks or objectives differ and
    `NothingFeasible` where one side has no scored trial.
    """
    (spec, _), (other, _) = first, second
    for what, left, right in (
        ("task", spec.task.model_dump(mode="json"), other.task.model_dump(mode="json")),
        ("objectives", list(spec.objectives), list(other.objectives)),
    ):
        if left != right:
            raise SpecError(f"{what}: {left} and {right} cannot be compared; they must be the same")
    pools = [[t for t in trials if t.role == "search"] for _, trials in (first, second)]
    for side, pool in zip((spec, other), pools, strict=True):
        if not scored(pool):
            raise NothingFeasible(f"search {side.name} has no scored trial to compare")
    summaries = [summarize(*side) for side in (first, second)]
    both = [trial for pool in pools for trial in pool]
    extent = Extent.of(spec, both)
    resolved = all(summary.resolution.resolved for summary in summaries)
    comparison = compare_at_equal_n("second", (spec, pools[0]), (other, pools[1]), extent, resolved)
    differences = _differences(spec, other)
    if not _one_scale(spec, other):
        comparison = replace(comparison, verdict=NOT_COMPARABLE)
    return FrontComparison(
        summaries[0],
        summaries[1],
        values_of(spec.parsed_objectives, extent.reference),
        values_of(spec.parsed_objectives, extent.ideal),
        comparison,
        differences,
    )


def _one_scale(first: SearchSpec, second: SearchSpec) -> bool:
    """Whether the objectives' values of both mean the same: one supernet, examples and workload."""
    timed = set(first.objectives) & set(first.measured_costs)
    return (
        supernet_name(first) == supernet_name(second)
        and first.evaluation == second.evaluation
        and (not timed or (first.latency == second.latency and not _predicts(first, second)))
    )


def _predicts(*specs: SearchSpec) -> bool:
    """Whether one of them predicts what it measures, each from timings of its own."""
    return any(spec.prediction.timings for spec in specs)


def _differences(first: SearchSpec, second: SearchSpec) -> tuple[str, ...]:
    facts = (
        ("space", first.search_space.digest, second.search_space.digest),
        ("supernet", supernet_name(first), supernet_name(second)),
        ("evaluation", first.evaluation, second.evaluation),
        ("constraints", first.constraints, second.constraints),
    )
    found = [name for name, left, right in facts if left != right]
    measured = dict.fromkeys((*first.measured_costs, *second.measured_costs))
    if measured and first.latency != second.latency:
        found.append(f"workload of {' and '.join(measured)}")
    elif measured and _predicts(first, second):
        found.append(f"timings that {' and '.join(measured)} was predicted from")
    return tuple(found)
