"""In which order would architectures come that nobody has scored? A ranker of few scored ones."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.registry import nearest
from nas.space.features import Features
from nas.space.population import Codes
from nas.strategy.ranker_members import (
    MEMBERS,
    Doubt,
    Floats,
    Model,
    Rows,
    one_blas_thread,
)

CONSTANT = "constant"
"""The member where nothing can be learned: one architecture, or equal losses. All scores are 0."""
SMALL = "linear_pairs"
"""The member below `ENOUGH` different architectures, where cross-validation says nothing."""
ENOUGH = 8

FOLDS = 5
# Among few samples the folds decide much: more divisions into folds are averaged.
DIVISIONS, DIVIDED = 4, 240
# Of more samples than these, so many are compared with each other for a Kendall tau.
COMPARED = 1000
# What would weigh less in a blend is left out: it costs as much time as the others.
LEAST_WEIGHT = 0.05
# Rows that one thread scores at once.
CHUNK = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Ranker:
    """A fitted order of architectures; made by `Ranker.fit` and never changed.

    `member` says what gives the scores: one of `MEMBERS`, or the weighted mean of several's as in
    `0.70*boosted_pairs+0.30*linear_pairs`, or `CONSTANT`. `tau` is its Kendall tau-b on samples
    that it was not fitted on, of `validated_on` architectures in all (0 where nothing was
    cross-validated), and `taus` that of every single member; None where it is undefined. A blend is
    weighed on the same predictions, so its `tau` is a little too good, and after `refit` it is that
    of the earlier samples.

    `trusted` says whether `tau` is above the baseline's `baseline_tau`, or above 0 without one;
    it is None where the member was given, so that nothing was cross-validated. By a ranker that is
    not trusted nothing should be screened: a caller orders by the baseline or draws at random, and
    says so in what it reports.
    """

    member: str
    tau: float | None
    validated_on: int
    taus: Mapping[str, float | None]
    baseline_tau: float | None
    trusted: bool | None
    _samples: _Samples
    _fitted: _Fitted
    _threads: int | None
    _validated: Mapping[str, Floats]

    @classmethod
    def fit(
        cls,
        features: Features,
        codes: Codes,
        losses: ArrayLike,
        *,
        seed: int,
        member: str | None = None,
        baseline: ArrayLike | None = None,
        threads: int | None = None,
    ) -> Ranker:
        """Fits to architectures (n, columns) with their losses (n,), smaller for the better.

        Without a `member` it is chosen by cross-validation on these samples. `baseline` (n,) is a
        number of each architecture that a ranker should beat, as its parameters; whether a larger
        one is better is learned. The samples' order and `threads` (all cores by default) change
        nothing. Losses of the same architecture are averaged.

        Raises ValueError without samples, for arrays that do not fit each other, for a loss or
        baseline that is not finite and for an unknown member.
        """
        samples = _Samples.of(features, codes, losses, baseline, seed)
        with one_blas_thread():
            if member is not None or samples.flat or samples.count < ENOUGH:
                trusted = None if member else False
                chosen = CONSTANT if samples.flat else member or SMALL
                fitted = samples.fitted(weights_of(chosen if member is None else member))
                return cls(chosen, None, 0, {}, None, trusted, samples, fitted, threads, {})
            validated = samples.validated(tuple(MEMBERS), samples.divisions, threads)
            chosen, tau, taus = _choice(validated, samples.losses)
            fitted = samples.fitted(weights_of(chosen))
        beaten = samples.baseline_tau
        trusted = tau is not None and tau > max(0.0, beaten or 0.0)
        return cls(
            chosen, tau, samples.count, taus, beaten, trusted, samples, fitted, threads, validated
        )

    def score(self, codes: Codes) -> Floats:
        """(n,) scores, smaller for the better.

        One is the standard deviation of the scores of the architectures that it was fitted on.
        """
        return self._in_chunks(self._fitted.score, codes)

    def spread(self, codes: Codes) -> Floats:
        """(n,) standard errors of what is expected of the losses; see `Doubt`.

        Whatever the member, they are those of a ridge regression of the same losses: boosting has
        none. They know nothing of the noise of one more evaluation.
        """
        if self._doubt is None:
            return np.zeros(len(codes))
        return self._in_chunks(self._doubt.errors, codes)

    def predict(self, codes: Codes, *, optimism: float = 0.0) -> Floats:
        """(n,) losses as expected of the scores, or so many standard errors better.

        A line through the scores that rankers gave which were not fitted on them, by least squares,
        so a ranker that orders nothing predicts the mean.
        """
        intercept, slope = self._line
        doubt = self._doubt if optimism else None

        def expected(rows: Rows) -> Floats:
            found = intercept + slope * self._fitted.score(rows)
            return found if doubt is None else found - optimism * doubt.errors(rows)

        return self._in_chunks(expected, codes)

    def refit(self, codes: Codes, losses: ArrayLike) -> Ranker:
        """The same member, trusted as before, on other samples of the same losses.

        Nothing is cross-validated: the line from scores to losses is the one from before, moved so
        that the earlier samples keep what it told of them. A fraction of the time that `fit` takes.
        """
        earlier = self._samples
        samples = _Samples.of(earlier.rows.features, codes, losses, None, earlier.seed)
        with one_blas_thread():
            fitted = samples.fitted(weights_of(self.member))
        made = dataclasses.replace(self, _samples=samples, _fitted=fitted, _validated={})
        before, now = (each.score(earlier.rows) for each in (self._fitted, fitted))
        intercept, slope = self._line
        if deviation := float(now.std()):
            intercept += slope * float(before.mean())
            slope *= float(before.std()) / deviation
            intercept -= slope * float(now.mean())
        # Where a cached property keeps what it found.
        made.__dict__["_line"] = (intercept, slope)
        return made

    @cached_property
    def _line(self) -> tuple[float, float]:
        """Intercept and slope from scores to losses; never falling."""
        weights, losses = weights_of(self.member), self._samples.losses
        if not weights:
            return float(losses.mean()), 0.0
        with one_blas_thread():
            held_out = self._validated or self._samples.validated(tuple(weights), 1, self._threads)
        scores = _blended(held_out, weights)
        centred = scores.ravel() - scores.mean()
        squares = float(centred @ centred)
        slope = float(centred @ np.tile(losses, len(scores))) / squares if squares else 0.0
        slope = max(slope, 0.0)
        return float(losses.mean()) - slope * float(scores.mean()), slope

    @cached_property
    def _doubt(self) -> Doubt | None:
        if self._samples.flat:
            return None
        with one_blas_thread():
            return Doubt.of(self._samples.rows, self._samples.losses)

    def _in_chunks(self, figures: Callable[[Rows], Floats], codes: Codes) -> Floats:
        features = self._samples.rows.features
        parts = [codes[start : start + CHUNK] for start in range(0, len(codes), CHUNK)]
        with one_blas_thread():
            if len(parts) < 2:
                return figures(Rows(features, codes))
            # Every row is scored by itself, so the number of threads changes nothing.
            with ThreadPoolExecutor(self._threads or os.cpu_count()) as pool:
                found = pool.map(lambda part: figures(Rows(features, part)), parts)
                return np.concatenate(list(found))


@dataclasses.dataclass(frozen=True, eq=False)
class _Fitted:
    """Fitted members with their weights, and mean and deviation of their scores of the samples."""

    parts: tuple[tuple[float, Model, float, float], ...]

    def score(self, rows: Rows) -> Floats:
        """(n,) weighted means of the members' standardised scores."""
        total = np.zeros(len(rows.codes))
        for weight, model, mean, deviation in self.parts:
            total += weight * (model.score(rows) - mean) / deviation
        return total


