"""Are domination, crowding, hypervolume and the front what their definitions say?"""

import itertools
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from nas.errors import NothingFeasible
from nas.search.objective import Constraint, Metric, Objective
from nas.search.pareto import (
    ParetoFront,
    crowding_distance,
    hypervolume,
    hypervolume_at,
    ideal_point,
    non_dominated,
    non_dominated_sort,
    normalized,
    reference_point,
)
from nas.search.trial import Measurement, Trial, TrialRole, TrialState
from nas.space.architecture import Encoder

Points = NDArray[np.float64]

ACCURACY = Objective(Metric("accuracy", "maximize", "fraction"))
FLOPS = Objective(Metric("flops", "minimize", "operations", analytic=True))
BOTH = (ACCURACY, FLOPS)


def points(largest: int = 20, value: int = 6) -> st.SearchStrategy[Points]:
    """Integer losses of 2 to 4 objectives: many ties, many duplicates."""
    shapes = st.tuples(st.integers(0, largest), st.integers(2, 4))
    return shapes.flatmap(
        lambda s: arrays(np.float64, s, elements=st.integers(0, value).map(float))
    )


def dominates(one: Points, other: Points) -> bool:
    return bool(all(one <= other) and any(one < other))


def brute_force_front(losses: Points) -> list[bool]:
    return [not any(dominates(other, row) for other in losses) for row in losses]


def inclusion_exclusion(losses: Points, reference: Points) -> float:
    """The volume of a union of boxes, from the volumes of all their intersections."""
    total = 0.0
    for size in range(1, len(losses) + 1):
        for chosen in itertools.combinations(losses, size):
            corner = np.max(chosen, axis=0)
            total -= (-1) ** size * float(np.prod(np.maximum(0, reference - corner)))
    return total


def unit_cells(losses: Points, side: int) -> int:
    """The volume of integer points to the reference (side, ...), by counting unit cells."""
    cells = itertools.product(range(side), repeat=losses.shape[1])
    return sum(any(all(row <= cell) for row in losses) for cell in cells)


def trial(
    index: int,
    accuracy: float,
    flops: float,
    role: TrialRole = "search",
    state: TrialState = "succeeded",
) -> Trial:
    measurement = Measurement({"accuracy": accuracy, "flops": flops}, state)
    return Trial(role, index, Encoder(patch_size=1, width=index + 1), measurement)


class TestDomination:
    @given(points())
    def test_the_front_is_what_all_pairs_say(self, losses: Points) -> None:
        assert non_dominated(losses).tolist() == brute_force_front(losses)

    @given(points())
    def test_ranks_are_fronts_peeled_off(self, losses: Points) -> None:
        ranks = non_dominated_sort(losses)
        left = np.arange(len(losses))
        for rank in range(len(losses)):
            front = np.array(brute_force_front(losses[left]), dtype=bool)
            assert (ranks[left] == rank).tolist() == front.tolist()
            left = left[~front]

    @given(points(), st.randoms(use_true_random=False))
    def test_order_does_not_matter(self, losses: Points, rng: random.Random) -> None:
        order = list(range(len(losses)))
        rng.shuffle(order)
        assert (
            non_dominated_sort(losses[order]).tolist() == non_dominated_sort(losses)[order].tolist()
        )

    @pytest.mark.parametrize("objectives", [2, 3, 4])
    def test_ten_thousand_points(self, objectives: int) -> None:
        losses = np.random.default_rng(objectives).random((10_000, objectives))
        losses[5_000:5_050] = losses[:50]
        mask = non_dominated(losses)
        front, rest = losses[mask], losses[~mask]
        covered = np.zeros(len(rest), dtype=bool)
        for row in front:
            assert not ((front <= row).all(axis=1) & (front < row).any(axis=1)).any()
            covered |= (row <= rest).all(axis=1)
        assert covered.all()

    def test_equal_points_are_all_kept(self) -> None:
        losses = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [1.0, 3.0], [2.0, 2.0]])
        assert non_dominated(losses).tolist() == [True, True, True, False, False]
        assert non_dominated_sort(losses).tolist() == [0, 0, 0, 1, 1]


