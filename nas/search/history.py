"""How does the front grow: the hypervolume after each trial, beside that of the random control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.search.extent import FixedExtent
from nas.search.pareto import Losses, Staircase, hypervolume, losses_of, normalized
from nas.search.spec import SearchSpec
from nas.search.trial import Trial, TrialRole

Curve = NDArray[np.float64]
"""(trials,): a figure after 1, 2, ... trials."""

# What a point that covers nothing is at, whatever the reference point.
NOWHERE = math.inf
# Rows looked at together: few while points still enter the front, many once none does.
FEWEST_ROWS, MOST_ROWS = 16, 1024
# By the number of objectives: random orders of the control, and how many rows they may have
# together, as an order of a long one takes its time.
FEWEST_ORDERS = 10
MOST_ORDERS = {2: 100, 3: 50, 4: 50}
ROWS_IN_ALL = {2: 1_000_000, 3: 200_000, 4: 50_000}
# By so much, relatively, may two sums of the same volumes differ.
ROUNDING = 1e-12


# -- curves ----------------------------------------------------------------------------------------


def hypervolume_curve(losses: Losses, reference: Sequence[float] | Losses) -> Curve:
    """The exact hypervolume of the first 1, 2, ... rows of `losses` (n, m), all to one reference.

    A row that is not better than the reference in every objective adds nothing, nor does one that
    holds an infinity or NaN. A staircase in two objectives; in more, each row that enters the front
    adds its box less what the front covers of it (While et al., A fast way of calculating exact
    hypervolumes, 2012), and the others, in growing blocks, cost only a comparison.
    """
    corner = np.asarray(reference, dtype=np.float64)
    rows = np.asarray(losses, dtype=np.float64).reshape(-1, len(corner))
    gains = np.zeros(len(rows))
    inside = np.flatnonzero((rows < corner).all(axis=1) & np.isfinite(rows).all(axis=1))
    points, front = rows[inside], rows[:0]
    if len(corner) == 2:
        stairs = Staircase(*corner)
        gains[inside] = [stairs.add(x, y) for x, y in points.tolist()]
        return np.cumsum(gains)
    place, block = 0, FEWEST_ROWS
    while place < len(points):
        ahead = points[place : place + block]
        covered = np.any(np.all(front[:, None] <= ahead, axis=2), axis=0)
        first = int(np.argmin(covered))
        if covered[first]:
            place, block = place + len(ahead), min(2 * block, MOST_ROWS)
            continue
        point, place, block = ahead[first], place + first + 1, FEWEST_ROWS
        shared = hypervolume(np.maximum(front, point), corner)
        gains[inside[place - 1]] = max(0.0, float(np.prod(corner - point)) - shared)
        front = np.vstack((front[~(point <= front).all(axis=1)], point))
    return np.cumsum(gains)


def evaluations_to_reach(curve: Sequence[float] | Curve, level: float) -> int | None:
    """How many evaluations it took to reach a level from below; None where it was never reached.

    `curve` has a figure after 1, 2, ... evaluations; a difference by rounding is none.
    """
    enough = np.asarray(curve, dtype=np.float64) >= level - ROUNDING * abs(level)
    return int(np.argmax(enough)) + 1 if enough.any() else None


# -- trials ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ControlCurve:
    """The random control's hypervolume after 1, 2, ... of its trials.

    `mean` and `deviation` (standard deviation) are over `orders` random orders of its own trials:
    the deviation falls to 0 at the last one, where every order has come to the same set.
    """

    as_run: tuple[float, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    orders: int


@dataclass(frozen=True)
class History:
    """The hypervolume after each trial of a search, and its random control's beside it.

    Both in [0, 1], normalised in one fixed extent. Trials count by their index, also those that
    failed or break a constraint: they add nothing. Later ones than a missing one are left out.
    """

    extent: FixedExtent
    search: tuple[float, ...]
    random: ControlCurve | None

    @classmethod
    def of(cls, spec: SearchSpec, trials: Sequence[Trial], extent: FixedExtent) -> History:
        """The history of a search's trials: the same for the same trials."""
        control = in_order(trials, "random")
        return cls(
            extent,
            tuple(search_curve(spec, trials, extent).tolist()),
            _control_curve(spec, control, extent) if control else None,
        )

    @property
    def equal_n(self) -> int:
        """How many trials both the search and its control have."""
        return 0 if self.random is None else min(len(self.search), len(self.random.mean))


def search_curve(spec: SearchSpec, trials: Sequence[Trial], extent: FixedExtent) -> Curve:
    """The hypervolume after each trial of the search itself, as `History` has it."""
    return _curve(_placed(spec, in_order(trials, "search"), extent))


def in_order(trials: Sequence[Trial], role: TrialRole) -> list[Trial]:
    """The trials of a role by index, up to the first index that is missing."""
    held = sorted((t for t in trials if t.role == role), key=lambda trial: trial.index)
    return [trial for place, trial in enumerate(held) if trial.index == place]


def _placed(spec: SearchSpec, trials: Sequence[Trial], extent: FixedExtent) -> Losses:
    """Normalised losses (trials, objectives), `NOWHERE` for a trial that covers nothing."""
    box = extent.normalizing(spec)
    placed = np.full((len(trials), len(box.ideal)), NOWHERE)
    for row, trial in enumerate(trials):
        if trial.succeeded and spec.keeps_constraints(trial.metrics):
            placed[row] = losses_of([trial], spec.parsed_objectives)
    return normalized(placed, box.reference, box.ideal)


def _curve(placed: Losses) -> Curve:
    return hypervolume_curve(placed, np.ones(placed.shape[1]))


def _control_curve(spec: SearchSpec, control: Sequence[Trial], extent: FixedExtent) -> ControlCurve:
    placed = _placed(spec, control, extent)
    count, objectives = placed.shape
    orders = min(MOST_ORDERS[objectives], ROWS_IN_ALL[objectives] // count)
    orders = max(FEWEST_ORDERS, orders)
    rng = np.random.default_rng([spec.seed, len(placed)])
    curves = np.array([_curve(placed[rng.permutation(len(placed))]) for _ in range(orders)])
    # Every order ends with the same set; its sum must not differ by the order of its terms.
    curves[:, -1] = curves[:, -1].max()
    # Nor must a mean of equal values differ from them.
    equal = np.ptp(curves, axis=0) == 0
    mean = np.where(equal, curves[0], curves.mean(axis=0))
    deviation = np.where(equal, 0.0, curves.std(axis=0, ddof=1))
    return ControlCurve(
        tuple(_curve(placed).tolist()), tuple(mean.tolist()), tuple(deviation.tolist()), orders
    )
