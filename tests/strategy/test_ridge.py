"""Does a ridge regression by one decomposition give what scikit-learn gives, wide or tall?"""

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV

from nas.strategy.ridge import Decomposed

PENALTIES = np.logspace(-2, 3, 16)


@pytest.mark.parametrize("noise", [0.01, 1.0, 30.0])
@pytest.mark.parametrize(("samples", "features"), [(40, 7), (8, 30), (25, 25), (3, 4)])
def test_it_is_what_leaving_one_out_finds(samples: int, features: int, noise: float) -> None:
    rng = np.random.default_rng(samples + features)
    given = rng.normal(5, 2, (samples, features))
    # Columns that say the same, and one that says nothing.
    given[:, 1], given[:, 2] = 2 * given[:, 0], 3.0
    target = given @ rng.normal(size=features) + noise * rng.normal(size=samples)
    expected = RidgeCV(PENALTIES).fit(given, target)
    coefficients, penalty, error = Decomposed.of(given).ridge(target, PENALTIES)
    assert coefficients == pytest.approx(expected.coef_, rel=1e-6, abs=1e-9)
    assert penalty == expected.alpha_
    assert error == pytest.approx(-expected.best_score_, rel=1e-6)


def test_features_that_never_vary_tell_nothing() -> None:
    coefficients, _, error = Decomposed.of(np.ones((4, 3))).ridge(np.arange(4.0), PENALTIES)
    assert coefficients.tolist() == [0.0, 0.0, 0.0]
    assert error == pytest.approx(np.mean(np.square((np.arange(4) - 1.5) / 0.75)))


@pytest.mark.parametrize(("samples", "features"), [(40, 7), (8, 30)])
def test_its_variance_is_the_posterior_s(samples: int, features: int) -> None:
    rng = np.random.default_rng(samples)
    given, other = rng.normal(3, 2, (samples, features)), rng.normal(3, 2, (5, features))
    penalty, error = 1.7, 0.3
    centred, apart = given - given.mean(axis=0), other - given.mean(axis=0)
    inverse = np.linalg.inv(centred.T @ centred + penalty * np.eye(features))
    expected = error * (1 / samples + np.einsum("ij,jk,ik->i", apart, inverse, apart))
    found = Decomposed.of(given).variance(other, penalty, error)
    assert found == pytest.approx(expected, rel=1e-9)
