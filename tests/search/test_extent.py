"""Is the box of a history fixed by the request alone, each end by the rule that it says?"""

import math

import pytest

from nas.search.extent import Axis, FixedExtent, Span, fixed_extent
from nas.search.objective import Metric
from nas.search.spec import SearchSpec
from nas.task.image_classification import ACCURACY, Cifar10
from tests.report.samples import request

FLOPS = Span(10.0, 50.0, "the exact smallest", "the exact largest")


def axes(spec: SearchSpec, **spans: Span) -> dict[str, Axis]:
    found = fixed_extent(spec, {"flops": FLOPS, **spans})
    assert found is not None
    return {axis.metric: axis for axis in found.axes}


def test_a_cost_goes_over_its_span_and_a_score_from_a_guess_to_the_best() -> None:
    found = axes(request(objectives=("accuracy", "flops", "cross_entropy")))
    assert list(found) == ["accuracy", "flops", "cross_entropy"]
    assert found["flops"] == Axis("flops", 50.0, 10.0, "the exact largest", "the exact smallest")
    best, guess = "the best there can be", "an uninformed guess"
    assert found["cross_entropy"] == Axis("cross_entropy", math.log(10), 0.0, guess, best)
    assert found["accuracy"] == Axis("accuracy", 0.1, 1.0, guess, best)


def test_as_losses_it_is_in_the_order_of_the_request() -> None:
    spec = request(objectives=("flops", "accuracy"))
    found = fixed_extent(spec, {"flops": FLOPS})
    assert found is not None
    box = FixedExtent(found.axes[::-1]).normalizing(spec)
    assert (box.reference, box.ideal) == ((50.0, -0.1), (10.0, -1.0))


@pytest.mark.parametrize(
    ("constraint", "metric", "worst", "best", "binds"),
    [
        ("flops <= 4e7", "flops", 4e7, 1e7, True),
        ("flops <= 4e8", "flops", 5e7, 1e7, False),
        ("flops >= 2e7", "flops", 5e7, 2e7, True),
        ("accuracy >= 0.5", "accuracy", 0.5, 1.0, True),
        ("accuracy >= 0.05", "accuracy", 0.1, 1.0, False),
        ("params <= 4e5", "flops", 5e7, 1e7, False),
    ],
)
def test_a_constraint_cuts_an_objective_short_where_it_binds(
    constraint: str, metric: str, worst: float, best: float, binds: bool
) -> None:
    spec = request(objectives=("accuracy", "flops"), constraints=(constraint,))
    found = axes(spec, flops=Span(1e7, 5e7, "low", "high"))[metric]
    assert (found.worst, found.best) == (worst, best)
    told = f"the constraint {spec.parsed_constraints[0]}"
    assert (told in (found.worst_rule, found.best_rule)) == binds


def test_of_two_constraints_the_tighter_one_counts() -> None:
    spec = request(constraints=("flops <= 4e7", "flops <= 3e7", "flops <= 6e7"))
    found = axes(spec, flops=Span(1e7, 5e7, "low", "high"))["flops"]
    assert (found.worst, found.worst_rule) == (3e7, "the constraint flops <= 30000000")


@pytest.mark.parametrize(("only", "worst"), [(40.0, 40.4), (0.0, 0.01)])
def test_a_single_value_still_leaves_room_for_its_points(only: float, worst: float) -> None:
    found = axes(request(), flops=Span(only, only, "low", "high"))["flops"]
    assert found.best == only
    assert found.worst == pytest.approx(worst)
    assert found.worst_rule == "1% beyond low, as nothing lies between"
    spec = request(objectives=("accuracy", "flops"), constraints=("accuracy >= 1",))
    accuracy = axes(spec)["accuracy"]
    assert (accuracy.worst, accuracy.best) == (0.99, 1.0)


def test_an_objective_without_ends_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fixed_extent(request(), {}) is None
    assert fixed_extent(request(), {"flops": FLOPS}) is not None

    endless = Metric("cross_entropy", "minimize", "nats")
    monkeypatch.setattr(Cifar10, "metrics", (endless, ACCURACY))
    assert fixed_extent(request(), {"flops": FLOPS}) is None
    assert fixed_extent(request(objectives=("accuracy", "flops")), {"flops": FLOPS}) is not None


def test_the_record_gives_every_number_back() -> None:
    spec = request(constraints=("cross_entropy <= 1.1",))
    found = fixed_extent(spec, {"flops": Span(1 / 3, 1e300, "low", "high")})
    assert found is not None
    assert FixedExtent.from_text(found.to_text()) == found
