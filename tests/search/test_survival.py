"""Do those survive whom an exact count of boxes says, whatever the scale and the ties?"""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nas.search.survival import contribution, far_reference, survivors
from tests.search.test_pareto import dominates, inclusion_exclusion, points

Points = NDArray[np.float64]
FEW = points(largest=6, value=4)


def peeled(losses: Points, violations: list[float]) -> list[int]:
    """Ranks by taking away, again and again, what nothing left is better than."""

    def better(one: int, other: int) -> bool:
        if violations[one] != violations[other]:
            return violations[one] < violations[other]
        return violations[one] == 0 and dominates(losses[one], losses[other])

    ranks, left, rank = [0] * len(losses), set(range(len(losses))), 0
    while left:
        front = {i for i in left if not any(better(j, i) for j in left)}
        for row in front:
            ranks[row] = rank
        left, rank = left - front, rank + 1
    return ranks


def union(rows: list[list[Fraction]]) -> Fraction:
    """The exact volume between rows and the origin, all below it, from all intersections."""
    total = Fraction(0)
    for size in range(1, len(rows) + 1):
        for chosen in itertools.combinations(rows, size):
            volume = Fraction(1)
            for column in zip(*chosen, strict=True):
                volume *= -max(column)
            total -= (-1) ** size * volume
    return total


def brute_force(
    losses: Points, count: int, violations: list[float], leading: int | None = None
) -> list[int]:
    """The rule by its words, in exact arithmetic."""
    if not len(losses):
        return []
    ranks = peeled(losses, violations)
    columns = [[Fraction(value) for value in column] for column in losses.T.tolist()]
    spans = [(max(column) - min(column)) or Fraction(1) for column in columns]
    unit = [
        [(c[row] - max(c)) / span - 1 for c, span in zip(columns, spans, strict=True)]
        for row in range(len(losses))
    ]
    chosen = list(range(len(losses)))
    while len(chosen) > count:
        worst = max(ranks[row] for row in chosen)
        last = [row for row in chosen if ranks[row] == worst]
        may_go = list(last)
        if worst == 0 and leading is not None:
            first = [row for row in range(len(losses)) if ranks[row] == 0]
            may_go.remove(min(first, key=lambda row: (losses[row, leading], row)))
        whole = union([unit[row] for row in last])
        lost = {row: whole - union([unit[o] for o in last if o != row]) for row in may_go}
        chosen.remove(min(may_go, key=lambda row: (lost[row], -row)))
    return chosen


@given(points(largest=7, value=6))
def test_a_contribution_is_the_volume_that_is_lost(losses: Points) -> None:
    reference = np.full(losses.shape[1], 5.0)
    for row in range(len(losses)):
        rest = np.delete(losses, row, axis=0)
        lost = inclusion_exclusion(losses, reference) - inclusion_exclusion(rest, reference)
        assert contribution(losses, row, reference) == pytest.approx(lost, abs=1e-9)


@settings(deadline=None)
@given(FEW, st.integers(0, 6), st.lists(st.sampled_from([0.0, 0.0, 0.5]), min_size=6))
def test_the_survivors_are_those_of_brute_force(
    losses: Points, count: int, broken: list[float]
) -> None:
    violations = broken[: len(losses)]
    assert survivors(losses, count, violations) == brute_force(losses, count, violations)


@settings(deadline=None)
@given(FEW, st.integers(1, 6), st.integers(0, 1))
def test_the_best_by_the_leading_objective_never_goes(
    losses: Points, count: int, leading: int
) -> None:
    found = survivors(losses, count, leading=leading)
    assert found == brute_force(losses, count, [0.0] * len(losses), leading)
    if found:
        assert losses[found, leading].min() == losses[:, leading].min()


@settings(deadline=None)
@given(FEW, st.integers(0, 6))
def test_units_do_not_matter(losses: Points, count: int) -> None:
    scale = 2.0 ** np.arange(30, 30 - 4 * losses.shape[1], -4)
    assert survivors(losses * scale - scale, count) == survivors(losses, count)


def test_ends_count_and_of_equal_ones_the_later_goes() -> None:
    # The range of both is 10, so the reference is (20, 20). Alone, 0 covers 2 x 10, 1 covers
    # 1 x 1, 2 covers 3 x 4, 3 and 4 each nothing that the other does not, and 5 covers 10 x 1.
    losses = np.array([[0, 10], [2, 9], [3, 5], [6, 1], [6, 1], [10, 0]], dtype=float)
    assert far_reference(losses).tolist() == [20, 20]
    alone = [contribution(losses, row, [20, 20]) for row in range(6)]
    assert alone == [2 * 10, 1 * 1, 3 * 4, 0, 0, 10 * 1]
    assert [survivors(losses, count) for count in (5, 4, 3)] == [
        [0, 1, 2, 3, 5],
        [0, 2, 3, 5],
        [0, 2, 3],
    ]


def test_nothing_and_nobody() -> None:
    assert survivors(np.zeros((0, 3)), 4) == []
    assert survivors(np.zeros((3, 2)), 0, leading=0) == []
    assert survivors(np.ones((3, 2)), 2) == [0, 1]
    with pytest.raises(ValueError, match="zero-size"):
        far_reference(np.zeros((0, 2)))


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_a_long_front_is_thinned_as_if_every_figure_were_taken_anew(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    sphere = np.abs(rng.normal(size=(40, objectives)))
    losses = 1 - sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    spans = np.ptp(losses, axis=0)
    unit, left = (losses - far_reference(losses)) / spans, list(range(40))
    while len(left) > 6:
        alone = [contribution(unit[left], place, [0] * objectives) for place in range(len(left))]
        del left[int(np.argmin(alone))]
    assert survivors(losses, 6) == left
