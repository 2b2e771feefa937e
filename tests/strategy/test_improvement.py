"""Is what a candidate would add to a front counted rightly, and a batch spread over it?"""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.pareto import hypervolume, non_dominated
from nas.strategy.improvement import FEW_POINTS, SHORTLIST, batch, improvements, leading

coordinate = st.integers(0, 12).map(float)


def points(objectives: int, least: int, most: int) -> st.SearchStrategy[np.ndarray]:
    rows = st.lists(st.tuples(*[coordinate] * objectives), min_size=least, max_size=most)
    return rows.map(lambda rows: np.array(rows, dtype=float).reshape(len(rows), objectives))


@given(points(2, 1, 8), points(2, 0, 8))
def test_two_objectives_are_exact(candidates: np.ndarray, front: np.ndarray) -> None:
    corner = (10.0, 9.0)
    before = hypervolume(front, corner)
    expected = [hypervolume(np.vstack([front, row]), corner) - before for row in candidates]
    assert improvements(candidates, front, corner).tolist() == pytest.approx(expected, abs=1e-9)


@given(points(3, 1, 6), points(3, 0, 6))
def test_three_objectives_are_near(candidates: np.ndarray, front: np.ndarray) -> None:
    corner = (10.0, 9.0, 11.0)
    before = hypervolume(front, corner)
    box = np.prod(np.array(corner) - np.minimum(candidates.min(axis=0), corner).clip(max=0))
    for row, found in zip(candidates, improvements(candidates, front, corner), strict=True):
        expected = hypervolume(np.vstack([front, row]), corner) - before
        # Five standard errors of a share of 4,096 points in a box that holds all of them.
        assert abs(found - expected) <= 5 * box * 0.5 / np.sqrt(4096) + 1e-9


@given(points(2, 1, 7), points(2, 0, 4), st.integers(1, 3))
def test_a_batch_is_nearly_the_best_one(
    candidates: np.ndarray, front: np.ndarray, count: int
) -> None:
    corner = (11.0, 11.0)
    before = hypervolume(front, corner)

    def gain(rows: tuple[int, ...]) -> float:
        return hypervolume(np.vstack([front, candidates[list(rows)]]), corner) - before

    chosen = batch(candidates, front, corner, count)
    assert len(chosen) == len(set(chosen)) == min(count, len(candidates))
    best = max(gain(rows) for rows in itertools.combinations(range(len(candidates)), len(chosen)))
    assert gain(tuple(chosen)) >= (1 - 1 / np.e) * best - 1e-9
    if best > 0:
        assert gain(tuple(chosen[:1])) == max(gain((row,)) for row in range(len(candidates)))


@given(points(2, 1, 12), points(2, 1, 6), st.integers(1, 14))
def test_the_leading_are_the_first_of_a_whole_sort(
    candidates: np.ndarray, front: np.ndarray, count: int
) -> None:
    corner = (10.0, 9.0)
    gains = improvements(candidates, front, corner)
    every = np.vstack([candidates, front[non_dominated(front)]])
    span = np.ptp(every, axis=0)
    scale = np.where(span > 0, span, 1.0)
    worse = (candidates[:, None] - front[non_dominated(front)]).clip(min=0) / scale
    misses = np.square(worse).sum(axis=2).min(axis=1)
    order = sorted(range(len(gains)), key=lambda i: (gains[i] <= 0, -gains[i], misses[i], i))
    assert leading(candidates, front, corner, count).tolist() == order[:count]


def test_one_point_is_not_taken_many_times() -> None:
    front = np.array([[0.0, 9.0], [9.0, 0.0]])
    same = np.tile([[3.0, 3.0]], (50, 1))
    other = np.array([[1.0, 6.0], [6.0, 1.0]])
    chosen = batch(np.vstack([same, other]), front, (10.0, 10.0), 3)
    assert sorted(chosen)[1:] == [50, 51]


def test_many_of_one_kind_do_not_hide_the_others() -> None:
    clones = 1 + np.random.default_rng(0).random((2 * SHORTLIST, 2)) / 1000
    candidates = np.vstack([clones, [[0.0, 8.0], [8.0, 0.0]]])
    chosen = batch(candidates, np.zeros((0, 2)), (10.0, 10.0), 3)
    assert sorted(chosen)[1:] == [len(clones), len(clones) + 1]


def test_none_comes_twice_where_none_adds_and_there_is_no_front() -> None:
    candidates = np.random.default_rng(0).random((300, 2)) + np.array([0.0, 1.5])
    for count in (40, 250, 300):
        rows = leading(candidates, np.zeros((0, 2)), (2.0, 2.0), count)
        assert len(set(rows.tolist())) == len(rows) == count
        chosen = batch(candidates, np.zeros((0, 2)), (2.0, 2.0), count)
        assert len(set(chosen)) == len(chosen) == count


def test_of_three_objectives_the_little_that_a_candidate_adds_is_seen() -> None:
    front = np.array([[5.0, 5.0, 5.0]])
    # The first is nearer to the front than the second, which alone adds: too little for few points.
    candidates = np.array([[5.0, 5.0, 5.1], [9.5, 4.5, 9.5]])
    quick = improvements(candidates, front, (10.0,) * 3, points=FEW_POINTS)
    assert quick.tolist() == [0.0, 0.0]
    assert batch(candidates, front, (10.0,) * 3, 1) == [1]


def test_where_nothing_adds_the_nearest_follow() -> None:
    front = np.array([[0.0, 1.0], [1.0, 0.0]])
    candidates = np.array([[1.0, 0.9], [0.6, 1.1], [0.1, 1.0], [1.0, 1.0]])
    assert batch(candidates, front, (2.0, 2.0), 3) == [2, 1, 0]


def test_nothing_gives_nothing() -> None:
    none = np.zeros((0, 2))
    assert batch(none, np.array([[1.0, 1.0]]), (2.0, 2.0), 3) == []
    assert improvements(none, none, (2.0, 2.0)).shape == (0,)


def test_a_candidate_beyond_the_reference_adds_nothing() -> None:
    found = improvements(np.array([[3.0, 0.0], [0.0, 3.0]]), np.zeros((0, 2)), (2.0, 2.0))
    assert found.tolist() == [0.0, 0.0]
