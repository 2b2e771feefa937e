"""Are measured costs predicted from timings, and the front's measured, whatever happens between?"""

import itertools
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas import catalog
from nas.cost.cost import Candidate, Figure
from nas.cost.forecast import FORECASTS, from_text
from nas.errors import NothingFeasible
from nas.registry import Registry
from nas.report.prediction import predicted_costs
from nas.run import evaluate, running, search
from nas.run.confirm import confirm
from nas.run.halving import spread
from nas.run.predicting import reference
from nas.run.submission import problem_of, submit
from nas.run.workspace import Workspace
from nas.search import timing
from nas.search.halving import shortlist
from nas.search.pareto import front_of
from nas.search.spec import SearchSpec
from nas.search.timing import REFERENCE
from nas.search.trial import Trial, TrialRole
from nas.search.workload import Workload
from nas.space.architecture import Architecture
from nas.space.task_shape import ImageShape
from nas.store.sql import SqlStore
from tests.run.cases import finish, no_projector, outcome, place_in, request, short_report
from tests.run.conftest import Finished
from tests.run.plugged import MADE_UP_TIME, MadeUpTime

TIMED, ROUNDS = 24, 2
TURN = 3
BOUND = 5.0
SHAPE = ImageShape(8, 1, 10)
Found = tuple[SearchSpec, Workspace, str]


@pytest.fixture(autouse=True, scope="module")
def _plugged() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Projector", no_projector)
        more = {"made_up_ms": "tests.run.plugged:MADE_UP_TIME"}
        patch.setattr(catalog, "COSTS", Registry("cost", {**catalog.COSTS.entries, **more}))
        yield


def asked(**changes: Any) -> SearchSpec:
    given = {
        "objectives": ["cross_entropy", "made_up_ms"],
        "constraints": [f"made_up_ms <= {BOUND}"],
        "prediction": {"timings": TIMED, "rounds": ROUNDS},
        "latency": {"repetitions": 2 * TURN},
    }
    return request(**{**given, **changes})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    place, spec = place_in(tmp_path_factory.mktemp("predicted")), asked()
    return spec, place, finish(spec, place).id


def of(found: Found, *roles: TrialRole) -> list[Trial]:
    _, place, id = found
    return [trial for trial in SqlStore(place.record_url).trials(id) if trial.role in roles]


def truth(trial: Trial) -> float:
    """What the plugged cost measures."""
    workload = Workload(repetitions=TURN)
    return MADE_UP_TIME.figure(Candidate(trial.architecture, SHAPE, workload)).value


def test_networks_are_timed_and_nothing_else_of_them(found: Found) -> None:
    trials = of(found, "timed")
    # In turns: all of them once, and then again, between references.
    ordered = sorted(trials, key=lambda each: each.index)
    assert [trial.label for trial in ordered] == ROUNDS * ["reference", *TIMED * ["", "reference"]]
    order = [trial.architecture for trial in ordered if not trial.label]
    assert len(set(order)) == TIMED
    assert order == ROUNDS * order[:TIMED]
    assert len({trial.architecture for trial in ordered if trial.label}) == 1
    for trial in trials:
        assert trial.metrics["made_up_ms"] == truth(trial)
        assert "cross_entropy" not in trial.metrics
    types = {name for trial in trials for name in map(str, trial.architecture.attentions)}
    assert types == {str(each) for each in found[0].search_space.all_attentions}
    depths = {trial.architecture.depth for trial in trials}
    assert depths == set(found[0].search_space.stacks[0].depth)


def test_candidates_and_controls_have_what_is_predicted(found: Found) -> None:
    spec, place, id = found
    facts = SqlStore(place.record_url).get(id).facts
    forecast = from_text(spec, facts[FORECASTS])["made_up_ms"]
    assert forecast.used
    trials = of(found, "search", "random", "homogeneous")
    assert len(trials) > spec.budget.trials
    for trial in trials:
        assert trial.metrics["made_up_ms"] == forecast.figure(trial.architecture)
        assert trial.metrics["made_up_ms"] != truth(trial)


def test_strategies_keep_a_constraint_on_it(found: Found) -> None:
    spec, place, id = found
    forecasts = from_text(spec, SqlStore(place.record_url).get(id).facts[FORECASTS])
    problem = problem_of(spec, forecasts)
    assert [each.metric for each in problem.analytic_constraints] == ["made_up_ms"]
    assert not problem_of(spec).analytic_constraints
    assert {trial.measurement.state for trial in of(found, "search", "random")} == {"succeeded"}


