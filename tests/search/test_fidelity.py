"""Which networks check a ranking, by which recipe, and what is kept of a ranker's test?"""

import itertools
import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from nas.errors import SpecError
from nas.search.fidelity import (
    Agreements,
    RankerTest,
    learnt_and_unseen,
    networks_to_train,
    short_recipe,
)
from nas.search.pareto import front_of
from nas.search.rank_correlation import RankAgreement
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import Measurement, Trial
from nas.space.architecture import Architecture

BASE: dict[str, Any] = {"name": "demo", "task": "digits", "space": "digits_tiny"}


def asked(**changes: Any) -> SearchSpec:
    return load_spec(BASE | changes)


@cache
def drawn(count: int) -> tuple[Architecture, ...]:
    """So many different networks."""
    rng, space = random.Random(0), asked().search_space
    found = dict[Architecture, None]()
    while len(found) < count:
        found[space.sample(rng)] = None
    return tuple(found)


def scored(count: int, *, controls: int = 0, first: int = 0) -> list[Trial]:
    """Trials with drawn scores and costs, from the `first` network on, and controls with theirs."""
    rng = random.Random(first)
    found = []
    for place, architecture in enumerate(drawn(800)[first : first + count + controls]):
        role, index = ("search", first + place) if place < count else ("random", place - count)
        metrics = {"cross_entropy": rng.random(), "flops": rng.random()}
        found.append(Trial(role, index, architecture, Measurement.of(metrics)))  # type: ignore[arg-type]
    return found


def ids(trials: list[Trial]) -> list[str]:
    return [trial.architecture.id for trial in trials]


def loss(trial: Trial) -> float:
    return trial.metrics["cross_entropy"]