@dataclasses.dataclass(frozen=True, eq=False)
class _Samples:
    """Different architectures in one order, whatever the order given, with their mean losses."""

    rows: Rows
    losses: Floats
    baseline: Floats | None
    seed: int

    @classmethod
    def of(
        cls,
        features: Features,
        codes: Codes,
        losses: ArrayLike,
        baseline: ArrayLike | None,
        seed: int,
    ) -> _Samples:
        """Checks the samples and joins those of the same architecture."""
        if not len(codes):
            raise ValueError("no samples given; a ranker is fitted to at least one")
        different, place = np.unique(codes, axis=0, return_inverse=True)
        counts = np.bincount(place)

        def mean(name: str, given: ArrayLike) -> Floats:
            values = np.asarray(given, dtype=np.float64)
            if values.shape != (len(codes),):
                raise ValueError(
                    f"{name} of shape {values.shape} given, of ({len(codes)},) allowed"
                )
            for row in np.flatnonzero(~np.isfinite(values)):
                raise ValueError(f"{name}: {values[row]} in row {row}; finite numbers are allowed")
            # Sorted, so that the order given does not decide how sums are rounded.
            order = np.lexsort((values, place))
            joined: Floats = np.bincount(place[order], values[order]) / counts
            return joined

        found = None if baseline is None else mean("baseline", baseline)
        return cls(Rows(features, different), mean("losses", losses), found, seed)

    @property
    def count(self) -> int:
        """How many different architectures there are."""
        return len(self.losses)

    @property
    def flat(self) -> bool:
        """Whether all losses are equal."""
        return bool((self.losses == self.losses[0]).all())

    @property
    def divisions(self) -> int:
        """How many divisions into folds cross-validation takes."""
        return min(DIVISIONS, max(1, DIVIDED // self.count))

    def take(self, index: NDArray[np.bool_]) -> _Samples:
        """Some of the samples."""
        baseline = None if self.baseline is None else self.baseline[index]
        return _Samples(self.rows.take(index), self.losses[index], baseline, self.seed)

    def fitted(self, weights: Mapping[str, float]) -> _Fitted:
        """Members fitted to all samples; none where the losses are equal."""
        parts = []
        for number, name in enumerate(MEMBERS):
            if name in weights and not self.flat:
                rng = np.random.default_rng((self.seed, number))
                model = MEMBERS[name](self.rows, self.losses, rng)
                scores = model.score(self.rows)
                mean, deviation = float(scores.mean()), float(scores.std())
                # What tells nothing apart, but for roundings, adds nothing.
                if deviation > 1e-9 * (1 + abs(mean)):
                    parts.append((weights[name], model, mean, deviation))
        return _Fitted(tuple(parts))

    def folds(self, divisions: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """(division, which samples are held out), each sample once a division."""
        for division in range(divisions):
            order = np.random.default_rng((self.seed, division)).permutation(self.count)
            for fold in range(min(FOLDS, self.count)):
                yield division, order % FOLDS == fold

    def validated(
        self, singles: Sequence[str], divisions: int, threads: int | None
    ) -> dict[str, Floats]:
        """By member, the scores (divisions, n) of samples while these were held out."""
        found = {name: np.zeros((divisions, self.count)) for name in singles}

        def score(division: int, out: NDArray[np.bool_], rest: _Samples, rows: Rows) -> None:
            for name in singles:
                found[name][division, out] = rest.fitted({name: 1.0}).score(rows)

        # Taken here, one after the other; so folds share nothing and write to places of their own.
        parts = [(i, out, self.take(~out), self.rows.take(out)) for i, out in self.folds(divisions)]
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            list(pool.map(lambda part: score(*part), parts))
        return found

    @property
    def baseline_tau(self) -> float | None:
        """Kendall tau of the baseline, whose direction is that of the samples not held out."""
        if self.baseline is None:
            return None
        scores = np.zeros((self.divisions, self.count))
        for division, out in self.folds(self.divisions):
            agreement = concordance(self.baseline[~out], self.losses[~out])
            direction = 0.0 if agreement is None else np.sign(agreement.mean())
            scores[division, out] = direction * self.baseline[out]
        return _mean(_agreements(scores, self.losses))


def concordance(scores: Floats, losses: Floats) -> Floats | None:
    """(n,) how each sample agrees with the others; the mean is Kendall's tau-b.

    None where that is undefined: either array has but one value. Of more than `COMPARED` samples
    every second, third, ... is compared.
    """
    step = -(-len(losses) // COMPARED)
    signs = [np.sign(np.subtract.outer(v, v)) for v in (scores[::step], losses[::step])]
    untied = np.prod([float(np.count_nonzero(each)) for each in signs])
    if not untied:
        return None
    agreeing = np.einsum("ij,ij->i", *signs)
    shares: Floats = agreeing * (len(agreeing) / np.sqrt(untied))
    return shares


def _agreements(scores: Floats, losses: Floats) -> Floats | None:
    """`concordance` by sample, the mean over divisions (divisions, n)."""
    found = [each for each in (concordance(s, losses) for s in scores) if each is not None]
    if not found:
        return None
    mean: Floats = np.mean(found, axis=0)
    return mean


def _mean(agreements: Floats | None) -> float | None:
    return None if agreements is None else float(agreements.mean())


def _choice(
    validated: Mapping[str, Floats], losses: Floats
) -> tuple[str, float | None, dict[str, float | None]]:
    """The member to take, its Kendall tau on samples held out, and that of each single member.

    All are blended. For each standard error by which its tau lies below the best one's, a member's
    weight falls by the factor e: so among few samples, where chance decides which is best, it is
    the mean of all, and among many the best alone. The standard error of a difference is 2 /
    sqrt(n) times the deviation of the samples' differences in agreement (W. Hoeffding: A class of
    statistics with asymptotically normal distribution, Annals of Mathematical Statistics 19, 1948).
    """
    agreements = {name: _agreements(scores, losses) for name, scores in validated.items()}
    taus = {name: _mean(each) for name, each in agreements.items()}
    known = {name: each for name, each in agreements.items() if each is not None}
    if not known:
        return SMALL, None, taus
    best = max(known.values(), key=lambda each: float(each.mean()))
    weights = {}
    for name, agreement in known.items():
        lack = best - agreement
        error = 2 * lack.std() / np.sqrt(len(lack))
        weights[name] = float(np.exp(-lack.mean() / error)) if error else 1.0
    total = sum(weights.values())
    kept = {name: weight for name, weight in weights.items() if weight >= LEAST_WEIGHT * total}
    member = "+".join(f"{kept[name] / sum(kept.values()):.2f}*{name}" for name in kept)
    tau = _mean(_agreements(_blended(validated, weights_of(member)), losses))
    return member, tau, taus


def weights_of(member: str) -> dict[str, float]:
    """What a member's parts weigh, 1 in all; raises ValueError for an unknown or malformed one."""
    if member == CONSTANT:
        return {}
    weights = dict[str, float]()
    for part in member.split("+"):
        weight, times, name = part.rpartition("*")
        if name not in MEMBERS:
            raise ValueError(f"member: unknown name {name!r}; {nearest(name, tuple(MEMBERS))}")
        try:
            weights[name] = float(weight) if times else 1.0
        except ValueError:
            weights[name] = 0.0
        if not 0 < weights[name] < np.inf:
            raise ValueError(f"member: weight {weight!r} of {name}; a number above 0 is allowed")
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _blended(scores: Mapping[str, Floats], weights: Mapping[str, float]) -> Floats:
    blended: Floats = np.sum([weight * scores[name] for name, weight in weights.items()], axis=0)
    return blended
