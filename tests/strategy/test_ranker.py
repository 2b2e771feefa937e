"""Does the ranker learn an order from few scores, weigh its members rightly and doubt itself?"""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas.space.features import Features
from nas.space.loader import load_space
from nas.space.population import Codes
from nas.strategy import ranker_members
from nas.strategy.ranker import CONSTANT, ENOUGH, SMALL, Ranker, _Samples, concordance, weights_of
from nas.strategy.ranker_members import (
    MEMBERS,
    PAIRS,
    Floats,
    Rows,
    pairs,
    ranks,
)

ROOT = Path(__file__).parents[2]
SPACE = load_space("cifar10_small")
FEATURES = Features.of_space(SPACE)
Law = Callable[[Codes], Floats]


@lru_cache
def drawn(count: int, seed: int = 0) -> Codes:
    rng = random.Random(seed)
    return FEATURES.codes([SPACE.sample(rng) for _ in range(count)])


def column(codes: Codes, name: str) -> Floats:
    found = [each.name for each in FEATURES.columns].index(name)
    values: Floats = codes[:, found].astype(np.float64)
    return values


def averaged(codes: Codes) -> Floats:
    """A loss of averages alone: softmax is good, wherever it stands; so is depth."""
    means = dict(zip(FEATURES.averages_names, FEATURES.averages(codes).T, strict=True))
    losses: Floats = -2.0 * means["*.attention=softmax"] - 0.3 * means["depth"]
    losses -= means["*.heads"] / 6
    return losses


def first_two(codes: Codes) -> tuple[Floats, Floats, Floats, Floats]:
    """Whether the first layer has softmax, the second; wide heads in the first, in the second."""
    softmax = [np.where(column(codes, f"{i}.attention") == 0, 1.0, 0.0) for i in (0, 1)]
    wide = [column(codes, f"{i}.head_width") for i in (0, 1)]
    return softmax[0], softmax[1], wide[0], wide[1]


def placed(codes: Codes) -> Floats:
    """A loss of placement alone: softmax in the second layer is good, as bad in the first."""
    softmax, later_softmax, wide, later_wide = first_two(codes)
    return softmax - later_softmax + 0.5 * wide - 0.5 * later_wide


def tangled(codes: Codes) -> Floats:
    """A loss of combinations across layers, of which no sum of features knows."""
    softmax, later_softmax, wide, later_wide = first_two(codes)
    return np.abs(softmax - later_softmax) + 0.6 * np.abs(wide - later_wide)


def noisy(law: Law, codes: Codes, share: float = 0.15) -> Floats:
    losses = law(codes)
    losses += share * losses.std() * np.random.default_rng(len(codes)).normal(size=len(codes))
    return losses


def tau(one: Floats, other: Floats) -> float:
    return float(kendalltau(one, other).statistic)


@lru_cache
def fitted(law: Law, count: int) -> Ranker:
    codes = drawn(count)
    return Ranker.fit(FEATURES, codes, noisy(law, codes), seed=0)


@pytest.mark.parametrize(
    ("law", "count", "leading", "useless"),
    [
        (averaged, 24, {"linear_pairs", "linear_ranks", "linear_losses"}, None),
        (placed, 150, set(MEMBERS) - {"linear_pairs"}, "linear_pairs"),
        (tangled, 200, {"boosted_ranks", "boosted_pairs"}, "linear_pairs"),
    ],
)
def test_the_member_that_fits_the_law_leads(
    law: Law, count: int, leading: set[str], useless: str | None
) -> None:
    ranker, unseen = fitted(law, count), drawn(1500, seed=1)
    weights = weights_of(ranker.member)
    assert max(weights, key=lambda name: weights[name]) in leading
    assert ranker.taus.keys() == MEMBERS.keys()
    if useless is not None:
        assert useless not in weights
        assert ranker.taus[useless] == pytest.approx(0, abs=0.2)
    held_out = tau(ranker.score(unseen), law(unseen))
    assert held_out > 0.6
    # What cross-validation says of it is about what it does.
    assert ranker.tau == pytest.approx(held_out, abs=0.15)
    assert ranker.trusted is True


