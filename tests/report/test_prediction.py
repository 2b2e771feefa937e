"""Does a report say how far predicted costs were right, and stand by what was measured?"""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from nas.cost.forecast import FORECASTS, learnt, to_text
from nas.report.files import write_report
from nas.report.front import figure
from nas.report.page import page
from nas.report.summary import summarize
from nas.report.words import words
from nas.search.pareto import front_of
from nas.search.remeasured import remeasured, with_measured
from nas.search.spec import SearchSpec
from nas.search.trial import Measurement, Trial, TrialRole
from nas.space.architecture import Architecture
from tests.report.samples import COST, proxy, request

SPEC = request(objectives=["cross_entropy", "latency_ms"])


def took(architecture: Architecture) -> float:
    """Milliseconds by layers and types."""
    each = {"softmax": 1.0, "cosformer": 2.0, "linear": 0.5}
    return 1 + sum(each[layer.type] for layer in architecture.attentions)


def trial(
    role: TrialRole, index: int, built: Architecture, latency: float, scored: bool = True
) -> Trial:
    metrics = {**COST(built), "latency_ms": latency}
    if scored:
        metrics |= {"cross_entropy": proxy(built), "cross_entropy_paired_se": 0.004}
    return Trial(role, index, built, Measurement.of(metrics, 1.0), f"search {index}")


@pytest.fixture(scope="module")
def facts() -> dict[str, str]:
    rng = random.Random(0)
    drawn = [SPEC.search_space.sample(rng) for _ in range(40)]
    timed = [trial("timed", i, each, took(each), False) for i, each in enumerate(drawn)]
    return {FORECASTS: to_text(learnt(SPEC, timed))}


@pytest.fixture(scope="module")
def searched() -> list[Trial]:
    rng = random.Random(1)
    drawn = dict.fromkeys(SPEC.search_space.sample(rng) for _ in range(40))
    return [trial("search", i, each, took(each)) for i, each in enumerate(drawn)]


def measured(trials: Sequence[Trial], factor: float) -> list[Trial]:
    """All of the front until nothing predicted is left on it, each `factor` times as slow."""
    found: list[Trial] = []
    while True:
        known = {each.architecture for each in found}
        front = front_of(SPEC, [*trials, *found]).members
        fresh = [each for each in front if each.architecture not in known]
        if not fresh:
            return found
        found += [
            trial("remeasured", len(found) + i, each.architecture, factor * took(each.architecture))
            for i, each in enumerate(fresh)
        ]


def told(spec: SearchSpec, trials: Sequence[Trial], facts: dict[str, str]) -> str:
    return " ".join(words(summarize(spec, trials, facts=facts)))


@pytest.mark.parametrize(
    ("factor", "said"), [(1.05, "within the 10%"), (1.25, "beyond the 10%"), (0.8, "beyond")]
)
def test_the_median_error_is_told(
    searched: list[Trial], facts: dict[str, str], factor: float, said: str
) -> None:
    again = measured(searched, factor)
    summary = summarize(SPEC, [*searched, *again], facts=facts)
    (found,) = summary.predicted
    # Predictions are the trials' own figures here: all are wrong by the same factor.
    assert found.median_error == pytest.approx(abs(1 / factor - 1))
    assert len(found.networks) == len(again)
    text = told(SPEC, [*searched, *again], facts)
    assert said in text
    assert "latency_ms (cpu, float32, batch 1, 1 thread) was learnt from 40 timed" in text
    for member in summary.front:
        assert member.metrics["latency_ms"] == factor * took(member.architecture)


def test_who_is_slower_than_predicted_gives_way(searched: list[Trial]) -> None:
    before = front_of(SPEC, searched).members
    slow = trial("remeasured", 0, before[0].architecture, 1e6)
    after = front_of(SPEC, [*searched, slow]).members
    # The best score stays; it is no longer the fastest of anything else.
    (held,) = (each for each in after if each.architecture == before[0].architecture)
    assert held.metrics["latency_ms"] == 1e6
    assert len(after) >= len(before)
    bounded = request(objectives=["cross_entropy", "latency_ms"], constraints=["latency_ms <= 100"])
    assert before[0].architecture not in {
        each.architecture for each in front_of(bounded, [*searched, slow]).members
    }


