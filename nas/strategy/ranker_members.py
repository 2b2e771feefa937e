"""Which models put architectures in order from few scores? Each on scikit-learn or lightgbm.

All but `linear_losses` learn the order of the losses alone, so they give the same for any
increasing map of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nas.space.feature_groups import Matrix
from nas.space.features import Features, FeatureSum
from nas.space.population import Codes
from nas.strategy.ridge import Decomposed

Floats = NDArray[np.float64]

# More pairs than these are drawn from, each sample in equally many: they decide what a fit takes.
PAIRS = 12_000
# Trees of four leaves: more of them overfit below 100 samples and gain little at 500.
TREES = {"num_leaves": 4, "min_data_in_leaf": 3, "lambda_l2": 1.0, "learning_rate": 0.12}
ROUNDS = 80
# How much less the averages are penalised than what single layers add to them.
EMPHASES = (0.3, 3.0)
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

    @cached_property
    def decomposed(self) -> tuple[tuple[Floats, Decomposed], ...]:
        """For ridge regressions: averages and layers together, by how much the averages count.

        Each with what the features were divided by.
        """
        _, scale = _scaled(self.averages)
        averages = self.averages / scale
        width = max(1, int(np.count_nonzero(averages.std(axis=0) > 0.5))) ** 0.5
        layers = self.layers.astype(np.float64)
        centred = layers - layers.mean(axis=0)
        size = max(float((centred**2).sum(axis=1).mean()), 1e-12) ** 0.5
        found = []
        for emphasis in EMPHASES:
            given = np.hstack([averages * (emphasis / width), layers / size])
            scales = np.append(scale * (width / emphasis), np.full(layers.shape[1], size))
            found.append((scales, Decomposed.of(given)))
        return tuple(found)

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

    total: FeatureSum

    def score(self, rows: Rows) -> Floats:
        """See `Model.score`."""
        return self.total.of(rows.codes)


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
    return Linear(rows.features.weighted(fitted.coef_[0] / scale))


def linear_ranks(rows: Rows, losses: Floats, rng: np.random.Generator) -> Linear:  # noqa: ARG001
    """Ridge regression of the ranks: an outlier counts no more than any other."""
    return _ridge(rows, ranks(losses))


def linear_losses(rows: Rows, losses: Floats, rng: np.random.Generator) -> Linear:  # noqa: ARG001
    """Ridge regression of the losses themselves: right where choices add up, as they nearly do."""
    return _ridge(rows, losses)


def _best_ridge(
    rows: Rows, target: Floats
) -> tuple[Floats, Decomposed, tuple[Floats, float, float]]:
    """What features are divided by, their decomposition, and the regression of the least error."""
    found = [(scales, each, each.ridge(target, PENALTIES)) for scales, each in rows.decomposed]
    return min(found, key=lambda each: each[-1][-1])


@dataclasses.dataclass(frozen=True, eq=False)
class Doubt:
    """How far a ridge regression of losses may be off for networks that it was not fitted to."""

    scales: Floats
    decomposed: Decomposed
    penalty: float
    error: float

    @classmethod
    def of(cls, rows: Rows, losses: Floats) -> Doubt:
        """Of rows with their losses (n,), which are not all equal."""
        scales, decomposed, (_, penalty, error) = _best_ridge(rows, losses)
        return cls(scales, decomposed, penalty, error)

    def errors(self, rows: Rows) -> Floats:
        """(m,) standard errors, in the losses' unit."""
        given = np.hstack([rows.averages, rows.layers]) / self.scales
        found: Floats = np.sqrt(self.decomposed.variance(given, self.penalty, self.error))
        return found


def _ridge(rows: Rows, target: Floats) -> Linear:
    """A regression on averages and, penalised more, on what single layers add.

    So a layer's choice counts as it does on average until the samples say otherwise. How much more
    and how much in all is decided by leaving one out.
    """
    scales, _, (coefficients, _, _) = _best_ridge(rows, target)
    ends = np.cumsum([rows.averages.shape[1], len(rows.features.per_layer_names)])
    return Linear(rows.features.weighted(*np.split(coefficients / scales, ends)))


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
    "linear_losses": linear_losses,
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
    # Else the booster would be written out as text and read again.
    return Boosted(lightgbm.train(options, table, ROUNDS, keep_training_booster=True))


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


def _scaled(matrix: Matrix) -> tuple[Floats, Floats]:
    """The columns with mean 0 and variance 1, where they vary, and by what they were divided."""
    given: Floats = matrix.astype(np.float64)
    mean, deviation = given.mean(axis=0), given.std(axis=0)
    # Means of equal numbers differ from them by a rounding.
    varies = deviation > 1e-6 * (1 + np.abs(mean))
    scale: Floats = np.where(varies, deviation, 1.0)
    return (given - mean) / scale, scale


def one_blas_thread() -> Any:
    """While it is entered, linear algebra runs in one thread: more of them round differently.

    In the whole process, so two threads of it do not enter it at a time.
    """
    return _libraries().limit(limits=1, user_api="blas")


def load_packages(member: str | None) -> None:
    """Loads what this member needs, or all of them, so that it is known to be there.

    Raises:
        ModuleNotFoundError: a package is not installed.
        OSError: a library that it is linked with, such as OpenMP's, is not there.
    """
    _libraries()
    if member is None or member.startswith("boosted"):
        import lightgbm  # noqa: F401


@cache
def _libraries() -> Any:
    # They are looked for once, when those of all members are loaded; lightgbm has none.
    import sklearn.linear_model  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