def test_opposite_placement_scores_apart_where_the_losses_say_so() -> None:
    base = SPACE.extreme("largest")
    types = [choice for choice in SPACE.all_attentions if str(choice) in ("softmax", "linear")]
    pair = FEATURES.codes([base.replace_attention(*order) for order in (types, types[::-1])])
    assert np.array_equal(*FEATURES.averages(pair))
    scores = fitted(placed, 150).score(pair)
    assert (scores[0] < scores[1]) == (placed(pair)[0] < placed(pair)[1])
    assert abs(scores[0] - scores[1]) > 1


def test_only_the_order_of_the_losses_counts_but_for_one_member() -> None:
    codes = drawn(40)
    losses = noisy(averaged, codes)
    member = "+".join(name for name in MEMBERS if name != "linear_losses")
    one, other = (
        Ranker.fit(FEATURES, codes, given, seed=3, member=member)
        for given in (losses, np.exp(3 * losses))
    )
    assert np.array_equal(one.score(codes), other.score(codes))


def test_the_order_of_the_samples_does_not_count() -> None:
    codes = drawn(130)
    losses = noisy(averaged, codes)
    order = np.random.default_rng(1).permutation(len(codes))
    one = Ranker.fit(FEATURES, codes, losses, seed=3)
    other = Ranker.fit(FEATURES, codes[order], losses[order], seed=3)
    unseen = drawn(100, seed=1)
    assert (one.member, one.tau, one.taus) == (other.member, other.tau, other.taus)
    for what in (Ranker.score, Ranker.spread, Ranker.predict):
        assert np.array_equal(what(one, unseen), what(other, unseen))


def test_a_given_member_is_the_same_without_cross_validation() -> None:
    chosen, codes = fitted(tangled, 200), drawn(200)
    again = Ranker.fit(FEATURES, codes, noisy(tangled, codes), seed=0, member=chosen.member)
    assert (again.member, again.tau, again.taus, again.trusted) == (chosen.member, None, {}, None)
    assert np.array_equal(again.score(drawn(50, seed=1)), chosen.score(drawn(50, seed=1)))


