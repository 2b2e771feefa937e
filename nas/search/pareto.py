"""Which trials are the best trade-offs: domination, the Pareto front and its hypervolume."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.errors import NothingFeasible
from nas.search.objective import Constraint, Objective
from nas.search.remeasured import with_measured
from nas.search.spec import SearchSpec
from nas.search.trial import Trial

Losses = NDArray[np.float64]
"""(points, objectives): smaller is better everywhere."""

# The reference point lies beyond the worst value by this share of the range seen.
MARGIN = 0.01


# -- domination ------------------------------------------------------------------------------------


def non_dominated(losses: Losses) -> NDArray[np.bool_]:
    """Mask (n,) of the rows of `losses` (n, m) that no other dominates; equal rows are all kept.

    A row dominates another when it is nowhere larger and somewhere smaller.
    """
    rows, inverse = _unique(losses)
    return _front_of_sorted(rows)[inverse]


def non_dominated_sort(losses: Losses) -> NDArray[np.int64]:
    """Rank (n,) of each row of `losses` (n, m): 0 for the front, 1 for the front of the rest, ...

    The ranks of Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II (2002).
    """
    rows, inverse = _unique(losses)
    ranks = np.zeros(len(rows), dtype=np.int64)
    left = np.arange(len(rows))
    rank = 0
    while len(left):
        front = _front_of_sorted(rows[left])
        ranks[left[front]] = rank
        left = left[~front]
        rank += 1
    return ranks[inverse]


def crowding_distance(losses: Losses) -> NDArray[np.float64]:
    """How far each row (n,) stands from its neighbours within its front; infinite at the ends.

    The sum over objectives of the gap between a row's two neighbours, as a share of the front's
    range (Deb et al., 2002).
    """
    count = len(losses)
    distance = np.zeros(count)
    if count <= 2:
        return distance + np.inf
    for column in np.asarray(losses, dtype=np.float64).T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        span = ordered[-1] - ordered[0]
        if span > 0:
            distance[order[1:-1]] += (ordered[2:] - ordered[:-2]) / span
            distance[order[[0, -1]]] = np.inf
    return distance


def _unique(losses: Losses) -> tuple[Losses, NDArray[np.int64]]:
    """Distinct rows in lexicographic order, and where each given row is among them."""
    given = np.asarray(losses, dtype=np.float64)
    order = np.lexsort(given.T[::-1])
    ordered = given[order]
    first = np.ones(len(given), dtype=bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    inverse = np.empty(len(given), dtype=np.int64)
    inverse[order] = np.cumsum(first) - 1
    return ordered[first], inverse


def _front_of_sorted(rows: Losses) -> NDArray[np.bool_]:
    """Mask of the non-dominated among distinct rows in lexicographic order."""
    if rows.shape[1] == 2:
        best = np.minimum.accumulate(rows[:, 1])
        mask = np.ones(len(rows), dtype=bool)
        mask[1:] = rows[1:, 1] < best[:-1]
        return mask
    # A row is dominated only by rows before it, so each survivor clears what comes after it.
    left = np.arange(len(rows))
    place = 0
    while place < len(left):
        held = rows[left]
        keep = (held < held[place]).any(axis=1)
        keep[: place + 1] = True
        left = left[keep]
        place += 1
    mask = np.zeros(len(rows), dtype=bool)
    mask[left] = True
    return mask


# -- hypervolume -----------------------------------------------------------------------------------


def hypervolume(losses: Losses, reference: Sequence[float] | Losses) -> float:
    """Exact volume between `losses` (n, m) and the reference point (m,): larger is better.

    Points that are not better than the reference in every objective contribute nothing. A sweep in
    two and three objectives; more are cut into slabs along the last one (While et al., A faster
    algorithm for calculating hypervolume, 2006). Raises `ValueError` where the lengths differ.
    """
    corner = np.asarray(reference, dtype=np.float64)
    rows = np.asarray(losses, dtype=np.float64).reshape(-1, len(corner))
    if np.size(losses) and np.shape(losses)[-1] != len(corner):
        raise ValueError(f"{np.shape(losses)[-1]} losses a point, {len(corner)} in the reference")
    rows = rows[(rows < corner).all(axis=1)]
    return _volume(rows[non_dominated(rows)], corner) if len(rows) else 0.0


def _volume(rows: Losses, corner: Losses) -> float:
    if len(corner) == 1:
        return float(corner[0] - rows.min())
    if len(corner) == 2:
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        widths = np.diff(rows[:, 0], append=corner[0])
        return float(widths @ (corner[1] - np.minimum.accumulate(rows[:, 1])))
    rows = rows[np.argsort(rows[:, -1], kind="stable")]
    depths = np.diff(rows[:, -1], append=corner[-1])
    if len(corner) == 3:
        return _sweep(rows, depths, corner)
    slabs = (_volume(rows[: i + 1, :-1], corner[:-1]) * depths[i] for i in np.flatnonzero(depths))
    return float(sum(slabs))


def _sweep(rows: Losses, depths: Losses, corner: Losses) -> float:
    """Volume of three objectives: the area of a staircase that grows along the third."""
    stairs = Staircase(corner[0], corner[1])
    area = volume = 0.0
    for (x, y), depth in zip(rows[:, :2].tolist(), depths.tolist(), strict=True):
        area += stairs.add(x, y)
        volume += area * depth
    return volume


class Staircase:
    """The front of two objectives as points come one by one, below a corner: the reference."""

    def __init__(self, x: float, y: float) -> None:
        self._xs, self._ys = [-np.inf, float(x)], [float(y), -np.inf]

    def add(self, x: float, y: float) -> float:
        """The area that a point below the corner adds: 0 where it is covered already."""
        xs, ys = self._xs, self._ys
        before = bisect_right(xs, x) - 1
        if ys[before] <= y:
            return 0.0
        area, after, left, height = 0.0, before + 1, x, ys[before]
        while height > y:
            area += (xs[after] - left) * (height - y)
            left, height = xs[after], ys[after]
            after += 1
        # What the new step hides leaves the staircase, a step at the same x included.
        first = before if xs[before] == x else before + 1
        xs[first : after - 1], ys[first : after - 1] = [x], [y]
        return area


# -- trials ----------------------------------------------------------------------------------------


def scored(trials: Iterable[Trial]) -> list[Trial]:
    """The trials that have all their metrics: neither failed nor infeasible."""
    return [trial for trial in trials if trial.succeeded]


def losses_of(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Losses:
    """Losses (trials, objectives) of scored trials; `KeyError` where one lacks a metric."""
    rows = [[objective.loss(trial.metrics) for objective in objectives] for trial in trials]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(objectives))


def reference_point(trials: Iterable[Trial], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """The reference point (losses) that goes with every hypervolume of a search.

    The rule: per objective the worst loss over all scored trials given, controls included, plus 1%
    of the range seen (of the worst value's size, or of 1, where all are equal). So every scored
    trial lies strictly inside, and none of the fronts compared has a say of its own. Raises
    `NothingFeasible` where no trial is scored.
    """
    losses = _all_losses(trials, objectives)
    worst = losses.max(axis=0)
    span = worst - losses.min(axis=0)
    size = np.where(worst == 0, 1.0, np.abs(worst))
    return tuple(float(each) for each in worst + MARGIN * np.where(span > 0, span, size))


def ideal_point(trials: Iterable[Trial], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Per objective the best loss over all scored trials given; `NothingFeasible` where none is."""
    return tuple(float(each) for each in _all_losses(trials, objectives).min(axis=0))


def normalized(losses: Losses, reference: Sequence[float], ideal: Sequence[float]) -> Losses:
    """Losses with the ideal point at 0 and the reference point at 1 of every objective.

    The hypervolume to the reference (1, ..., 1) then lies in [0, 1] and has no unit. Losses better
    than the ideal count as the ideal.
    """
    best, worst = np.asarray(ideal, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    return np.maximum(0.0, (losses - best) / (worst - best))


def hypervolume_at(
    trials: Iterable[Trial],
    objectives: Sequence[Objective],
    reference: Sequence[float],
    n: int,
    *,
    constraints: Sequence[Constraint] = (),
    ideal: Sequence[float] | None = None,
    seed: int = 0,
    repeats: int = 100,
) -> tuple[float, float]:
    """(mean, standard deviation) of the hypervolume over random subsamples of `n` scored trials.

    Hypervolume grows with the number of trials, so fronts are compared at equal n only. All of
    them at once, with deviation 0, where exactly `n` are scored. Trials that break a constraint
    count in n and contribute nothing. With `ideal` the losses are `normalized` first. Raises
    `ValueError` where fewer than `n` are scored.
    """
    given = scored(trials)
    if not 0 <= n <= len(given):
        raise ValueError(f"subsamples of {n} of {len(given)} scored trials")
    losses = losses_of(given, objectives)
    kept = np.array([_keeps(trial, constraints) for trial in given], dtype=bool)
    rng = random.Random(f"hypervolume_at:{seed}:{n}")
    draws = [rng.sample(range(len(given)), n) for _ in range(repeats if n < len(given) else 0)]
    volumes = []
    for drawn in draws or [list(range(len(given)))]:
        rows = [row for row in drawn if kept[row]]
        volumes.append(_covered(losses[rows], reference, ideal))
    return float(np.mean(volumes)), float(np.std(volumes, ddof=1)) if len(volumes) > 1 else 0.0


@dataclass(frozen=True)
class ParetoFront:
    """The trials that no other trial dominates: a view, made by `ParetoFront.of`.

    Members are sorted by the first objective, best first; equal ones by the others, role and index.
    """

    objectives: tuple[Objective, ...]
    members: tuple[Trial, ...]

    @classmethod
    def of(
        cls,
        trials: Iterable[Trial],
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint] = (),
    ) -> ParetoFront:
        """The front of the scored trials that keep all constraints; equal losses are all kept."""
        given = [trial for trial in scored(trials) if _keeps(trial, constraints)]
        losses = losses_of(given, objectives)
        mask = non_dominated(losses)
        best = [
            (*losses[row].tolist(), trial.role, trial.index, row)
            for row, trial in enumerate(given)
            if mask[row]
        ]
        return cls(tuple(objectives), tuple(given[key[-1]] for key in sorted(best)))

    @cached_property
    def losses(self) -> Losses:
        """Losses (members, objectives), in the members' order."""
        return losses_of(self.members, self.objectives)

    def hypervolume(
        self, reference: Sequence[float], ideal: Sequence[float] | None = None
    ) -> float:
        """What the front covers up to the `reference_point`; in [0, 1] where `ideal` is given."""
        return _covered(self.losses, reference, ideal)


def front_of(spec: SearchSpec, trials: Iterable[Trial]) -> ParetoFront:
    """The front of a search's own trials; controls are what it is held against, so left out.

    Networks whose costs were measured anew stand in it with these.
    """
    searched = with_measured(spec, trials)
    return ParetoFront.of(searched, spec.parsed_objectives, spec.parsed_constraints)


def _covered(losses: Losses, reference: Sequence[float], ideal: Sequence[float] | None) -> float:
    if ideal is None:
        return hypervolume(losses, reference)
    return hypervolume(normalized(losses, reference, ideal), np.ones(len(reference)))


def _keeps(trial: Trial, constraints: Sequence[Constraint]) -> bool:
    return all(constraint.violation(trial.metrics) == 0 for constraint in constraints)


def _all_losses(trials: Iterable[Trial], objectives: Sequence[Objective]) -> Losses:
    losses = losses_of(scored(trials), objectives)
    if not len(losses):
        raise NothingFeasible("no trial is scored, so there is no worst or best value")
    return losses
