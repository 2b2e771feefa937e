"""Are two fronts compared at equal numbers, to one reference point, and only where they can be?"""

import json
from dataclasses import replace

import pytest

from nas.errors import NothingFeasible, SpecError
from nas.report.compare import compare_fronts
from nas.report.evidence import NOT_COMPARABLE, Verdict
from nas.report.table import hypervolumes
from nas.search.pareto import reference_point
from nas.search.trial import Trial
from tests.report.samples import controls, request, searched, trial


def test_both_are_taken_at_the_smaller_number() -> None:
    spec = request()
    first = searched(spec, 60) + controls(spec, 20, 0)
    second = searched(spec, 25, seed=4) + controls(spec, 20, 0, seed=4)
    found = compare_fronts((spec, first), (spec, second))
    assert found.comparison.n == 25
    pool = [each for each in (*first, *second) if each.role == "search"]
    worst = reference_point(pool, spec.parsed_objectives)
    assert tuple(found.reference.values()) == worst
    json.dumps(found.to_json(), allow_nan=False)


def test_swapping_the_sides_swaps_the_sign() -> None:
    spec = request()
    one = searched(spec, 40) + controls(spec, 20, 0)
    shifted = [trial("search", i, t.architecture, noise=0.3) for i, t in enumerate(one[:40])]
    two = [*shifted, *one[40:]]
    forward, backward = (compare_fronts((spec, a), (spec, b)) for a, b in ((one, two), (two, one)))
    assert forward.comparison.difference == pytest.approx(-backward.comparison.difference)
    assert forward.words[0].startswith("The first front covers more")
    assert backward.words[0].startswith("The second front covers more")


def test_a_front_is_not_better_than_itself() -> None:
    spec = request()
    one: list[Trial] = searched(spec, 40) + controls(spec, 20, 0)
    found = compare_fronts((spec, one), (spec, one))
    assert found.comparison.difference == 0
    assert found.words[0].startswith("Not resolved")
    assert not found.differences


def test_each_side_keeps_its_own_constraints() -> None:
    wide, tight = request(), request(constraints=("flops <= 4e7",))
    pool = searched(wide, 60) + controls(wide, 20, 0)
    found = compare_fronts((wide, pool), (tight, pool))
    assert found.comparison.search.mean > found.comparison.other.mean
    assert found.differences == ("constraints",)


def test_other_supernets_are_named() -> None:
    one, two = request(), request(seed=1)
    pool = searched(one, 30) + controls(one, 20, 0)
    found = compare_fronts((one, pool), (two, pool))
    assert found.differences == ("supernet",)
    assert found.comparison.verdict == "not comparable"
    assert found.words[0].startswith("Not comparable: the searches differ in supernet")
    assert "not on one scale" in found.words[0]
    assert not any("covers more" in sentence for sentence in found.words)


@pytest.mark.parametrize(
    ("one", "other", "named"),
    [
        ({"wall_hours": 1.0}, {}, ("supernet",)),
        ({"wall_hours": 1.0}, {"wall_hours": 2.0}, ("supernet",)),
        ({"wall_hours": 1.0}, {"device_hours": 1.0, "trials": 7}, ()),
    ],
)
def test_a_time_budget_makes_another_supernet(
    one: dict[str, float], other: dict[str, float], named: tuple[str, ...]
) -> None:
    first, second = request(budget=one), request(budget=other)
    pool = searched(first, 12) + controls(first, 6, 0)
    assert compare_fronts((first, pool), (second, pool)).differences == named


def test_different_questions_are_refused() -> None:
    one, two = request(), request(objectives=("cross_entropy", "params"))
    with pytest.raises(SpecError, match="objectives"):
        compare_fronts((one, searched(one, 5)), (two, searched(two, 5)))


def test_a_side_without_scores_is_named() -> None:
    spec = request(name="empty-one")
    with pytest.raises(NothingFeasible, match="empty-one"):
        compare_fronts((spec, []), (spec, searched(spec, 5)))


def test_other_workloads_are_named_where_something_is_measured_on_them() -> None:
    timed = {"constraints": ("latency_ms <= 5",)}
    for asked, named in (({}, ()), (timed, ("workload of latency_ms",))):
        one, two = request(**asked), request(**asked, latency={"batch": 8})
        plain = searched(request(), 30) + controls(request(), 20, 0)
        pool = [with_metrics(each, latency_ms=1.0) for each in plain]
        assert compare_fronts((one, pool), (two, pool)).differences == named


def test_latencies_of_other_workloads_are_not_on_one_scale() -> None:
    timed = {"objectives": ("cross_entropy", "latency_ms"), "prediction": {"timings": 0}}
    one, two = request(**timed), request(**timed, latency={"batch": 256})
    plain = searched(request(), 30) + controls(request(), 20, 0)
    fast, slow = (
        [with_metrics(each, latency_ms=scale * each.metrics["flops"]) for each in plain]
        for scale in (1e-6, 2e-4)
    )
    assert compare_fronts((one, fast), (two, slow)).comparison.verdict == NOT_COMPARABLE
    same = compare_fronts((one, fast), (one, slow)).comparison
    assert same.verdict != NOT_COMPARABLE
    # Each search predicts from timings of its own.
    own = compare_fronts((one, fast), (request(**{**timed, "prediction": {}}), slow))
    assert own.comparison.verdict == NOT_COMPARABLE
    assert own.differences == ("timings that latency_ms was predicted from",)
    said: dict[Verdict, str] = {"covers less": "first covers less", "not resolved": "not resolved"}
    for verdict, shown in said.items():
        decided = replace(same, verdict=verdict)
        assert hypervolumes([decided], "first", "second").rows[0][-1] == shown


def with_metrics(trial: Trial, **more: float) -> Trial:
    measurement = replace(trial.measurement, metrics={**trial.metrics, **more})
    return replace(trial, measurement=measurement)