def test_a_linear_member_needs_no_lightgbm(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine that only trains; what earlier tests loaded is forgotten.
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    ranker_members._libraries.cache_clear()
    codes = drawn(60)
    ranker = Ranker.fit(FEATURES, codes, averaged(codes), seed=0, member="linear_losses")
    assert kendalltau(ranker.predict(codes), averaged(codes)).statistic > 0.8


def told(threads: int) -> str:
    """All that a ranker says, to the last bit."""
    codes = drawn(130)
    ranker = Ranker.fit(FEATURES, codes, noisy(averaged, codes), seed=5, threads=threads)
    many = np.tile(drawn(500, seed=1), (20, 1))
    found = [ranker.score(many), ranker.spread(many[:40]), ranker.predict(many, optimism=1.0)]
    return f"{ranker.member} {ranker.tau!r} {[each.tobytes().hex() for each in found]}"


def test_processes_and_numbers_of_threads_agree_to_the_last_bit() -> None:
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    settings = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED"), "2")
    code = "from tests.strategy.test_ranker import told; print(told(2), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **settings, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == told(1)


def test_the_spread_falls_with_the_samples_and_is_that_of_refitting() -> None:
    unseen = drawn(300, seed=1)
    few, many = (
        Ranker.fit(
            FEATURES, drawn(n), noisy(averaged, drawn(n), 1.0), seed=0, member="linear_ranks"
        )
        for n in (40, 640)
    )
    assert few.spread(unseen).shape == (300,)
    assert 0 < 2 * many.spread(unseen).mean() < few.spread(unseen).mean()
    # Against rankers of samples drawn anew, which a search does not have.
    expected = []
    for seed in range(2, 14):
        codes = drawn(160, seed=seed)
        noise = np.random.default_rng(seed).normal(size=160)
        losses = averaged(codes) / averaged(codes).std() + noise
        ranker = Ranker.fit(FEATURES, codes, losses, seed=0, member="linear_losses")
        expected.append(ranker.predict(unseen))
    deviation = np.std(expected, axis=0).mean()
    assert 0.5 < ranker.spread(unseen).mean() / deviation < 2


def test_predictions_are_losses_in_the_order_of_the_scores() -> None:
    ranker, unseen = fitted(averaged, 24), drawn(1000, seed=1)
    order = np.argsort(ranker.score(unseen), kind="stable")
    predicted, losses = ranker.predict(unseen), averaged(unseen)
    assert (np.diff(predicted[order]) >= 0).all()
    assert len(np.unique(predicted)) > 500
    error = np.abs(predicted - losses).mean()
    assert error < 0.6 * np.abs(losses - losses.mean()).mean()


def test_predictions_are_on_the_line_through_scores_that_were_held_out() -> None:
    codes, unseen = drawn(100), drawn(300, seed=1)
    exact = Ranker.fit(FEATURES, codes, averaged(codes), seed=0, member="linear_losses")
    assert np.abs(exact.predict(unseen) - averaged(unseen)).mean() < 0.1 * averaged(unseen).std()
    unknowable = np.random.default_rng(0).normal(size=100)
    blind = Ranker.fit(FEATURES, codes, unknowable, seed=0, member="boosted_ranks")
    assert np.abs(blind.predict(unseen) - unknowable.mean()).max() < 0.5 * unknowable.std()


def test_an_optimist_takes_losses_to_be_better_by_their_standard_errors() -> None:
    ranker, unseen = fitted(averaged, 60), drawn(40, seed=1)
    better = ranker.predict(unseen) - ranker.predict(unseen, optimism=2.0)
    assert better == pytest.approx(2 * ranker.spread(unseen))
    assert better.min() > 0


class TestRefit:
    def test_it_scores_as_the_same_member_fitted_to_the_same(self) -> None:
        first, more, unseen = drawn(60), drawn(120), drawn(50, seed=1)
        ranker = Ranker.fit(FEATURES, first, averaged(first), seed=3, baseline=np.arange(60.0))
        again = ranker.refit(more, averaged(more))
        alone = Ranker.fit(FEATURES, more, averaged(more), seed=3, member=ranker.member)
        assert again.score(unseen).tolist() == alone.score(unseen).tolist()
        assert again.spread(unseen).tolist() == alone.spread(unseen).tolist()
        kept = ("member", "tau", "taus", "baseline_tau", "trusted")
        assert [getattr(again, k) for k in kept] == [getattr(ranker, k) for k in kept]

    def test_its_predictions_stay_on_the_scale(self) -> None:
        first, more, unseen = drawn(60), drawn(120), drawn(300, seed=1)
        # The later ones are the best: what the mean and spread of the samples are has changed.
        best = more[np.argsort(averaged(more))[:80]]
        joined = np.concatenate([first, best])
        ranker = Ranker.fit(FEATURES, first, averaged(first), seed=0, member="linear_losses")
        again = ranker.refit(joined, averaged(joined))
        error = np.abs(again.predict(unseen) - averaged(unseen)).mean()
        assert error < 0.1 * averaged(unseen).std()

    def test_nothing_is_cross_validated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        codes = drawn(60)
        ranker = Ranker.fit(FEATURES, codes[:30], averaged(codes[:30]), seed=0)
        monkeypatch.setattr(_Samples, "validated", None)
        assert np.isfinite(ranker.refit(codes, averaged(codes)).predict(codes)).all()

    def test_where_nothing_was_learnt_nothing_is(self) -> None:
        codes = drawn(30)
        ranker = Ranker.fit(FEATURES, codes[:10], np.ones(10), seed=0)
        again = ranker.refit(codes, averaged(codes))
        assert (again.member, again.trusted) == (CONSTANT, False)
        assert again.predict(codes).tolist() == [1.0] * 30


def test_a_ranker_that_is_worse_than_the_baseline_says_so() -> None:
    codes = drawn(130)
    unknowable = np.random.default_rng(0).normal(size=130)
    blind = Ranker.fit(FEATURES, codes, unknowable, seed=0, baseline=-unknowable)
    # That a larger baseline is better here is learned.
    assert blind.baseline_tau == pytest.approx(1.0)
    assert blind.trusted is False
    assert abs(blind.tau or 0) < 0.3
    seeing = Ranker.fit(FEATURES, codes, averaged(codes), seed=0, baseline=unknowable)
    assert seeing.trusted is True
    assert abs(seeing.baseline_tau or 0) < 0.3
    level = Ranker.fit(FEATURES, codes, averaged(codes), seed=0, baseline=np.ones(130))
    assert (level.baseline_tau, level.trusted) == (None, True)


def test_without_differences_there_is_no_order() -> None:
    unseen = drawn(20, seed=1)
    one = np.tile(drawn(1), (10, 1))
    for codes, losses in ((drawn(30), np.full(30, 2.5)), (one, np.arange(10.0)), (drawn(1), [4.5])):
        for member in (None, "boosted_pairs"):
            ranker = Ranker.fit(FEATURES, codes, losses, seed=0, member=member)
            assert (ranker.member, ranker.tau) == (CONSTANT, None)
            assert ranker.trusted is (False if member is None else None)
            assert not ranker.score(unseen).any()
            assert not ranker.spread(unseen).any()
            assert ranker.predict(unseen) == pytest.approx(np.mean(losses))


@pytest.mark.parametrize("count", range(2, ENOUGH))
def test_few_samples_have_a_member_of_their_own(count: int) -> None:
    codes, unseen = drawn(count), drawn(50, seed=1)
    ranker = Ranker.fit(FEATURES, codes, averaged(codes), seed=0, baseline=np.arange(count))
    assert (ranker.member, ranker.tau, ranker.trusted) == (SMALL, None, False)
    assert tau(ranker.score(codes), averaged(codes)) > 0
    for found in (ranker.score(unseen), ranker.spread(unseen), ranker.predict(unseen)):
        assert np.isfinite(found).all()


@pytest.mark.parametrize("count", [ENOUGH, ENOUGH + 3])
def test_the_first_choices_are_defined(count: int) -> None:
    codes, unseen = drawn(count), drawn(50, seed=1)
    losses = np.repeat([0.0, 1.0], [count - 1, 1])
    ranker = Ranker.fit(FEATURES, codes, losses, seed=0)
    assert weights_of(ranker.member).keys() <= MEMBERS.keys()
    assert np.isfinite(ranker.score(unseen)).all()
    assert np.isfinite(ranker.predict(unseen)).all()


def test_samples_of_one_architecture_are_one_with_their_mean_loss() -> None:
    codes = drawn(130)
    losses = noisy(averaged, codes)
    twice = np.vstack([codes, codes])
    apart = np.concatenate([losses + 5, losses - 5])
    one = Ranker.fit(FEATURES, codes, losses, seed=0)
    both = Ranker.fit(FEATURES, twice, apart, seed=0)
    # So what is held out has no twin among what is fitted.
    assert (both.member, both.tau) == (one.member, one.tau)
    # Up to the rounding of a mean.
    assert both.score(codes) == pytest.approx(one.score(codes), abs=1e-5)


def test_what_never_varied_decides_nothing() -> None:
    codes = drawn(400)
    deep = codes[column(codes, "depth") == 4]
    width = [each.name for each in FEATURES.columns].index("width")
    deep[:, width] = 2
    ranker = Ranker.fit(FEATURES, deep, noisy(averaged, deep), seed=0, member="+".join(MEMBERS))
    other = deep.copy()
    other[:, width] = 0
    assert np.array_equal(ranker.score(deep), ranker.score(other))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"losses": [0.0, 1.0, np.nan, 2.0]}, "losses: nan in row 2; finite numbers are allowed"),
        ({"losses": [0.0, np.inf, 1.0, 2.0]}, "losses: inf in row 1"),
        ({"losses": [0.0, 1.0]}, r"losses of shape \(2,\) given, of \(4,\) allowed"),
        ({"baseline": [0.0, 1.0, 2.0]}, r"baseline of shape \(3,\)"),
        ({"baseline": [0.0, 1.0, 2.0, -np.inf]}, "baseline: -inf in row 3"),
        ({"codes": drawn(4)[:0], "losses": []}, "no samples given"),
        ({"member": "boosted_pair"}, "unknown name 'boosted_pair'.*boosted_pairs"),
        ({"member": "0.5*linear_pairs+x*linear_ranks"}, "weight 'x' of linear_ranks"),
        ({"member": "-1*linear_pairs"}, "weight '-1' of linear_pairs"),
    ],
)
def test_bad_samples_are_one_clear_error(change: dict[str, object], told: str) -> None:
    given = {"codes": drawn(4), "losses": np.arange(4.0), "seed": 0, **change}
    with pytest.raises(ValueError, match=told):
        Ranker.fit(FEATURES, **given)  # type: ignore[arg-type]