def test_nothing_predicted_is_left_on_the_front(found: Found) -> None:
    spec, place, id = found
    trials = SqlStore(place.record_url).trials(id)
    members = front_of(spec, trials).members
    again = [trial for trial in of(found, "remeasured") if trial.label != REFERENCE]
    measured = {trial.architecture for trial in again}
    assert members
    for member in members:
        assert member.architecture in measured
        assert member.metrics["made_up_ms"] == truth(member) <= BOUND
    assert SqlStore(place.record_url).front(id) == tuple((t.role, t.index) for t in members)
    # Each had its turns, and is told from which trial it is.
    labels = Counter(trial.label for trial in again)
    assert len(labels) == len(measured)
    assert {labels[f"search {member.index}"] for member in members} == {ROUNDS}


def test_the_report_holds_both_beside_each_other(found: Found) -> None:
    spec, place, id = found
    record = SqlStore(place.record_url).get(id)
    trials = SqlStore(place.record_url).trials(id)
    (shown,) = predicted_costs(spec, trials, record.facts)
    by_index = {trial.index: trial for trial in of(found, "search")}
    labels = {trial.label for trial in of(found, "remeasured")} - {REFERENCE}
    assert {f"search {each.index}" for each in shown.networks} == labels
    for each in shown.networks:
        trial = by_index[each.index]
        assert each.predicted == trial.metrics["made_up_ms"]
        assert each.measured == truth(trial)
        assert each.error == pytest.approx(abs(each.predicted / each.measured - 1))
    assert shown.errors is not None
    assert shown.errors.count == TIMED


def test_stopped_anywhere_it_ends_with_the_same(found: Found, tmp_path: Path) -> None:
    spec, undisturbed, id = found
    place = place_in(tmp_path)
    record = submit(spec, place)
    stops = ["timed", "search", "remeasured"]

    def stop(update: running.Update) -> None:
        if stops and (update.phase, update.done) == (stops[0], 1):
            stops.pop(0)
            raise KeyboardInterrupt

    for left in (2, 1, 0):
        with pytest.raises(KeyboardInterrupt):
            search.run(record.id, place, reporter=short_report, listener=stop)
        assert len(stops) == left
    search.run(record.id, place, reporter=short_report)
    assert outcome(place, record.id) == outcome(undisturbed, id)
    facts = [
        SqlStore(each.record_url).get(i).facts
        for each, i in ((place, record.id), (undisturbed, id))
    ]
    assert facts[0][FORECASTS] == facts[1][FORECASTS]


@pytest.mark.slow
def test_on_a_machine_that_slows_down_the_front_is_measured_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, steady = itertools.count(), MadeUpTime.figure

    def slowing(model: MadeUpTime, candidate: Candidate) -> Figure:
        figure = steady(model, candidate)
        return replace(figure, value=figure.value * (1 + 0.01 * next(taken)))

    monkeypatch.setattr(MadeUpTime, "figure", slowing)
    spec, place = asked(), place_in(tmp_path)
    id = finish(spec, place).id
    trials = SqlStore(place.record_url).trials(id)
    members = front_of(spec, trials).members
    measured = {trial.architecture for trial in of((spec, place, id), "remeasured")}
    assert {member.architecture for member in members} <= measured
    assert SqlStore(place.record_url).front(id) == tuple((t.role, t.index) for t in members)
    monkeypatch.undo()
    # All are told by the speed in the middle of the timings.
    slowness = [member.metrics["made_up_ms"] / truth(member) for member in members]
    assert max(slowness) < 1.03 * min(slowness)


