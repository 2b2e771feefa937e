"""The numbers by which a search is browsed are right, and where they are the report's, the same."""

import pytest

from nas.report.summary import summarize
from nas.search.figures import figures, hypervolumes
from nas.search.spec import SearchSpec
from nas.search.trial import Measurement, Trial, TrialRole
from nas.space.architecture import Architecture
from tests.report.samples import controls, request, searched

SPEC: SearchSpec = request()
SMALLEST: Architecture = SPEC.search_space.extreme("smallest")


def made(index: int, measurement: Measurement, role: TrialRole = "search") -> Trial:
    return Trial(role, index, SMALLEST, measurement)


def test_how_far_a_search_has_come() -> None:
    trials = [
        made(0, Measurement.of({"cross_entropy": 2.0, "flops": 10.0})),
        made(1, Measurement.of({"cross_entropy": 1.0, "flops": 20.0})),
        made(2, Measurement.of({"cross_entropy": 3.0, "flops": 20.0})),
        made(3, Measurement.failed("no memory")),
        made(4, Measurement({"cross_entropy": 0.1, "flops": 1.0}, "infeasible", "too slow")),
        made(0, Measurement.of({"cross_entropy": 0.5, "flops": 1.0}), "random"),
    ]
    assert figures(SPEC, trials) == {
        "trials/search": 5,
        "trials/random": 1,
        "best/cross_entropy": 1.0,
        "front_size": 2,
    }
    assert figures(SPEC, trials[3:4]) == {"trials/search": 1}
    assert figures(SPEC, []) == {}


def test_the_best_is_by_the_tasks_own_metric_and_keeps_the_constraints() -> None:
    spec = request(objectives=["flops", "accuracy"], constraints=["params <= 50000"])
    trials = [
        made(0, Measurement.of({"cross_entropy": 2, "flops": 1, "accuracy": 0.9, "params": 49e3})),
        made(1, Measurement.of({"cross_entropy": 1, "flops": 2, "accuracy": 0.1, "params": 51e3})),
    ]
    found = figures(spec, trials)
    assert (found["best/cross_entropy"], found["front_size"]) == (2, 1)
    none = figures(spec, trials[1:])
    assert none == {"trials/search": 1, "front_size": 0}


@pytest.mark.parametrize("count", [30, 5])
def test_hypervolumes_are_those_of_the_report_at_equal_n(count: int) -> None:
    trials = [*searched(SPEC, 30), *controls(SPEC, count, 4)]
    # A rival of one member is no control: were it one, the reference would lie elsewhere.
    trials.append(made(0, Measurement.of({"cross_entropy": 9.0, "flops": 1e12}), "matched"))
    found = hypervolumes(SPEC, trials)
    comparisons = summarize(SPEC, trials).comparisons
    assert len(comparisons) == 2 + len(SPEC.search_space.all_attentions)
    expected = {}
    for each in comparisons:
        expected[f"hypervolume_of_{each.n}/{each.control}"] = each.other.mean
        expected[f"hypervolume_of_{each.n}/search"] = each.search.mean
    assert found == pytest.approx(expected)
    assert all(0 < value <= 1 for value in found.values())


def test_without_a_control_or_a_scored_trial_there_is_none() -> None:
    assert hypervolumes(SPEC, searched(SPEC, 3)) == {}
    assert hypervolumes(SPEC, controls(SPEC, 2, 1)) == {}
    assert hypervolumes(SPEC, []) == {}