def test_weights_are_shares() -> None:
    assert weights_of("linear_pairs") == {"linear_pairs": 1.0}
    assert weights_of("3*linear_pairs+boosted_ranks") == {
        "linear_pairs": 0.75,
        "boosted_ranks": 0.25,
    }


def test_agreement_by_sample_averages_to_kendalls_tau() -> None:
    rng = np.random.default_rng(0)
    for levels in (3, 1000):
        one, other = rng.integers(levels, size=(2, 60)).astype(np.float64)
        agreement = concordance(one, other)
        assert agreement is not None
        assert agreement.mean() == pytest.approx(tau(one, other))
    assert concordance(one, np.ones(60)) is None
    many = rng.normal(size=3001)
    thinned = concordance(many, many + rng.normal(size=3001))
    assert thinned is not None
    # Correlation r = 1 / sqrt(2): tau = 2 / pi arcsin(r) = 1 / 2.
    assert thinned.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("count", [2, 3, 6, 7, 50])
def test_all_pairs_of_few_samples_are_taken_once(count: int) -> None:
    losses = np.arange(count, dtype=np.float64)
    one, other = pairs(losses, np.random.default_rng(0))
    found = sorted(tuple(sorted(map(int, pair))) for pair in zip(one, other, strict=True))
    assert found == list(combinations(range(count), 2))


def test_pairs_of_many_samples_are_bounded_and_even() -> None:
    losses = np.random.default_rng(1).permutation(1000).astype(np.float64)
    one, other = pairs(losses, np.random.default_rng(0))
    assert len(one) == PAIRS
    assert set(np.bincount(np.concatenate([one, other]))) == {2 * PAIRS // 1000}
    tied, _ = pairs(np.ones(50), np.random.default_rng(0))
    assert len(tied) == 0


def test_equal_losses_share_a_rank() -> None:
    assert ranks(np.array([5.0, 1.0, 5.0, 9.0])).tolist() == [0.5, 0.125, 0.5, 0.875]


@pytest.mark.parametrize("name", MEMBERS)
def test_each_member_orders_what_it_was_fitted_to(name: str) -> None:
    rows, losses = Rows(FEATURES, drawn(100)), averaged(drawn(100))
    model = MEMBERS[name](rows, losses, np.random.default_rng(0))
    assert tau(model.score(rows), losses) > 0.75
    # What is scored beside a row does not matter.
    apart = [model.score(Rows(FEATURES, drawn(100)[i : i + 1]))[0] for i in range(5)]
    assert np.array_equal(apart, model.score(rows)[:5])
