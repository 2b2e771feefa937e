"""Which models put architectures in order from few scores? Each on scikit-learn or lightgbm.

Every one learns the order of the losses alone, so it gives the same for any increasing map of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nas.space.features import Codes, Features, Matrix

Floats = NDArray[np.float64]

# More pairs than these are drawn from, each sample in equally many: they decide what a fit takes.
PAIRS = 12_000
# Trees of four leaves: more of them overfit below 100 samples and gain little at 500.
TREES = {"num_leaves": 4, "min_data_in_leaf": 3, "lambda_l2": 1.0, "learning_rate": 0.12}
ROUNDS = 80
# How much less the averages are penalised than what single layers add to them.
EMPHASES = (0.3, 1.0, 3.0, 10.0)
PENALTIES = np.logspace(-2, 3, 16)


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Architectures as the members see them; what no member asks for is not made."""

    features: Features
    codes: Codes

    @cached_property
    def averages(self) -> Matrix:
        """(n, features) of `Features.averages`."""
        return self.features.averages(self.codes)

    @cached_property
    def layers(self) -> Matrix:
        """(n, features) of `Features.per_layer`, then those of `Features.places`."""
        return np.hstack([self.features.per_layer(self.codes), self.features.places(self.codes)])

    def take(self, index: NDArray[np.bool_]) -> Rows:
        """Some of the rows; nothing is made twice."""
        taken = Rows(self.features, self.codes[index])
        taken.__dict__.update(averages=self.averages[index], layers=self.layers[index])
        return taken


class Model(Protocol):
    """A fitted member."""

    def score(self, rows: Rows) -> Floats:
        """(n,) scores, smaller for the better; each row's is a function of that row alone."""
        ...


Fit = Callable[[Rows, Floats, np.random.Generator], Model]
"""Fits a member to rows with their losses (n,), which are finite and not all equal."""


@dataclasses.dataclass(frozen=True, eq=False)
class Linear:
    """A weighted sum of features."""

    of_averages: Matrix | None = None
    of_layers: Matrix | None = None

    def score(self, rows: Rows) -> Floats:
        """See `Model.score`."""
        found = np.zeros(len(rows.codes))
        # Not by BLAS: its sums depend on the number of its threads.
        if self.of_averages is not None:
            found += np.einsum("ij,j->i", rows.averages, self.of_averages)
        if self.of_layers is not None:
            found += np.einsum("ij,j->i", rows.layers, self.of_layers)
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Boosted:
    """The trees of a lightgbm booster on the layers' features."""

    booster: Any

    def score(self, rows: Rows) -> Floats:
        """See `Model.score`."""
        found: Floats = self.booster.predict(rows.layers, num_threads=1)
        return found


def linear_pairs(rows: Rows, losses: Floats, rng: np.random.Generator) -> Linear:
    """Logistic regression on the differences of two architectures' averages: which is better?

    RankSVM's pairs (Joachims, KDD 2002) with the logistic loss.
    """
    from sklearn.linear_model import LogisticRegression

    scaled, scale = _scaled(rows.averages)
    one, other = pairs(losses, rng)
    # Every second pair is turned round, so that both answers occur.
    sign = np.where(np.arange(len(one)) % 2, 1.0, -1.0)
    differences = (scaled[one] - scaled[other]) * sign[:, None]
    worse = np.sign(losses[one] - losses[other]) * sign > 0
    if worse.all() or not worse.any():
        differences, worse = np.vstack([differences, -differences]), np.append(worse, ~worse)
    fitted = LogisticRegression(C=0.1, fit_intercept=False, max_iter=300).fit(differences, worse)
    return Linear(of_averages=_narrow(fitted.coef_[0] / scale))


def linear_ranks(rows: Rows, losses: Floats, rng: np.random.Generator) -> Linear:  # noqa: ARG001
    """Ridge regression of the ranks on averages and, penalised more, on what single layers add.

    So a layer's choice counts as it does on average until the samples say otherwise. How much more
    and how much in all is decided by leaving one out.
    """
    from sklearn.linear_model import RidgeCV

    averages, scale = _scaled(rows.averages)
    width = np.sqrt(max(1, int(np.count_nonzero(averages.std(axis=0) > 0.5))))
    layers = rows.layers - rows.layers.mean(axis=0, dtype=np.float64)
    size = max(float((layers**2).sum(axis=1).mean()), 1e-12) ** 0.5
    target = ranks(losses)
    best: Any = None
    for emphasis in EMPHASES:
        given = np.hstack([averages * emphasis / width, layers / size])
        fitted = RidgeCV(PENALTIES).fit(given, target)
        if best is None or fitted.best_score_ > best[0].best_score_:
            best = fitted, emphasis
    fitted, emphasis = best
    inner = averages.shape[1]
    shared = fitted.coef_[:inner] * emphasis / width / scale
    return Linear(_narrow(shared), _narrow(fitted.coef_[inner:] / size))


