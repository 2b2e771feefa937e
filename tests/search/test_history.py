"""Is the curve the hypervolume of every prefix, and the control's its mean over random orders?"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from nas.search import history
from nas.search.extent import Axis, FixedExtent
from nas.search.history import (
    History,
    evaluations_to_reach,
    hypervolume_curve,
    in_order,
    search_curve,
)
from nas.search.pareto import hypervolume
from nas.search.trial import Measurement, Trial, TrialRole
from tests.report.samples import controls, request, searched

Points = NDArray[np.float64]

SMALLEST = request().search_space.extreme("smallest")
BOX = FixedExtent(
    (
        Axis("cross_entropy", 2.0, 0.0, "a guess", "the best there can be"),
        Axis("flops", 10.0, 0.0, "the exact largest", "nothing"),
    )
)


def points() -> st.SearchStrategy[Points]:
    """Losses of 2 to 4 objectives with ties, duplicates and rows that hold no number."""
    elements = st.integers(0, 6).map(float) | st.sampled_from([math.inf, math.nan, -math.inf])
    shapes = st.tuples(st.integers(0, 20), st.integers(2, 4))
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=elements))


def of_every_prefix(losses: Points, reference: Sequence[float]) -> list[float]:
    """By its definition: all over again after each row."""
    known = np.where(np.isfinite(losses).all(axis=1, keepdims=True), losses, np.inf)
    return [hypervolume(known[: n + 1], reference) for n in range(len(known))]


def made(
    index: int, loss: float, flops: float, role: TrialRole = "search", **changes: Any
) -> Trial:
    measured = Measurement.of({"cross_entropy": loss, "flops": flops, "params": flops})
    return replace(Trial(role, index, SMALLEST, measured), **changes)


class TestTheCurve:
    @given(points(), st.integers(1, 7))
    def test_is_the_hypervolume_of_every_prefix(self, losses: Points, side: int) -> None:
        reference = [float(side)] * losses.shape[1]
        found = hypervolume_curve(losses, reference)
        assert found == pytest.approx(of_every_prefix(losses, reference), rel=1e-12, abs=1e-12)

    @pytest.mark.parametrize("objectives", [2, 3, 4])
    def test_so_it_is_where_rows_are_looked_at_in_blocks(self, objectives: int) -> None:
        rng = np.random.default_rng(objectives)
        losses = rng.random((3000, objectives))
        losses[500:600] = losses[:100]
        reference = np.full(objectives, 0.9)
        found = hypervolume_curve(losses, reference)
        for n in (1, 15, 16, 17, 100, 541, 1777, 2999, 3000):
            assert found[n - 1] == pytest.approx(hypervolume(losses[:n], reference), rel=1e-12)
        assert (np.diff(found) >= 0).all()

    def test_costs_a_hypervolume_only_where_a_row_enters_the_front(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = np.random.default_rng(0).random((10_000, 3))
        asked = []

        def counted(losses: Points, reference: Points) -> float:
            asked.append(len(losses))
            return hypervolume(losses, reference)

        monkeypatch.setattr(history, "hypervolume", counted)
        found = hypervolume_curve(rows, [1.0] * 3)
        assert len(asked) == np.count_nonzero(np.diff(found, prepend=0.0)) < 300

    def test_a_worked_example(self) -> None:
        losses = np.array([[1.0, 3], [5, 0], [3, 1], [2, 2], [1, 1], [0, 0]])
        # Of (4, 4): 3 x 1; (5, 0) is beyond it; then steps that (1, 1) and (0, 0) swallow.
        assert hypervolume_curve(losses, [4.0, 4.0]).tolist() == [3, 3, 5, 6, 9, 16]

    def test_of_nothing_is_nothing(self) -> None:
        assert hypervolume_curve(np.empty((0, 2)), [1.0, 1.0]).tolist() == []


class TestWhatBenchmarksShare:
    def test_evaluations_to_reach(self) -> None:
        curve = [0.0, 0.2, 0.2, 0.5]
        reached = [evaluations_to_reach(curve, level) for level in (0.0, 0.1, 0.2, 0.21, 0.5, 0.6)]
        assert reached == [1, 2, 2, 4, 4, None]
        assert evaluations_to_reach([], 0.0) is None
        # The same volumes, added in another order.
        assert evaluations_to_reach([0.1 + 0.2 + 0.3], 0.3 + 0.2 + 0.1) == 1
        assert evaluations_to_reach([0.3 + 0.2 + 0.1], 0.1 + 0.2 + 0.3) == 1

    @given(st.lists(st.integers(0, 9).map(float), max_size=8), st.integers(0, 9))
    def test_evaluations_to_reach_is_the_first_that_does(
        self, gains: list[float], level: int
    ) -> None:
        curve = list(itertools.accumulate(gains))
        found = evaluations_to_reach(curve, level)
        first = next((n for n, value in enumerate(curve, 1) if value >= level), None)
        assert found == first


class TestTheTrialsOfASearch:
    def test_count_by_their_index_and_what_has_no_score_adds_nothing(self) -> None:
        failed = made(2, 0.1, 0.1, measurement=Measurement.failed("no memory"))
        slow = Measurement({"cross_entropy": 0.1, "flops": 0.1}, "infeasible", "too slow")
        trials = [
            made(5, 1.0, 2.0),
            made(0, 1.0, 5.0),
            made(3, 0.1, 0.1, measurement=slow),
            failed,
            made(1, 2.0, 1.0),
            made(4, 0.5, 10.0),
            made(0, 0.0, 0.0, "random"),
            made(0, 0.0, 0.0, "matched"),
        ]
        # 1/2 of 5/10; a worst value, two without a score, a worst value; 1/2 of 8/10.
        expected = [0.25, 0.25, 0.25, 0.25, 0.25, 0.4]
        assert search_curve(request(), trials, BOX).tolist() == pytest.approx(expected, abs=1e-15)

    def test_keep_the_constraints(self) -> None:
        spec = request(constraints=("accuracy >= 0.5",))
        trials = [
            replace(each, measurement=Measurement.of({**each.metrics, "accuracy": accuracy}))
            for each, accuracy in ((made(0, 1.0, 5.0), 0.49), (made(1, 1.0, 4.0), 0.5))
        ]
        assert search_curve(spec, trials, BOX).tolist() == pytest.approx([0.0, 0.3])

    def test_better_than_the_ideal_is_the_ideal(self) -> None:
        assert search_curve(request(), [made(0, -1.0, 5.0)], BOX).tolist() == [0.5]

    def test_a_maximised_metric_has_its_worst_value_below(self) -> None:
        axes = (Axis("accuracy", 0.1, 1.0, "a guess", "all"), BOX.axes[1])
        spec = request(objectives=("accuracy", "flops"))
        metrics = {"accuracy": 0.55, "flops": 4.0}
        trials = [made(0, 1, 1, measurement=Measurement.of(metrics))]
        assert search_curve(spec, trials, FixedExtent(axes)).tolist() == pytest.approx([0.3])

    def test_after_a_missing_one_there_is_no_figure_yet(self) -> None:
        trials = [made(index, 1.0, 5.0) for index in (0, 1, 3, 4)]
        assert [trial.index for trial in in_order(trials, "search")] == [0, 1]
        assert len(History.of(request(), trials, BOX).search) == 2
        assert in_order(trials[2:], "search") == []

    def test_the_curve_does_not_move_while_the_search_goes_on(self) -> None:
        spec = request()
        trials = searched(spec, 40)
        box = FixedExtent((BOX.axes[0], Axis("flops", 4e8, 0.0, "", "")))
        whole = search_curve(spec, trials, box).tolist()
        assert 0 < whole[0] < whole[-1] < 1
        for n in (1, 7, 25):
            assert search_curve(spec, trials[:n], box).tolist() == whole[:n]


class TestTheRandomControl:
    POOL = ((1.9, 1.0), (0.5, 9.0), (1.0, 5.0), (1.2, 6.0), (0.6, 8.0))

    def control(self, pool: Sequence[tuple[float, float]]) -> list[Trial]:
        return [made(i, loss, flops, "random") for i, (loss, flops) in enumerate(pool)]

    def found(self, trials: Sequence[Trial]) -> History:
        return History.of(request(), [made(0, 1.0, 5.0), *trials], BOX)

    def test_is_the_mean_and_spread_over_random_orders_of_its_trials(self) -> None:
        failed = made(5, 0, 0, "random", measurement=Measurement.failed("no memory"))
        control = self.found([*self.control(self.POOL), failed]).random
        assert control is not None
        assert control.orders == 100
        places: list[tuple[float, float] | None] = [*self.POOL, None]
        rows = np.array([(math.inf, math.inf) if each is None else each for each in places])
        assert control.as_run == pytest.approx(
            [hypervolume(rows[: n + 1] / (2, 10), [1.0, 1.0]) for n in range(6)]
        )
        for n in range(1, 7):
            every = [
                hypervolume(rows[list(taken)] / (2, 10), [1.0, 1.0])
                for taken in itertools.combinations(range(6), n)
            ]
            mean, deviation = float(np.mean(every)), float(np.std(every))
            # Five standard errors of 100 orders; the deviation's is about 7% of it.
            assert abs(control.mean[n - 1] - mean) <= 5 * deviation / 10 + 1e-12
            assert control.deviation[n - 1] == pytest.approx(deviation, rel=0.35, abs=1e-12)

    def test_ends_where_all_its_trials_are_in_whatever_their_order(self) -> None:
        spec = request()
        trials = controls(spec, 30, 0)
        box = FixedExtent((BOX.axes[0], Axis("flops", 4e8, 0.0, "", "")))
        control = History.of(spec, trials, box).random
        assert control is not None
        assert control.deviation[-1] == 0
        assert control.mean[-1] == pytest.approx(control.as_run[-1], rel=1e-12)
        assert all(one <= other for one, other in itertools.pairwise(control.mean))
        backwards = [replace(each, index=29 - each.index) for each in trials]
        turned = History.of(spec, backwards, box).random
        assert turned is not None
        assert turned.mean[-1] == pytest.approx(control.mean[-1], rel=1e-12)

    def test_is_the_same_for_the_same_trials(self) -> None:
        trials = self.control(self.POOL)
        assert self.found(trials) == self.found(trials[::-1])

    def test_a_long_one_is_taken_in_fewer_orders(self) -> None:
        long = [made(i, 3.0, 20.0, "random") for i in range(20_000)]
        control = self.found(long).random
        assert control is not None
        assert (control.orders, set(control.mean)) == (50, {0.0})

    def test_without_one_there_is_none(self) -> None:
        alone = self.found([])
        assert (alone.random, alone.equal_n) == (None, 0)

    def test_both_are_held_against_each_other_at_the_smaller_number(self) -> None:
        assert self.found(self.control(self.POOL)).equal_n == 1
        more = [made(index, 1.0, 5.0) for index in range(1, 9)]
        assert self.found([*more, *self.control(self.POOL)]).equal_n == 5
