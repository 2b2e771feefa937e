"""Kendall's tau is scipy's, its interval that of resamples, and both say where there is none."""

import itertools
import math
import random

import numpy
import pytest
from scipy.stats import kendalltau

from nas.search.rank_correlation import (
    RankAgreement,
    kendall_interval,
    kendall_tau,
    null_error,
)


@pytest.mark.parametrize("levels", [2, 3, 10, 10**6])
@pytest.mark.parametrize("count", [2, 7, 30])
def test_kendall_s_tau_is_scipy_s(levels: int, count: int) -> None:
    rng = random.Random(levels)
    compared = 0
    for _ in range(20):
        one, other = ([rng.randrange(levels) / levels for _ in range(count)] for _ in range(2))
        if len(set(one)) > 1 and len(set(other)) > 1:
            assert kendall_tau(one, other) == pytest.approx(kendalltau(one, other).statistic)
            compared += 1
    assert compared


def test_the_ends_are_one_and_minus_one() -> None:
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == 1.0
    assert kendall_tau(range(5), [-i for i in range(5)]) == -1.0


@pytest.mark.parametrize("one", [[], [1.0], [1.0, 1.0, 1.0]])
def test_ties_alone_and_lists_too_short_have_no_order(one: list[float]) -> None:
    other = [float(i) for i in range(len(one))]
    assert kendall_tau(one, other) is None
    assert kendall_tau(other, one) is None


@pytest.mark.parametrize("levels", [3, 10**6])
@pytest.mark.parametrize("count", [4, 9, 24])
def test_the_interval_is_that_of_resamples_drawn_and_ranked_one_by_one(
    levels: int, count: int
) -> None:
    rng = random.Random(f"{levels}/{count}")
    one = [float(rng.randrange(levels)) for _ in range(count)]
    other = [value + rng.gauss(0, levels / 3) for value in one]
    # The same draws as are documented: pairs with replacement, always from the same stream.
    stream, taus = random.Random(f"kendall_interval:{count}"), list[float]()
    for _ in range(1000):
        drawn = stream.choices(range(count), k=count)
        tau = kendall_tau([one[i] for i in drawn], [other[i] for i in drawn])
        taus += [] if tau is None else [tau]
    outer = (
        numpy.quantile(taus, 0.025, method="lower"),
        numpy.quantile(taus, 0.975, method="higher"),
    )
    assert kendall_interval(one, other) == pytest.approx(outer, abs=1e-12)


def test_the_error_under_no_agreement_is_that_of_all_orders() -> None:
    for n in (2, 3, 5, 6):
        taus = [kendall_tau(range(n), order) or 0.0 for order in itertools.permutations(range(n))]
        assert null_error(n) == pytest.approx(numpy.std(taus))
    assert (round(null_error(24), 2), round(null_error(8), 2)) == (0.15, 0.29)
    with pytest.raises(ValueError, match="1 networks"):
        null_error(1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([], []),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
        ([1.0] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ([1.0, 2.0, 3.0, 4.0, math.nan], [1.0, 2.0, 3.0, 4.0, 5.0]),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, math.inf]),
    ],
    ids=["none", "three", "constant", "NaN", "infinite"],
)
def test_what_tells_nothing_has_no_agreement(one: list[float], other: list[float]) -> None:
    for pair in ((one, other), (other, one)):
        assert RankAgreement.of(*pair) == RankAgreement(None, None, None, len(one))


def test_an_agreement_has_both_and_may_lack_the_interval() -> None:
    one, other = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 3.0, 2.0, 4.0, 6.0, 5.0]
    found = RankAgreement.of(one, other)
    assert found.tau == pytest.approx(kendalltau(one, other).statistic)
    assert (found.low, found.high) == kendall_interval(one, other)
