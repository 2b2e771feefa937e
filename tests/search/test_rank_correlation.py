"""Kendall's tau is scipy's, and says where there is none."""

import random

import pytest
from scipy.stats import kendalltau

from nas.search.rank_correlation import kendall_tau


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