class TestCrowding:
    def test_a_worked_example(self) -> None:
        losses = np.array([[0.0, 10.0], [1.0, 6.0], [3.0, 4.0], [10.0, 0.0]])
        inner = [3 / 10 + 6 / 10, 9 / 10 + 6 / 10]
        assert crowding_distance(losses) == pytest.approx([math.inf, *inner, math.inf])

    def test_one_or_two_are_never_crowded(self) -> None:
        assert crowding_distance(np.zeros((2, 2))).tolist() == [math.inf, math.inf]
        assert crowding_distance(np.zeros((0, 2))).tolist() == []

    def test_an_objective_without_spread_says_nothing(self) -> None:
        losses = np.array([[0.0, 5.0], [1.0, 5.0], [4.0, 5.0]])
        assert crowding_distance(losses) == pytest.approx([math.inf, 1.0, math.inf])
        assert crowding_distance(np.ones((3, 2))).tolist() == [0.0, 0.0, 0.0]


class TestHypervolume:
    @pytest.mark.parametrize(
        ("losses", "reference", "volume"),
        [
            ([[1, 3], [2, 2], [3, 1]], [4, 4], 6.0),
            ([[1, 1]], [4, 3], 6.0),
            ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [2, 2, 2], 7.0),
            ([[0, 0, 0, 0]], [1, 2, 3, 4], 24.0),
            ([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], [2, 2, 2, 2], 15.0),
            # Not better than the reference in every objective: nothing.
            ([[0, 4], [5, 0], [4, 4]], [4, 4], 0.0),
            ([[1, 3], [0, 9]], [4, 4], 3.0),
            ([], [4, 4], 0.0),
        ],
    )
    def test_known_values(
        self, losses: Sequence[Sequence[float]], reference: Sequence[float], volume: float
    ) -> None:
        rows = np.array(losses, dtype=float).reshape(-1, len(reference))
        assert hypervolume(rows, reference) == pytest.approx(volume, rel=1e-12)

    @given(points(largest=7))
    def test_inclusion_and_exclusion_agree(self, losses: Points) -> None:
        reference = np.arange(5.0, 5.0 + losses.shape[1])
        assert hypervolume(losses, reference) == pytest.approx(
            inclusion_exclusion(losses, reference), rel=1e-12, abs=1e-12
        )

    @settings(max_examples=40)
    @given(points(largest=40, value=5))
    def test_counted_cells_agree(self, losses: Points) -> None:
        assert hypervolume(losses, [6.0] * losses.shape[1]) == unit_cells(losses, 6)

    @pytest.mark.parametrize("objectives", [2, 3, 4])
    def test_a_monte_carlo_estimate_agrees(self, objectives: int) -> None:
        rng = np.random.default_rng(objectives)
        losses = rng.random((60, objectives))
        draws = rng.random((100_000, objectives))
        hits = np.zeros(len(draws), dtype=bool)
        for row in losses:
            hits |= (row <= draws).all(axis=1)
        share = hits.mean()
        deviation = math.sqrt(share * (1 - share) / len(draws))
        assert abs(hypervolume(losses, [1.0] * objectives) - share) < 4 * deviation

    @given(points(), st.data())
    def test_another_point_never_lowers_it_and_order_does_not_matter(
        self, losses: Points, data: st.DataObject
    ) -> None:
        reference = [5.0] * losses.shape[1]
        volume = hypervolume(losses, reference)
        cut = data.draw(st.integers(0, len(losses)))
        assert hypervolume(losses[:cut], reference) <= volume
        assert hypervolume(losses[::-1], reference) == pytest.approx(volume)
        assert hypervolume(losses[non_dominated(losses)], reference) == pytest.approx(volume)

    def test_lengths_must_agree(self) -> None:
        with pytest.raises(ValueError, match="3 losses a point, 2 in the reference"):
            hypervolume(np.zeros((2, 3)), [1.0, 1.0])