def boosted_ranks(rows: Rows, losses: Floats, rng: np.random.Generator) -> Boosted:
    """Gradient-boosted trees on the ranks, by their squared error."""
    return _boosted(rows, ranks(losses), "l2", rng)


def boosted_pairs(rows: Rows, losses: Floats, rng: np.random.Generator) -> Boosted:
    """Gradient-boosted trees whose differences are the log odds of being worse.

    R. Bradley, M. Terry: Rank analysis of incomplete block designs, Biometrika 39, 1952.
    """
    one, other = pairs(losses, rng)
    worse = (losses[one] > losses[other]).astype(np.float64)
    count = len(losses)
    # Twice the mean over a row's pairs, so that trees' penalties mean the same at any number.
    weight = count / max(1, len(one))

    def gradients(scores: Floats, _: Any) -> tuple[Any, Any]:
        likely = 1 / (1 + np.exp(scores[other] - scores[one]))
        slope, curve = likely - worse, likely * (1 - likely)
        first = np.bincount(one, slope, count) - np.bincount(other, slope, count)
        second = np.bincount(one, curve, count) + np.bincount(other, curve, count)
        return first * weight, second * weight

    return _boosted(rows, losses, gradients, rng)


MEMBERS: Mapping[str, Fit] = {
    "linear_pairs": linear_pairs,
    "linear_ranks": linear_ranks,
    "boosted_ranks": boosted_ranks,
    "boosted_pairs": boosted_pairs,
}


def _boosted(rows: Rows, target: Floats, objective: Any, rng: np.random.Generator) -> Boosted:
    import lightgbm

    options = {
        **TREES,
        "objective": objective,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "min_sum_hessian_in_leaf": 0.0,
        "max_bin": 63,
        "min_data_in_bin": 1,
        "feature_pre_filter": False,
        "enable_bundle": False,
        "seed": int(rng.integers(2**31)),
        "deterministic": True,
        "force_row_wise": True,
        # Threads that wait for each other cost more than they bring on so few rows.
        "num_threads": 1,
        "verbose": -1,
    }
    table = lightgbm.Dataset(rows.layers, target, params=options, free_raw_data=True)
    return Boosted(lightgbm.train(options, table, ROUNDS))


def ranks(losses: Floats) -> Floats:
    """(n,) ranks as shares of n, from near 0 for the least loss to near 1; equal ones share one."""
    _, place, counts = np.unique(losses, return_inverse=True, return_counts=True)
    shares: Floats = (np.cumsum(counts) - 0.5 * counts) / counts.sum()
    return shares[place]


def pairs(losses: Floats, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The pairs of samples with different losses; of more than `PAIRS`, about so many drawn ones.

    The samples are laid on a circle at random and each is paired with those next to it, so each is
    in equally many pairs, but for ties.
    """
    count = len(losses)
    steps = min(count // 2, max(1, PAIRS // count))
    circle = rng.permutation(count)
    found = [np.stack([circle, np.roll(circle, -step)]) for step in range(1, steps + 1)]
    if 2 * steps == count:
        # Half round the circle every pair occurs from either side.
        found[-1] = found[-1][:, :steps]
    one, other = np.hstack(found)
    differ = losses[one] != losses[other]
    return one[differ], other[differ]


def _narrow(weights: Floats) -> Matrix:
    narrow: Matrix = weights.astype(np.float32)
    return narrow


def _scaled(matrix: Matrix) -> tuple[Floats, Floats]:
    """The columns with mean 0 and variance 1, where they vary, and by what they were divided."""
    given: Floats = matrix.astype(np.float64)
    mean, deviation = given.mean(axis=0), given.std(axis=0)
    # Means of equal numbers differ from them by a rounding.
    varies = deviation > 1e-6 * (1 + np.abs(mean))
    scale: Floats = np.where(varies, deviation, 1.0)
    return (given - mean) / scale, scale


def increasing_map(scores: Floats, losses: Floats) -> Callable[[Floats], Floats]:
    """The increasing function of scores that is nearest to these losses: isotonic regression.

    Made continuous, by straight lines between the middles of its steps, and beyond the outermost
    by the slope of least squares. Where losses do not rise with the scores it is their mean.
    """
    from sklearn.isotonic import IsotonicRegression

    steps = IsotonicRegression().fit(scores, losses).predict(scores)
    values, place = np.unique(steps, return_inverse=True)
    middles = np.bincount(place, scores) / np.bincount(place)
    centred = scores - scores.mean()
    slope = float(centred @ losses / (centred @ centred)) if len(values) > 1 else 0.0
    slope = max(slope, 0.0)

    def mapped(given: Floats) -> Floats:
        beyond = given - np.clip(given, middles[0], middles[-1])
        found: Floats = np.interp(given, middles, values) + slope * beyond
        return found

    return mapped


def one_blas_thread() -> Any:
    """While it is entered, linear algebra runs in one thread: more of them round differently."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")
