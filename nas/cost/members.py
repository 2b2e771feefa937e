"""Which models predict a cost from few timings? Weighted sums, sparse ones, by least deviations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# What a weight costs, from next to nothing to what leaves a few columns: shares of the mean error.
PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3)
RIDGE = np.logspace(-3, 2, 11)


@dataclass(frozen=True, eq=False)
class Columns:
    """What is known of networks: a matrix (n, columns), and what its columns are."""

    names: tuple[str, ...]
    matrix: Floats

    def take(self, rows: NDArray[Any]) -> Columns:
        """Some of the networks."""
        return Columns(self.names, self.matrix[rows])


@dataclass(frozen=True)
class WeightedSum:
    """A constant and a weight for each column that has one, by its name."""

    constant: float
    weights: Mapping[str, float]

    def predict(self, columns: Columns) -> Floats:
        """(n,) values; a column that there is not counts nothing."""
        found = np.full(len(columns.matrix), self.constant)
        for name, column in zip(columns.names, columns.matrix.T, strict=True):
            if name in self.weights:
                # One by one: the order of a sum decides its last digit.
                found += self.weights[name] * column
        return found


def sparse_sums(
    columns: Columns, values: Floats, penalties: Sequence[float] = PENALTIES
) -> list[WeightedSum]:
    """A sum for each penalty that makes the mean of |predicted - value| / value small.

    Least absolute deviations, as timings have outliers, under an adaptive lasso: a weight is
    penalised by the inverse of what a ridge regression gives it, so that columns without effect
    drop out and the others are hardly shrunk (Wang, Li, Jiang: Robust regression shrinkage and
    consistent variable selection through the LAD-lasso, 2007). `values` (n,) are above 0.
    """
    from sklearn.linear_model import QuantileRegressor, RidgeCV

    unit = float(np.median(values))
    mean, deviation = columns.matrix.mean(axis=0), columns.matrix.std(axis=0)
    # Means of equal numbers differ from them by a rounding.
    varies = deviation > 1e-9 * (1 + np.abs(mean))
    names = [name for name, there in zip(columns.names, varies, strict=True) if there]
    if not names:
        return [WeightedSum(_weighted_median(values), {})] * len(penalties)
    scaled = (columns.matrix[:, varies] - mean[varies]) / deviation[varies]
    target, relative = values / unit, unit / values
    ridge = RidgeCV(RIDGE).fit(scaled, target, sample_weight=relative**2)
    effect = np.abs(ridge.coef_)
    found = []
    for penalty in penalties:
        lasso = QuantileRegressor(quantile=0.5, alpha=penalty)
        lasso.fit(scaled * effect, target, sample_weight=relative)
        weights = lasso.coef_ * effect * unit / deviation[varies]
        constant = float(lasso.intercept_ * unit - mean[varies] @ weights)
        kept = {name: float(w) for name, w in zip(names, weights, strict=True) if w}
        found.append(WeightedSum(constant, kept))
    return found


def _weighted_median(values: Floats) -> float:
    """The constant with the least mean relative error."""
    ordered = np.sort(values)
    weights = np.cumsum(1 / ordered)
    return float(ordered[np.searchsorted(weights, weights[-1] / 2)])
