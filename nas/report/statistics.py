"""How sure is a figure: intervals over seeds, resampling."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from nas.search.rank_correlation import kendall_tau

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean of `n` values with its interval; no bounds where the values cannot give any."""

    mean: float
    low: float | None
    high: float | None
    n: int


def kendall_interval(
    left: Sequence[float], right: Sequence[float], *, repeats: int = 1000
) -> tuple[float, float] | None:
    """The 95% percentile bootstrap interval of tau over pairs (Efron, 1979), always the same one.

    Resamples in which one side is constant have no tau and are left out; None where most have none.
    """
    rng = random.Random(f"kendall_interval:{len(left)}")
    rows = range(len(left))
    taus = []
    for _ in range(repeats):
        drawn = rng.choices(rows, k=len(left))
        tau = kendall_tau([left[i] for i in drawn], [right[i] for i in drawn])
        if tau is not None:
            taus.append(tau)
    if 2 * len(taus) < repeats:
        return None
    taus.sort()
    tail = (1 - CONFIDENCE) / 2
    last = len(taus) - 1
    return taus[math.floor(tail * last)], taus[math.ceil((1 - tail) * last)]


def interval_of_mean(values: Sequence[float]) -> Estimate:
    """The mean with Student's 95% interval (1908).

    No interval from one value, nor from equal values: a spread of nothing over a few seeds is a
    coincidence of coarse metrics, not certainty.
    """
    from scipy import stats

    n = len(values)
    mean = math.fsum(values) / n
    deviation = standard_deviation(values)
    if not deviation:
        return Estimate(mean, None, None, n)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def standard_deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation; None of fewer than two values."""
    if len(values) < 2:
        return None
    if len(set(values)) == 1:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
