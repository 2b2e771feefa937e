"""How sure is a figure: its interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Student's 97.5% quantiles for 1, 2, ... degrees of freedom: as far as a request may ask for seeds.
STUDENT = (
    12.7062047362, 4.3026527297, 3.1824463053, 2.7764451052, 2.5705818356, 2.4469118511,
    2.3646242516, 2.3060041352, 2.2621571628, 2.2281388520, 2.2009851601, 2.1788128297,
    2.1603686565, 2.1447866879, 2.1314495456, 2.1199052992, 2.1098155778, 2.1009220402,
    2.0930240544,
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A mean of `n` values with its interval; no bounds where the values cannot give any."""

    mean: float
    low: float | None
    high: float | None
    n: int


def interval_of_mean(values: Sequence[float]) -> Estimate:
    """The mean of at most 20 values with Student's 95% interval (1908).

    No interval from one value, nor from equal values: a spread of nothing over a few seeds is a
    coincidence of coarse metrics, not certainty.
    """
    n = len(values)
    assert n <= len(STUDENT) + 1
    mean = math.fsum(values) / n
    deviation = standard_deviation(values)
    if not deviation:
        return Estimate(mean, None, None, n)
    half = STUDENT[n - 2] * deviation / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def standard_deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation; None of fewer than two values."""
    if len(values) < 2:
        return None
    if len(set(values)) == 1:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
