"""Do two scores put the same networks in the same order, and how sure is that?"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 4
"""Networks from which on an agreement is told: of three there are six orders."""
CONFIDENCE = 0.95


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's tau-b (1945), ties counted out; None where either list is all ties or too short."""
    upper = np.triu_indices(len(one), 1)
    signs = [np.sign(np.subtract.outer(each, each)[upper]) for each in (one, other)]
    agreeing = float(signs[0] @ signs[1])
    untied = math.prod(float(np.count_nonzero(each)) for each in signs)
    return agreeing / math.sqrt(untied) if untied else None


def kendall_interval(
    left: Sequence[float], right: Sequence[float], *, repeats: int = 1000
) -> tuple[float, float] | None:
    """The 95% percentile bootstrap interval of tau over pairs (Efron, 1979), always the same one.

    Resamples in which one side is constant have no tau and are left out; None where most have none.
    """
    n = len(left)
    if not n:
        return None
    rng = random.Random(f"kendall_interval:{n}")
    drawn = [np.bincount(rng.choices(range(n), k=n), minlength=n) for _ in range(repeats)]
    counts = np.array(drawn, dtype=np.float64)
    one, other = (np.sign(np.subtract.outer(each, each)) for each in (left, right))
    # Sums over all pairs of a resample, each pair as often as its networks were drawn together.
    agreeing, *untied = (
        ((counts @ pairs) * counts).sum(axis=1) / 2 for pairs in (one * other, one**2, other**2)
    )
    norm = np.sqrt(untied[0] * untied[1])
    taus = np.sort(agreeing[norm > 0] / norm[norm > 0])
    if 2 * len(taus) < repeats:
        return None
    tail, last = (1 - CONFIDENCE) / 2, len(taus) - 1
    return float(taus[math.floor(tail * last)]), float(taus[math.ceil((1 - tail) * last)])


def null_error(n: int) -> float:
    """The standard error of tau of `n` networks whose two scores have nothing in common.

    From Kendall (1938), without ties: 0.15 of 24 networks, 0.29 of 8. Raises `ValueError` below 2.
    """
    if n < 2:
        raise ValueError(f"{n} networks have no tau; 2 or more are allowed")
    return math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))


@dataclass(frozen=True)
class RankAgreement:
    """Kendall's tau-b of two scores of the same `n` networks, with its 95% bootstrap interval.

    `tau` is None of fewer than 4 networks, where one side's scores are all equal, and where one is
    no finite number; the bounds, too, where most resamples have no tau.
    """

    tau: float | None
    low: float | None
    high: float | None
    n: int

    @classmethod
    def of(cls, left: Sequence[float], right: Sequence[float]) -> RankAgreement:
        """The agreement of two lists of scores, in the order of the same networks."""
        n = len(left)
        known = n >= FEWEST and all(map(math.isfinite, (*left, *right)))
        tau = kendall_tau(left, right) if known else None
        interval = None if tau is None else kendall_interval(left, right)
        low, high = interval or (None, None)
        return cls(tau, low, high, n)
