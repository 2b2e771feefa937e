"""How much should a linear regression be held back? As leaving each sample out says best."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Decomposed:
    """Centred features (n, p) as `left` * sqrt(`squares`) * `right` transposed, for any targets.

    By the smaller of the two products of the features with themselves.
    """

    mean: Floats
    """(p,) of the features that were given."""
    left: Floats
    """(n, r), orthonormal columns."""
    squares: Floats
    right: Floats
    """(p, r), orthonormal columns."""

    @classmethod
    def of(cls, features: Floats) -> Decomposed:
        """Of any features, which are centred here."""
        mean = features.mean(axis=0)
        centred = features - mean
        tall = len(centred) > centred.shape[1]
        squares, vectors = np.linalg.eigh(centred.T @ centred if tall else centred @ centred.T)
        # Directions without features, but for roundings, have no part in any sum.
        kept = squares > max(centred.shape) * np.finfo(np.float64).eps * squares[-1]
        squares, vectors = squares[kept], vectors[:, kept]
        others = (centred if tall else centred.T) @ vectors / np.sqrt(squares)
        sides = (others, squares, vectors) if tall else (vectors, squares, others)
        return cls(mean, *sides)

    def ridge(self, target: Floats, penalties: Floats) -> tuple[Floats, float, float]:
        """Coefficients (p,) of the best penalty for a target (n,), it, and its mean squared error.

        That of every sample as predicted without it, the intercept fitted too: its residual over
        what of it the fit leaves over (D. Allen: The relationship between variable selection and
        data augmentation and a method for prediction, Technometrics 16, 1974).
        """
        shrunk = self.squares[:, None] / (self.squares[:, None] + penalties)
        along = self.left.T @ (target - target.mean())
        residuals = (target - target.mean())[:, None] - self.left @ (shrunk * along[:, None])
        over = 1 - 1 / len(target) - self.left**2 @ shrunk
        errors = np.square(residuals / over).mean(axis=0)
        best = int(np.argmin(errors))
        coefficients: Floats = self.right @ (shrunk[:, best] * along / np.sqrt(self.squares))
        return coefficients, float(penalties[best]), float(errors[best])

    def variance(self, features: Floats, penalty: float, error: float) -> Floats:
        """(m,) variances of what a ridge regression says of other features (m, p).

        With a mean squared `error` of a sample, as of the posterior under the Gaussian prior that
        its penalty stands for (C. Rasmussen, C. Williams: Gaussian Processes for Machine Learning,
        2006, section 2.1): largest where the samples' features do not reach.
        """
        centred = features - self.mean
        along = centred @ self.right
        beyond = np.maximum(0.0, np.square(centred).sum(axis=1) - np.square(along).sum(axis=1))
        reached = (np.square(along) / (self.squares + penalty)).sum(axis=1)
        found: Floats = error * (1 / len(self.left) + reached + beyond / penalty)
        return found