@pytest.mark.parametrize("networks", [8, 24, 61])
def test_half_are_of_the_front_and_half_lie_below_it(networks: int) -> None:
    spec = asked(fidelity={"networks": networks})
    trials = scored(400, controls=300)
    # A front of many: on a line that everything else lies below.
    trials += [
        replace(each, measurement=Measurement.of(
            {"cross_entropy": -1 - i / 40, "flops": -2 + i / 40}))
        for i, each in enumerate(scored(40, first=700))
    ]  # fmt: skip
    front = sorted(front_of(spec, trials).members, key=loss)
    assert len(front) == 40
    chosen = networks_to_train(spec, trials)
    assert len(set(ids(chosen))) == networks
    of_front = sorted((each for each in chosen if each in front), key=loss)
    assert len(of_front) == (networks + 1) // 2
    assert (of_front[0], of_front[-1]) == (front[0], front[-1])
    places = [front.index(each) for each in of_front]
    gaps = {right - left for left, right in itertools.pairwise(places)}
    assert max(gaps) - min(gaps) <= 1
    # One out of every equal share of what lies below, ordered by score.
    below = sorted((each for each in trials if each not in front), key=loss)
    shares = networks // 2
    found = [below.index(each) * shares // len(below) for each in chosen if each in below]
    assert sorted(found) == list(range(shares))
    assert {each.role for each in chosen} == {"search", "random"}


def test_one_side_gives_what_the_other_lacks() -> None:
    spec = asked(fidelity={"networks": 8})
    line = [
        replace(each, measurement=Measurement.of({"cross_entropy": i, "flops": -i}))
        for i, each in enumerate(scored(10))
    ]
    worse = [
        replace(each, measurement=Measurement.of({"cross_entropy": 50 + i, "flops": 50}))
        for i, each in enumerate(scored(10, first=10))
    ]
    for front, below, of_front in ((10, 2, 6), (2, 10, 2), (10, 10, 4), (3, 3, 3), (0, 0, 0)):
        chosen = networks_to_train(spec, [*line[:front], *worse[:below]])
        assert len(set(ids(chosen))) == len(chosen) == min(8, front + below)
        assert sum(each in line for each in chosen) == of_front


def test_the_choice_hangs_on_what_was_scored_and_on_nothing_else() -> None:
    spec = asked(fidelity={"networks": 12})
    trials = scored(60, controls=60)
    chosen = networks_to_train(spec, trials)
    shuffled = random.Random(5).sample(trials, len(trials))
    assert networks_to_train(spec, shuffled) == chosen
    other = trials[0].architecture
    more = [
        Trial("search", 90, other, Measurement.failed("broken")),
        Trial("random", 91, other, Measurement({}, "infeasible", "not finite: cross_entropy")),
        Trial("homogeneous", 0, other, Measurement.of({"cross_entropy": -9, "flops": -9})),
        Trial("fidelity", 0, other, Measurement.of({"cross_entropy": -9, "flops": -9})),
        Trial("confirmed", 0, other, Measurement.of({"cross_entropy": -9, "flops": -9})),
    ]
    assert networks_to_train(spec, [*trials, *more]) == chosen
    # Found twice, a network is trained once, and the search's trial counts.
    twice = [replace(each, role="random", index=100 + each.index) for each in trials[:60]]
    assert networks_to_train(spec, [*twice, *trials]) == chosen
    again = networks_to_train(asked(seed=1, fidelity={"networks": 12}), trials)
    assert again != chosen
    assert set(ids(again)) == set(ids(chosen))


def test_any_beginning_is_spread_as_well() -> None:
    spec = asked(fidelity={"networks": 40})
    trials = scored(300, controls=300)
    front = front_of(spec, trials).members
    orders = [
        [
            each in front
            for each in networks_to_train(asked(seed=s, fidelity={"networks": 40}), trials)
        ]
        for s in range(20)
    ]
    expected = sum(orders[0]) / 40
    assert 0 < expected < 1
    early = [sum(order[:10]) / 10 for order in orders]
    # Five standard errors of a mean of 20 shares of 10.
    bound = 5 * (expected * (1 - expected) / 200) ** 0.5
    assert abs(sum(early) / 20 - expected) < bound


@pytest.mark.parametrize(
    ("whole", "steps", "expected"),
    [
        ({"steps": 1000, "warmup_steps": 50}, None, (250, 12)),
        ({"steps": 40_000, "warmup_steps": 10_000}, None, (10_000, 2_500)),
        ({"steps": 3, "warmup_steps": 1}, None, (1, 0)),
        ({"steps": 100, "warmup_steps": 10}, 300, (300, 30)),
    ],
)
def test_the_recipe_is_the_stand_alone_one_in_fewer_steps(
    whole: dict[str, int], steps: int | None, expected: tuple[int, int]
) -> None:
    spec = asked(standalone={**whole, "learning_rate": 0.004}, fidelity={"steps": steps})
    before = spec.standalone_digest
    short = short_recipe(spec)
    assert (short.standalone.steps, short.standalone.warmup_steps) == expected
    same = {"steps": spec.standalone.steps, "warmup_steps": spec.standalone.warmup_steps}
    assert short.standalone.model_copy(update=same) == spec.standalone
    # Weights of the two recipes are never taken for each other.
    assert short.standalone_digest != before == spec.standalone_digest
    assert short.supernet_digest == spec.supernet_digest


def test_no_control_that_the_search_has_too_is_unseen() -> None:
    spec = asked()
    trials = scored(20, controls=20)
    shared = replace(trials[3], role="random", index=30)
    learnt, unseen = learnt_and_unseen(spec, [*trials, shared])
    assert learnt == trials[:20]
    assert unseen == trials[20:]
    assert not set(ids(learnt)) & set(ids(unseen))


def test_a_ranker_s_test_comes_back_from_the_facts() -> None:
    agreement = RankAgreement(0.5, None, None, 7)
    agreements = Agreements(agreement, RankAgreement(0.1, -0.2, 0.3, 7), agreement)
    for test in (RankerTest("linear", 9, agreements), RankerTest("", 0, None, "none scored")):
        assert RankerTest.of({"ranker_test": test.to_text(), "other": "x"}) == test
    assert RankerTest.of({"other": "x"}) is None


def test_agreements_take_losses_and_counts() -> None:
    # The last is the smallest and best by score and truth.
    truth = [5.0, 4.0, 3.0, 2.0, 1.0]
    found = Agreements.of(truth, truth, [9, 8, 7, 6, 5], [1, 2, 3, 4, 5])
    assert (found.score.tau, found.params.tau, found.depth.tau) == (1.0, -1.0, 1.0)
    assert Agreements.of(truth, truth, [3] * 5, [1] * 5).params.tau is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fidelity": {"networks": 7}}, ("fidelity.networks", "8")),
        ({"fidelity": {"networks": 201}}, ("fidelity.networks", "200")),
        ({"fidelity": {"steps": 0}}, ("fidelity.steps",)),
        ({"fidelity": {"hours": 0}}, ("fidelity.hours",)),
        ({"fidelity": {"deferred": "no"}}, ("fidelity.deferred",)),
        ({"fidelity": {"seeds": 2}}, ("fidelity.seeds",)),
        ({"gate": {"supernet_tau": 1.5}}, ("gate.supernet_tau",)),
        ({"gate": {"ranker_tau": "high"}}, ("gate.ranker_tau",)),
        ({"gate": {"on_fail": "ask"}}, ("gate.on_fail", "warn", "stop")),
    ],
)
def test_what_is_asked_of_a_check_is_checked(
    change: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(SpecError) as caught:
        asked(**change)
    for word in words:
        assert word in str(caught.value)