def test_trials_themselves_stay_as_they_were_predicted(searched: list[Trial]) -> None:
    again = measured(searched, 1.1)
    assert [t.index for t in with_measured(SPEC, [*again, *searched])] == [
        t.index for t in searched
    ]
    (found,) = remeasured(SPEC, [*searched, *again]).values()
    assert [each.predicted for each in found] == [took(each.trial.architecture) for each in found]
    assert all(each.error == pytest.approx(1 - 1 / 1.1) for each in found)


def test_what_could_not_be_measured_is_said(searched: list[Trial], facts: dict[str, str]) -> None:
    front = front_of(SPEC, searched).members
    lost = [
        Trial("remeasured", i, each.architecture, Measurement.failed("no clock"))
        for i, each in enumerate(front)
    ]
    assert front_of(SPEC, [*searched, *lost]).members == front
    assert f"{len(front)} of the front were not measured" in told(SPEC, [*searched, *lost], facts)


def test_an_unused_predictor_is_said_to_be_one(searched: list[Trial]) -> None:
    rng = random.Random(5)
    timed = [trial("timed", t.index, t.architecture, rng.uniform(1, 2), False) for t in searched]
    facts = {FORECASTS: to_text(learnt(SPEC, timed))}
    assert "latency_ms was measured of each network" in told(SPEC, searched, facts)


def test_page_and_file_show_both(
    searched: list[Trial], facts: dict[str, str], tmp_path: Path
) -> None:
    trials = [*searched, *measured(searched, 1.25)]
    html = page(SPEC, summarize(SPEC, trials, facts=facts), trials)
    assert "<h2>Predicted and measured</h2>" in html
    assert html.count("-20.0%") == len(trials) - len(searched)
    write_report(tmp_path, SPEC, trials, search_id="x", facts=facts)
    assert '"median_error": 0.2' in (tmp_path / "pareto.json").read_text()
    plain = page(SPEC, summarize(SPEC, searched), searched)
    assert "Predicted and measured" not in plain


def test_a_cost_that_is_measured_as_nothing_has_no_error_in_percent(
    searched: list[Trial], facts: dict[str, str]
) -> None:
    front = front_of(SPEC, searched).members
    nothing = [trial("remeasured", i, each.architecture, 0.0) for i, each in enumerate(front)]
    trials = [*searched, *nothing]
    html = page(SPEC, summarize(SPEC, trials, facts=facts), trials)
    assert html.count(">none<") == len(front)


def test_every_network_is_drawn_once_where_it_was_measured(searched: list[Trial]) -> None:
    slow = measured(searched, 1.25)
    trials = [*searched, *slow]
    found = figure(SPEC, summarize(SPEC, trials), trials)
    drawn = {trace.name: sorted(x for x in trace.x if x is not None) for trace in found.data[:1]}
    again = {each.architecture: each.metrics["latency_ms"] for each in slow}
    wanted = [again.get(t.architecture, t.metrics["latency_ms"]) for t in searched]
    assert drawn == {"search": pytest.approx(sorted(wanted))}


def test_a_front_measured_anew_without_a_predictor_is_said(searched: list[Trial]) -> None:
    text = told(SPEC, [*searched, *measured(searched, 1.25)], {})
    assert "was measured of each network; none was predicted." in text
    assert "in the median that is 20.0% from the first taking" in text
    assert "latency" not in told(request(), searched, {})
    assert told(SPEC, [], {}).count("latency_ms") == 0


def test_a_limit_set_later_brings_members_that_were_never_measured(
    searched: list[Trial], facts: dict[str, str]
) -> None:
    trials = [*searched, *measured(searched, 1.25)]
    assert "not measured" not in told(SPEC, trials, facts)
    limit = sorted(t.metrics["latency_ms"] for t in trials)[len(trials) // 2]
    params = sorted(t.metrics["params"] for t in searched)[len(searched) // 4]
    later = request(
        objectives=["cross_entropy", "latency_ms"],
        constraints=[f"latency_ms <= {limit}", f"params <= {params}"],
    )
    members = front_of(later, trials).members
    known = {t.architecture for t in trials if t.role == "remeasured"}
    fresh = sum(each.architecture not in known for each in members)
    assert fresh
    assert f"{fresh} of the front w" in told(later, trials, facts)
