"""Do timings in turns tell networks apart while the machine's speed changes?"""

import itertools
import random
from typing import Any

import pytest

from nas.search.spec import SearchSpec, load_spec
from nas.search.timing import REFERENCE, steady, turn, turn_workload
from nas.search.trial import Measurement, Proposal, Trial, TrialRole
from nas.search.workload import Workload
from nas.space.architecture import Architecture
from nas.space.task_shape import TextShape


def request(**changes: Any) -> SearchSpec:
    return load_spec({"name": "x", "task": "digits", "space": "digits_tiny", **changes})


SPEC = request(objectives=["cross_entropy", "latency_ms"])
BESIDE = SPEC.search_space.sample(random.Random("reference"))
NETWORKS = [SPEC.search_space.sample(random.Random(i)) for i in range(4)]
TIMES = dict(zip(NETWORKS, (1.0, 2.0, 5.0, 9.0), strict=True))


def took(architecture: Architecture) -> float:
    """Milliseconds on an undisturbed machine; the reference takes 4."""
    return TIMES.get(architecture, 4.0)


def proposed(role: TrialRole, rounds: int) -> list[Proposal]:
    found: list[Proposal] = []
    for _ in range(rounds):
        found += turn(BESIDE, role, len(found), [(each, "") for each in NETWORKS])
    return found


def timed(role: TrialRole, slow: Any, rounds: int = 3) -> list[Trial]:
    """Trials on a machine that is `slow(i)` times as slow at the i-th."""
    return [
        Trial(
            role,
            each.index,
            each.architecture,
            Measurement.of({"latency_ms": slow(each.index) * took(each.architecture), "params": 7}),
            each.label,
        )
        for each in proposed(role, rounds)
    ]


def test_every_network_stands_between_two_references() -> None:
    found = turn(BESIDE, "timed", 10, [(each, "a") for each in NETWORKS])
    assert [each.index for each in found] == list(range(10, 19))
    assert [each.label for each in found] == [REFERENCE, *4 * ["a", REFERENCE]]
    assert len({each.architecture for each in found if each.label == REFERENCE}) == 1
    assert found == turn(BESIDE, "timed", 10, [(each, "a") for each in NETWORKS])


def test_on_a_steady_machine_figures_are_those_that_were_taken() -> None:
    found = steady(SPEC, timed("timed", lambda _: 1.0), "timed")
    assert {each: metrics["latency_ms"] for each, metrics in found.items()} == TIMES


@pytest.mark.parametrize("period", [9, 27, 1000])
def test_slow_phases_are_taken_out(period: int) -> None:
    # Half of the time, whole turns or all that follows, half as fast; 4 is the usual reference.
    found = steady(SPEC, timed("timed", lambda i: 1 + (i // period) % 2, rounds=5), "timed")
    assert {each: metrics["latency_ms"] for each, metrics in found.items()} == pytest.approx(TIMES)


def test_a_slow_drift_is_taken_out() -> None:
    found = steady(SPEC, timed("timed", lambda i: 1 + 0.02 * i), "timed")
    ratios = [metrics["latency_ms"] / TIMES[each] for each, metrics in found.items()]
    # All by the speed in the middle, whose reference is the median.
    assert ratios == pytest.approx([1.26] * 4, rel=0.01)


def test_one_disturbed_turn_is_no_more_than_one_of_three() -> None:
    found = steady(SPEC, timed("timed", lambda i: 30.0 if i == 3 else 1.0), "timed")
    assert {each: metrics["latency_ms"] for each, metrics in found.items()} == TIMES


def test_the_front_is_told_at_the_speed_of_the_timings() -> None:
    before = timed("timed", lambda _: 1.0)
    after = timed("remeasured", lambda _: 1.6)
    found = steady(SPEC, [*after, *before], "remeasured")
    assert {each: metrics["latency_ms"] for each, metrics in found.items()} == pytest.approx(TIMES)


def test_without_timings_the_speed_is_that_of_the_turns_themselves() -> None:
    found = steady(SPEC, timed("remeasured", lambda i: 1.6 if i > 3 else 16.0), "remeasured")
    expected = {each: 1.6 * time for each, time in TIMES.items()}
    assert {each: m["latency_ms"] for each, m in found.items()} == pytest.approx(expected)


def test_measured_costs_alone_are_told() -> None:
    given = timed("timed", lambda i: 1 + 0.1 * i)
    assert {name for found in steady(SPEC, given, "timed").values() for name in found} == {
        "latency_ms"
    }


def test_what_failed_counts_nowhere() -> None:
    given = timed("timed", lambda _: 1.0)
    lost = Measurement.failed("no clock")
    # A network in one turn, one in all turns, and the references beside a third.
    gone = {1, *(t.index for t in given if t.architecture == NETWORKS[1]), 4, 6}
    left = [
        t if t.index not in gone else Trial("timed", t.index, t.architecture, lost, t.label)
        for t in given
    ]
    found = steady(SPEC, left, "timed")
    kept = {each: ms for each, ms in TIMES.items() if each != NETWORKS[1]}
    assert {each: metrics["latency_ms"] for each, metrics in found.items()} == kept
    assert steady(SPEC, [t for t in given if t.label != REFERENCE], "timed").keys() == TIMES.keys()
    assert steady(SPEC, [], "timed") == {}


def test_order_of_the_trials_decides_nothing() -> None:
    given = timed("timed", lambda i: 1 + 0.3 * (i % 3))
    first = steady(SPEC, given, "timed")
    for order in itertools.islice(itertools.permutations(given[:5]), 0, 120, 17):
        assert steady(SPEC, [*given[5:], *order], "timed") == first


@pytest.mark.parametrize(("rounds", "share"), [(1, 20), (5, 4), (3, 7), (40, 1)])
def test_turns_share_the_repetitions(rounds: int, share: int) -> None:
    spec = request(prediction={"rounds": rounds}, latency={"repetitions": 20, "batch": 3})
    assert (turn_workload(spec).repetitions, turn_workload(spec).batch) == (share, 3)


def test_a_workload_is_told_in_words() -> None:
    sentences = TextShape(500, 500, source_length=20, target_length=12)
    assert Workload(threads=2).told(SPEC.task_shape) == "cpu, float32, batch 1, 2 threads"
    told = Workload(device="cuda", dtype="bfloat16", source_length=9).told(sentences)
    assert told == "cuda, bfloat16, batch 1, beam 4, 9 source and 30 target tokens"
