"""Does a predictor learn what networks take from few timings, and say honestly how well?"""

from collections.abc import Callable

import numpy as np
import pytest

from nas.cost.members import PENALTIES, Columns, Floats, WeightedSum, sparse_sums
from nas.cost.predicted import Errors, Predictor, means_and_sums
from nas.errors import SpecError
from nas.search.rank_correlation import RankAgreement


def networks(count: int, seed: int = 0) -> Columns:
    """A depth from 1 to 6, a width, a mean over layers, and two columns without any effect."""
    rng = np.random.default_rng(seed)
    depth = rng.integers(1, 7, count)
    width = rng.choice([64, 128, 256], count)
    mean, idle, other = rng.uniform(1, 4, count), rng.normal(size=count), rng.normal(size=count)
    matrix = np.column_stack([depth, width, mean, idle, other]).astype(float)
    return Columns(("depth", "width", "mean", "idle", "other"), matrix)


def additive(given: Columns) -> Floats:
    """Every layer takes 2 ms and 0.5 ms for its mean; the rest of the network 3 ms."""
    depth, _, mean, _, _ = given.matrix.T
    total: Floats = 3 + depth * (2 + 0.5 * mean)
    return total


def linear(given: Columns) -> Floats:
    depth, width = given.matrix[:, 0], given.matrix[:, 1]
    total: Floats = 5 + 2 * depth + 0.01 * width
    return total


def noisy(values: Floats, share: float, seed: int = 1) -> Floats:
    return values * np.exp(np.random.default_rng(seed).normal(0, share, len(values)))


DEPTHS = {"mean": "depth", "width": "depth"}


def test_a_law_without_noise_is_found_exactly() -> None:
    given = networks(40)
    for found in sparse_sums(given, linear(given), [1e-9]):
        other = networks(200, seed=9)
        assert found.predict(other) == pytest.approx(linear(other), rel=1e-5)


def test_columns_without_effect_drop_out_and_the_others_are_hardly_shrunk() -> None:
    given = networks(100)
    (found,) = sparse_sums(given, noisy(linear(given), 0.03), [PENALTIES[2]])
    assert set(found.weights) == {"depth", "width"}
    assert found.weights["depth"] == pytest.approx(2, rel=0.1)
    assert found.weights["width"] == pytest.approx(0.01, rel=0.15)


def test_outliers_do_not_move_it() -> None:
    given = networks(80)
    values = noisy(linear(given), 0.01)
    values[::8] *= 3
    clean = networks(300, seed=5)
    for found in sparse_sums(given, values):
        errors = np.abs(found.predict(clean) / linear(clean) - 1)
        assert errors.mean() < 0.02
    # What squares would have made of them.
    ones = np.column_stack([np.ones(80), given.matrix])
    squares = np.linalg.lstsq(ones, values, rcond=None)[0]
    shown = np.column_stack([np.ones(300), clean.matrix]) @ squares
    assert np.abs(shown / linear(clean) - 1).mean() > 0.1


def test_columns_that_do_not_vary_have_no_weight() -> None:
    given = Columns(("same", "none"), np.column_stack([np.full(12, 7.0), np.zeros(12)]))
    values = np.array([1.0, 2, 4] * 4)
    for found in sparse_sums(given, values):
        assert found.weights == {}
        # Of all constants that one has the least mean relative error.
        tried = [np.abs(c / values - 1).mean() for c in np.linspace(0.5, 5, 400)]
        assert np.abs(found.constant / values - 1).mean() <= min(tried) + 1e-9


def test_a_column_that_is_not_there_counts_nothing() -> None:
    found = WeightedSum(1.0, {"there": 2.0, "gone": 5.0})
    assert found.predict(Columns(("there",), np.array([[3.0]]))).tolist() == [7.0]


@pytest.mark.parametrize("law", [additive, linear])
def test_either_law_is_learnt_from_noisy_timings(law: Callable[[Columns], Floats]) -> None:
    given = networks(80)
    predictor = Predictor.fit(means_and_sums(given, DEPTHS), noisy(law(given), 0.02))
    assert predictor.errors.mape < 0.03
    other = networks(300, seed=7)
    shown = predictor.predict(means_and_sums(other, DEPTHS))
    assert np.abs(shown / law(other) - 1).mean() < 0.02


