"""What is a search held against: its controls, and how much of the plane each side covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.search.pareto import hypervolume_at, ideal_point, reference_point, scored
from nas.search.spec import SearchSpec
from nas.search.trial import ROLES, Trial


def judged(trials: Sequence[Trial]) -> list[Trial]:
    """The search and its controls.

    Rivals drawn at one member's FLOPs to confirm it (role `matched`) crowd where the front is, so
    they are no control of a hypervolume; without them the comparisons are the same before and after
    a confirmation.
    """
    return [trial for trial in trials if trial.role in ("search", "random", "homogeneous")]


def control_pools(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """The controls by name: `random`, `homogeneous softmax`, ..., and all homogeneous together."""
    pools: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda each: (ROLES.index(each.role), each.index)):
        if trial.role == "random":
            pools.setdefault("random", []).append(trial)
        elif trial.role == "homogeneous":
            attention = trial.architecture.single_attention or trial.label
            pools.setdefault(f"homogeneous {attention}", []).append(trial)
    homogeneous = [trial for name, pool in pools.items() if name != "random" for trial in pool]
    if len(pools) - ("random" in pools) > 1:
        pools["homogeneous, all types"] = homogeneous
    return pools


@dataclass(frozen=True)
class Extent:
    """The box that hypervolumes are normalised in: reference and ideal point, as losses."""

    reference: tuple[float, ...]
    ideal: tuple[float, ...]

    @classmethod
    def of(cls, spec: SearchSpec, trials: Sequence[Trial]) -> Extent:
        """The box that holds all scored trials; raises `ValueError` where there is none."""
        objectives = spec.parsed_objectives
        return cls(
            tuple(reference_point(trials, objectives)), tuple(ideal_point(trials, objectives))
        )

    def covered(self, spec: SearchSpec, pool: Sequence[Trial], n: int) -> tuple[float, float]:
        """The share of it that `n` of the pool's scored trials cover: mean and standard deviation.

        Over random subsamples where the pool has more; the request's constraints are kept.
        """
        return hypervolume_at(
            pool,
            spec.parsed_objectives,
            self.reference,
            n,
            constraints=spec.parsed_constraints,
            ideal=self.ideal,
            seed=spec.seed,
        )


def equal_n(*pools: Sequence[Trial]) -> int:
    """The largest number of scored trials that every pool has: nothing else compares fairly."""
    return min(len(scored(pool)) for pool in pools)