def test_one_unlucky_taking_throws_no_network_off_the_front(
    found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases, met, steady = [""], set[Architecture](), MadeUpTime.figure

    def hiccup(model: MadeUpTime, candidate: Candidate) -> Figure:
        figure = steady(model, candidate)
        first = phases[-1] == "remeasured" and candidate.architecture not in met
        if not first or candidate.architecture == reference(spec):
            return figure
        met.add(candidate.architecture)
        return replace(figure, value=20 * figure.value)

    monkeypatch.setattr(MadeUpTime, "figure", hiccup)
    turns = {"prediction": {"timings": TIMED, "rounds": 3}, "latency": {"repetitions": 3 * TURN}}
    spec, place = asked(**turns), place_in(tmp_path)
    id = submit(spec, place).id
    search.run(id, place, reporter=short_report, listener=lambda u: phases.append(u.phase))
    monkeypatch.undo()
    assert met
    fronts = [
        front_of(each, SqlStore(where.record_url).trials(of_id)).members
        for each, where, of_id in (found, (spec, place, id))
    ]
    undisturbed, disturbed = ([(t.architecture, dict(t.metrics)) for t in each] for each in fronts)
    assert disturbed == undisturbed


def test_the_front_that_is_confirmed_is_the_measured_one(found: Found) -> None:
    spec, place, id = found
    trials = SqlStore(place.record_url).trials(id)
    wanted = {member.architecture for member in front_of(spec, trials).members}
    assert {member.architecture for member in spread(spec, trials)} <= wanted
    assert {member.architecture for member in shortlist(spec, trials)} <= wanted


def test_what_is_confirmed_is_timed_in_turns_and_never_beside_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halved = {"members": 1, "seeds": 2, "flops_tolerance": 0.1, "rungs": 2, "shortlist": 3}
    spec, place = asked(constraints=[], confirmation=halved), place_in(tmp_path)
    found = spec, place, (id := finish(spec, place).id)
    phases, takings = [""], [0]
    steady = MadeUpTime.figure

    def figure(model: MadeUpTime, candidate: Candidate) -> Figure:
        if phases[-1] == "remeasured":
            takings[0] += 1
            if takings[0] in (2, 4, 6):
                raise KeyboardInterrupt
        else:
            # That it can be measured at all is tried before anything is trained.
            assert phases[-1] == "", "a timing beside trainings"
        return steady(model, candidate)

    monkeypatch.setattr(MadeUpTime, "figure", figure)
    before = of(found, "remeasured")
    for stopped in (True, True, True, False):
        phases.append("")
        with pytest.raises(KeyboardInterrupt) if stopped else nullcontext():
            confirm(id, place, reporter=short_report, listener=lambda u: phases.append(u.phase))
    trials = SqlStore(place.record_url).trials(id)
    turns = [trial for trial in trials if trial.role == "remeasured"]
    assert turns[: len(before)] == before
    later = Counter(t.architecture for t in turns[len(before) :] if t.label != REFERENCE)
    assert later
    assert set(later.values()) == {ROUNDS}
    assert not set(later) & {trial.architecture for trial in before}
    figures = timing.steady(spec, trials, "remeasured")
    trained = of(found, "rung", "confirmed")
    assert {trial.role for trial in trained} == {"rung", "confirmed"}
    assert set(later) < {trial.architecture for trial in trained}
    for trial in trained:
        assert trial.succeeded
        assert trial.metrics["made_up_ms"] == figures[trial.architecture]["made_up_ms"]
    # A second time there is nothing left to time.
    count = takings[0]
    phases.append("")
    confirm(id, place, reporter=short_report)
    assert takings[0] == count


def test_without_timings_every_candidate_is_measured(tmp_path: Path) -> None:
    spec = asked(prediction={"timings": 0}, constraints=[], latency={"repetitions": TURN})
    place = place_in(tmp_path)
    id = finish(spec, place).id
    found = spec, place, id
    assert not of(found, "timed")
    # The front is measured anew all the same.
    trials = SqlStore(place.record_url).trials(id)
    again = {trial.architecture for trial in of(found, "remeasured")}
    assert {member.architecture for member in front_of(spec, trials).members} <= again
    for trial in of(found, "search", "random"):
        assert trial.metrics["made_up_ms"] == truth(trial)
    machines = SqlStore(place.record_url).get(id).facts["made_up_ms_provenance"]
    assert machines == '["a made-up clock"]'
    (told,) = predicted_costs(spec, trials, {})
    assert (told.member, told.used, told.errors, told.unmeasured) == (None, False, None, 0)
    assert told.median_error == pytest.approx(0, abs=0.01)


def test_an_exact_cost_takes_no_timings(finished: Finished) -> None:
    trials = finished.store.trials(finished.id)
    assert not {trial.role for trial in trials} & {"timed", "remeasured"}
    assert FORECASTS not in finished.store.get(finished.id).facts


def test_one_cold_taking_does_not_stretch_the_box_of_hypervolumes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec, met, steady = asked(prediction={"rounds": 3}), set[Architecture](), MadeUpTime.figure
    undisturbed = evaluate._extent(spec)
    assert undisturbed

    def cold(model: MadeUpTime, candidate: Candidate) -> Figure:
        figure = steady(model, candidate)
        first = candidate.architecture not in met
        met.add(candidate.architecture)
        return replace(figure, value=figure.value * (50 if first else 1))

    monkeypatch.setattr(MadeUpTime, "figure", cold)
    assert evaluate._extent(spec) == undisturbed
    assert len(met) > 1


def test_a_limit_that_no_prediction_keeps_is_said_to_be_one_of_predictions(tmp_path: Path) -> None:
    spec, place = asked(constraints=["made_up_ms <= 0.001"]), place_in(tmp_path)
    with pytest.raises(NothingFeasible, match=r"made_up_ms <= 0\.001") as caught:
        finish(spec, place)
    assert caught.value.__notes__ == [
        "made_up_ms: as predicted from timings; by --set prediction.timings=0 every candidate is "
        "measured"
    ]
