"""How much will a network take that nobody has measured? Learnt from few that somebody has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas.cost.members import PENALTIES, Columns, Floats, WeightedSum, sparse_sums
from nas.errors import SpecError
from nas.search.rank_correlation import RankAgreement
from nas.search.stages import FEWEST_TIMINGS

FOLDS, DIVISIONS = 5, 2

Designs = Mapping[str, Columns]
"""What each member sees of the same networks, by its name. The first, by which time adds up as it
should, is preferred: it holds best where a search goes, at the edge of what was timed."""


def means_and_sums(columns: Columns, depths: Mapping[str, str]) -> dict[str, Columns]:
    """Members for networks told by averages: with their sums over layers, and as they are.

    `depths` names, for each column that is a mean over layers or common to them, the column with
    their number: what layers take adds up, and a width counts outside of them, too.
    """
    place = {name: i for i, name in enumerate(columns.names)}
    pairs = [(place[name], place[depth]) for name, depth in depths.items()]
    products = [columns.matrix[:, one] * columns.matrix[:, other] for one, other in pairs]
    names = (*columns.names, *(f"{name} x {depth}" for name, depth in depths.items()))
    return {"sums": Columns(names, np.column_stack([columns.matrix, *products])), "means": columns}


@dataclass(frozen=True)
class Errors:
    """How far predictions lay from networks that took no part in fitting them.

    The member was chosen on these networks, among a handful: errors of others are a little larger.
    """

    count: int
    mape: float
    """Mean of |predicted - measured| / measured."""
    low: float
    high: float
    """The mean's 95% bootstrap interval over networks."""
    tau: RankAgreement
    """Kendall's tau of predicted with measured."""
    params: RankAgreement | None
    """That of the number of parameters; None where it was not given."""

    @property
    def trusted(self) -> bool:
        """Whether it is shown to order networks, and no worse than a count of parameters does."""
        if self.tau.tau is None or self.tau.low is None:
            return False
        counted = 0.0 if self.params is None else abs(self.params.tau or 0.0)
        return self.tau.low > 0 and self.tau.tau >= counted


@dataclass(frozen=True)
class Predictor:
    """A member, what it learnt, and how right it was on networks held out."""

    member: str
    penalty: float
    sum: WeightedSum
    errors: Errors

    @classmethod
    def fit(
        cls, designs: Designs, values: Floats, *, seed: int = 0, params: Floats | None = None
    ) -> Predictor:
        """Learns from networks with values (n,) above 0; `params` (n,) are what it is held against.

        Of all members and penalties whose error on networks held out (`DIVISIONS` times `FOLDS`
        folds) lies within a standard error of the least, the first member is taken, with the
        penalty that leaves the fewest columns: the one-standard-error rule (Breiman et al.,
        Classification and Regression Trees, 1984). A pure function of what is given. Raises
        `SpecError` for fewer than `FEWEST_TIMINGS` values or one that is not above 0.
        """
        if len(values) < FEWEST_TIMINGS or not np.all((values > 0) & np.isfinite(values)):
            raise SpecError(
                f"{len(values)} timings from {np.min(values, initial=np.inf):g} on; a predictor "
                f"needs at least {FEWEST_TIMINGS}, each above 0"
            )
        held_out = _HeldOut(designs, values, seed)
        member, place = held_out.chosen
        fitted = sparse_sums(designs[member], values, PENALTIES[place : place + 1])[0]
        return cls(member, PENALTIES[place], fitted, held_out.errors(member, place, params))

    def predict(self, designs: Designs) -> Floats:
        """(n,) values; a cost is never below 0."""
        return np.maximum(0.0, self.sum.predict(designs[self.member]))


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Predictions by every member and penalty for networks that these were not fitted to."""

    designs: Designs
    values: Floats
    seed: int

    @cached_property
    def predictions(self) -> dict[tuple[str, int], Floats]:
        """(divisions, n) by member and place among the penalties."""
        count = len(self.values)
        found = {
            (member, place): np.empty((DIVISIONS, count))
            for member in self.designs
            for place in range(len(PENALTIES))
        }
        for division in range(DIVISIONS):
            fold = np.random.default_rng((self.seed, division)).permutation(count) % FOLDS
            for number in range(FOLDS):
                out = fold == number
                for member, columns in self.designs.items():
                    sums = sparse_sums(columns.take(~out), self.values[~out])
                    for place, fitted in enumerate(sums):
                        found[member, place][division, out] = fitted.predict(columns.take(out))
        return found

    def relative(self, member: str, place: int) -> Floats:
        """(n,) |predicted - value| / value, the mean over divisions."""
        apart = np.abs(self.predictions[member, place] - self.values) / self.values
        mean: Floats = apart.mean(axis=0)
        return mean

    @cached_property
    def chosen(self) -> tuple[str, int]:
        """The member to take, and the place of its penalty."""
        relative = {key: self.relative(*key) for key in self.predictions}
        best = min(relative.values(), key=lambda each: float(each.mean()))
        near = []
        for key, each in relative.items():
            lack = each - best
            if lack.mean() <= lack.std() / np.sqrt(len(lack)):
                near.append(key)
        order = list(self.designs)
        return min(near, key=lambda key: (order.index(key[0]), -key[1]))

    def errors(self, member: str, place: int, params: Floats | None) -> Errors:
        """Those of the first division, so that each network counts once."""
        predicted = self.predictions[member, place][0]
        relative = np.abs(predicted - self.values) / self.values
        rng = np.random.default_rng(self.seed)
        draws = rng.integers(len(relative), size=(2000, len(relative)))
        low, high = np.percentile(relative[draws].mean(axis=1), (2.5, 97.5))
        values = self.values.tolist()
        counted = None if params is None else RankAgreement.of(params.tolist(), values)
        tau = RankAgreement.of(predicted.tolist(), values)
        mape = float(relative.mean())
        return Errors(len(values), mape, float(low), float(high), tau, counted)