def test_the_first_member_is_taken_unless_it_is_worse() -> None:
    given = networks(80)
    designs = means_and_sums(given, DEPTHS)
    values = noisy(additive(given), 0.02)
    assert Predictor.fit(designs, values).member == "sums"
    assert Predictor.fit(dict(reversed(designs.items())), values).member == "sums"
    same = {"one": designs["sums"], "other": designs["sums"]}
    assert Predictor.fit(same, values).member == "one"


def test_sums_have_a_mean_times_its_number_of_layers() -> None:
    given = networks(5)
    found = means_and_sums(given, DEPTHS)["sums"]
    assert found.names == (*given.names, "mean x depth", "width x depth")
    assert found.matrix[:, -2].tolist() == (given.matrix[:, 2] * given.matrix[:, 0]).tolist()


def test_errors_are_those_of_networks_held_out() -> None:
    # Values that nothing tells: whoever looked at them would have no error.
    given = networks(60)
    values = np.exp(np.random.default_rng(3).normal(0, 0.5, 60))
    errors = Predictor.fit(means_and_sums(given, DEPTHS), values).errors
    assert errors.count == 60
    assert errors.mape > 0.25
    assert errors.low < errors.mape < errors.high
    assert errors.tau.tau is None or abs(errors.tau.tau) < 0.3


@pytest.mark.slow
def test_what_it_expects_is_what_comes() -> None:
    other = networks(2000, seed=4)
    true = noisy(additive(other), 0.1, seed=8)
    apart = []
    for seed in range(6):
        given = networks(60, seed=seed)
        values = noisy(additive(given), 0.1, seed=10 + seed)
        predictor = Predictor.fit(means_and_sums(given, DEPTHS), values)
        shown = predictor.predict(means_and_sums(other, DEPTHS))
        # Less what the law itself leaves, which differs from sample to sample.
        expected = predictor.errors.mape - np.abs(additive(given) / values - 1).mean()
        found = np.abs(shown / true - 1).mean() - np.abs(additive(other) / true - 1).mean()
        apart.append(expected - found)
    assert abs(np.mean(apart)) < 0.01


def test_it_is_the_same_for_the_same_timings() -> None:
    given = means_and_sums(networks(40), DEPTHS)
    values = noisy(additive(networks(40)), 0.05)
    one, other = (Predictor.fit(given, values, seed=3) for _ in range(2))
    assert one == other


def test_predictions_are_never_below_nothing() -> None:
    given = networks(40)
    values = np.maximum(0.01, 4 * given.matrix[:, 0] - 3.9)
    found = Predictor.fit({"means": given}, values)
    extreme = Columns(given.names, np.array([[-50.0, 0, 0, 0, 0]]))
    assert found.predict({"means": extreme}).tolist() == [0.0]


def agreement(tau: float | None, spread: float = 0.15) -> RankAgreement:
    return RankAgreement(tau, None if tau is None else tau - spread, None, 20)


@pytest.mark.parametrize(
    ("tau", "params", "trusted"),
    [
        (0.7, 0.3, True),
        (0.7, None, True),
        (0.2, 0.3, False),
        # More parameters may also be faster.
        (0.2, -0.3, False),
        (-0.5, 0.1, False),
        # As likely none as any.
        (0.1, 0.0, False),
        (None, None, False),
        (0.2, "none", True),
    ],
)
def test_who_orders_worse_than_a_count_is_not_trusted(
    tau: float | None, params: float | str | None, trusted: bool
) -> None:
    told = agreement(None) if params == "none" else None
    held = told or (None if params is None else agreement(float(params)))
    assert Errors(20, 0.1, 0.0, 0.2, agreement(tau), held).trusted is trusted


@pytest.mark.parametrize(
    ("values", "given"),
    [(np.ones(9), "9 timings"), (np.zeros(20), "from 0"), (np.full(20, np.nan), "20 timings")],
)
def test_too_few_or_impossible_timings_are_refused(values: Floats, given: str) -> None:
    with pytest.raises(SpecError, match=given):
        Predictor.fit({"means": networks(len(values))}, values)


def test_equal_timings_are_predicted_as_such() -> None:
    found = Predictor.fit(means_and_sums(networks(20), DEPTHS), np.full(20, 2.5))
    assert found.predict(means_and_sums(networks(6), DEPTHS)) == pytest.approx(np.full(6, 2.5))
    assert not found.errors.trusted