class TestFront:
    def test_members_are_the_best_trade_offs_sorted_by_the_first_objective(self) -> None:
        trials = [
            trial(0, 0.7, 10),
            trial(1, 0.9, 30),
            trial(2, 0.8, 20),
            trial(3, 0.8, 25),
            trial(4, 0.9, 30),
            trial(5, 0.99, 5, state="infeasible"),
            Trial("search", 6, Encoder(1, 1), Measurement.failed("out of memory")),
        ]
        front = ParetoFront.of(reversed(trials), BOTH)
        assert [each.index for each in front.members] == [1, 4, 2, 0]
        assert front.losses.tolist() == [[-0.9, 30], [-0.9, 30], [-0.8, 20], [-0.7, 10]]
        assert front.objectives == BOTH

    def test_what_breaks_a_constraint_is_not_in_it(self) -> None:
        trials = [trial(0, 0.7, 10), trial(1, 0.9, 30), trial(2, 0.8, 20)]
        constraints = [Constraint("flops", "<=", 20), Constraint("accuracy", ">=", 0.75)]
        front = ParetoFront.of(trials, BOTH, constraints)
        assert [each.index for each in front.members] == [2]

    def test_an_empty_front_covers_nothing(self) -> None:
        for trials in ([], [trial(0, 0.5, 10, state="failed")]):
            front = ParetoFront.of(trials, BOTH)
            assert front.members == ()
            assert front.hypervolume((0.0, 100.0)) == 0.0

    def test_the_reference_is_the_worst_of_all_and_a_hundredth_of_the_range(self) -> None:
        trials = [
            trial(0, 0.7, 10),
            trial(1, 0.9, 30, role="random"),
            trial(2, 0.1, 5e9, state="failed"),
        ]
        assert reference_point(trials, BOTH) == pytest.approx((-0.7 + 0.002, 30.2))
        assert ideal_point(trials, BOTH) == (-0.9, 10)
        volume = ParetoFront.of(trials, BOTH).hypervolume(reference_point(trials, BOTH))
        assert volume == pytest.approx(0.202 * 0.2 + 0.002 * 20)

    def test_a_reference_of_equal_values_lies_strictly_beyond_them(self) -> None:
        assert reference_point([trial(0, 0.5, 0)], BOTH) == pytest.approx((-0.495, 0.01))
        with pytest.raises(NothingFeasible, match="no trial is scored"):
            reference_point([trial(0, 0.5, 1, state="failed")], BOTH)

    def test_normalised_losses_cover_a_share_of_one(self) -> None:
        trials = [trial(0, 0.7, 10), trial(1, 0.9, 30), trial(2, 0.8, 20)]
        reference, ideal = reference_point(trials, BOTH), ideal_point(trials, BOTH)
        front = ParetoFront.of(trials, BOTH)
        size = math.prod(worst - best for worst, best in zip(reference, ideal, strict=True))
        share = front.hypervolume(reference, ideal)
        assert share == pytest.approx(front.hypervolume(reference) / size)
        assert 0 < share < 1
        assert normalized(np.array([ideal, reference]), reference, ideal).tolist() == [
            [0, 0],
            [1, 1],
        ]
        better = normalized(np.array([[-2.0, 0.0]]), reference, ideal)
        assert hypervolume(better, [1.0, 1.0]) == 1.0


class TestEqualNumbers:
    TRIALS = (trial(0, 0.7, 10), trial(1, 0.9, 30), trial(2, 0.8, 20), trial(3, 0.6, 25))
    REFERENCE = (0.0, 40.0)

    def test_subsamples_have_the_mean_of_all_subsets(self) -> None:
        exact = [
            ParetoFront.of(chosen, BOTH).hypervolume(self.REFERENCE)
            for chosen in itertools.combinations(self.TRIALS, 2)
        ]
        mean, deviation = hypervolume_at(
            self.TRIALS, BOTH, self.REFERENCE, 2, repeats=4_000, seed=3
        )
        assert mean == pytest.approx(
            np.mean(exact), abs=float(4 * np.std(exact)) / math.sqrt(4_000)
        )
        assert deviation == pytest.approx(np.std(exact), rel=0.1)

    def test_all_of_them_are_no_sample(self) -> None:
        volume = ParetoFront.of(self.TRIALS, BOTH).hypervolume(self.REFERENCE)
        found = hypervolume_at(self.TRIALS, BOTH, self.REFERENCE, 4)
        assert found == pytest.approx((volume, 0.0))
        ideal = ideal_point(self.TRIALS, BOTH)
        share = ParetoFront.of(self.TRIALS, BOTH).hypervolume(self.REFERENCE, ideal)
        found = hypervolume_at(self.TRIALS, BOTH, self.REFERENCE, 4, ideal=ideal)
        assert found == pytest.approx((share, 0.0))

    def test_only_scored_trials_count_and_those_that_break_a_constraint_add_nothing(self) -> None:
        trials = [*self.TRIALS, trial(4, 1.0, 1, state="failed")]
        with pytest.raises(ValueError, match="subsamples of 5 of 4 scored trials"):
            hypervolume_at(trials, BOTH, self.REFERENCE, 5)
        bound = (Constraint("flops", "<=", 15),)
        found = hypervolume_at(trials, BOTH, self.REFERENCE, 4, constraints=bound)
        assert found[0] == pytest.approx(0.7 * 30)
        assert hypervolume_at([], BOTH, self.REFERENCE, 0) == (0.0, 0.0)

    def test_the_seed_decides(self) -> None:
        found = [hypervolume_at(self.TRIALS, BOTH, self.REFERENCE, 2, seed=s) for s in (1, 1, 2)]
        assert found[0] == found[1] != found[2]
